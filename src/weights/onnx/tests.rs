//! Every kind of model at small sizes: its file is read back message by message, and its graph is run.

mod exchange;
mod models;
mod run;

use super::proto::{GraphProto, ModelProto, TensorProto, ValueInfoProto};
use super::tokenizer::{DISTANCE, SLOPE};
use super::write::OnnxFile;
use super::{graph_of, metadata, save_onnx};
use crate::data::Image;
use crate::data::pixels::{Normalise, PixelMap};
use crate::error::{Error, Result};
use crate::models::config::{ClassifierConfig, DvaeConfig, EncoderConfig, Pooling};
use crate::models::kind::ModelConfig;
use models::{Sample, samples};
use prost::Message;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

const OPERATORS: [&str; 17] = [
    "Add",
    "ArgMax",
    "Concat",
    "Conv",
    "Erf",
    "Gather",
    "Gemm",
    "LayerNormalization",
    "MatMul",
    "MaxPool",
    "Mul",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Slice",
    "Softmax",
    "Transpose",
];

/// The file of a sample, and the message in it.
fn written(sample: &Sample) -> (Vec<u8>, ModelProto) {
    let properties = metadata(&sample.config, Some(Normalise::Imagenet));
    let file = OnnxFile::new(graph_of(&sample.config).unwrap(), &properties).unwrap();
    let mut bytes = Vec::new();
    let mut append = |piece: &[u8]| {
        bytes.extend_from_slice(piece);
        Ok(())
    };
    file.write(&mut append, &|name| sample.read(name)).unwrap();
    assert_eq!(file.len(), bytes.len() as u64, "{}", sample.name);
    let message = ModelProto::decode(&bytes[..]).unwrap();
    assert_eq!(message.encoded_len(), bytes.len(), "{}: a field is not understood", sample.name);
    (bytes, message)
}

fn floats(tensor: &TensorProto) -> Vec<f32> {
    assert_eq!(tensor.data_type, 1, "{}", tensor.name);
    let (values, rest) = tensor.raw_data.as_chunks::<4>();
    assert!(rest.is_empty());
    values.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// Name, type of the elements, extents.
fn described(info: &ValueInfoProto) -> (String, i32, String) {
    let tensor = info.r#type.as_ref().unwrap().tensor_type.as_ref().unwrap();
    let dims = tensor.shape.as_ref().unwrap().dim.iter();
    let dims =
        dims.map(|d| d.dim_param.clone().unwrap_or_else(|| d.dim_value.unwrap().to_string()));
    assert!(!info.doc_string.is_empty(), "{}", info.name);
    (info.name.clone(), tensor.elem_type, dims.collect::<Vec<_>>().join(","))
}

#[test]
fn every_file_says_what_it_is() {
    for sample in samples() {
        let (_, model) = written(&sample);
        assert_eq!((model.ir_version, model.producer_name.as_str()), (8, "beit"));
        assert_eq!(model.producer_version, env!("CARGO_PKG_VERSION"));
        assert_eq!((model.opset_import.len(), model.opset_import[0].version), (1, 17));
        let graph = model.graph.unwrap();
        let inputs: Vec<_> = graph.input.iter().map(described).collect();
        let outputs: Vec<_> = graph.output.iter().map(described).collect();
        let line = |name: &str, element, dims: String| (name.to_owned(), element, dims);
        let features = |e: &EncoderConfig| {
            let (n, c) = (e.tokens(), e.width);
            let stream = line("last_hidden_state", 1, format!("batch,{n},{c}"));
            [stream, line("pooled", 1, format!("batch,{c}"))]
        };
        let pixels = |(h, w): (usize, usize)| format!("batch,3,{h},{w}");
        let (input, wanted) = match &sample.config {
            ModelConfig::Beit(sizes) => {
                let input = line("pixel_values", 1, pixels(sizes.encoder.image));
                (input, features(&sizes.encoder).to_vec())
            }
            ModelConfig::Classifier(sizes) => {
                let logits = line("logits", 1, format!("batch,{}", sizes.classes.len()));
                let input = line("pixel_values", 1, pixels(sizes.encoder.image));
                (input, [logits].into_iter().chain(features(&sizes.encoder)).collect())
            }
            ModelConfig::Bert(_)
            | ModelConfig::Encoder(_)
            | ModelConfig::Segmenter(_)
            | ModelConfig::Vae(_) => {
                unreachable!("none is among the samples")
            }
            ModelConfig::Dvae(sizes) => {
                let (h, w) = sizes.grid();
                let tokens = line("tokens", 7, format!("batch,{h},{w}"));
                (line("pixels", 1, pixels(sizes.image)), vec![tokens])
            }
        };
        assert_eq!((inputs, outputs), (vec![input], wanted), "{}", sample.name);
    }
}

#[test]
fn the_metadata_say_how_to_use_it() {
    let texts = |config: &ModelConfig| -> BTreeMap<String, String> {
        let sample = Sample::new("metadata", config.clone());
        let lines = written(&sample).1.metadata_props;
        lines.into_iter().map(|line| (line.key, line.value)).collect()
    };
    let said = texts(&ModelConfig::Classifier(ClassifierConfig::test()));
    let wanted = [
        ("classes", r#"["a","b","c"]"#),
        ("format", "beit"),
        ("image_size", "[6,9]"),
        ("kind", "classifier"),
        ("mean", "[0.485,0.456,0.406]"),
        ("patch_size", "3"),
        ("std", "[0.229,0.224,0.225]"),
    ];
    assert_eq!(said, wanted.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    let unknown = metadata(&ModelConfig::Dvae(DvaeConfig::test()), None);
    assert!(unknown.iter().all(|(key, _)| !["mean", "std"].contains(key)), "{unknown:?}");
    assert!(unknown.contains(&("vocab", "11".to_owned())));
}

#[test]
fn every_node_reads_what_is_before_it() {
    for sample in samples() {
        let graph = written(&sample).1.graph.unwrap();
        let mut known: BTreeSet<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
        for tensor in &graph.initializer {
            assert!(known.insert(&tensor.name), "{}: {} twice", sample.name, tensor.name);
            let elements = tensor.dims.iter().product::<i64>() as usize;
            let each = if tensor.data_type == 7 { 8 } else { 4 };
            assert_eq!(tensor.raw_data.len(), each * elements, "{}", tensor.name);
        }
        let mut read = BTreeSet::new();
        for node in &graph.node {
            assert!(OPERATORS.contains(&node.op_type.as_str()), "{}", node.op_type);
            for input in &node.input {
                assert!(known.contains(input.as_str()), "{}: {input}", node.name);
                read.insert(input.as_str());
            }
            assert_eq!(node.output, [node.name.as_str()]);
            assert!(known.insert(&node.name), "{}: {} twice", sample.name, node.name);
        }
        read.extend(graph.output.iter().map(|output| output.name.as_str()));
        let idle: Vec<_> = known.difference(&read).collect();
        assert!(idle.is_empty(), "{}: nothing reads {idle:?}", sample.name);
        let attention = graph.node.iter().any(|node| node.name == "blocks.0.attn.qk");
        assert_eq!(attention, !matches!(sample.config, ModelConfig::Dvae(_)));
    }
}

#[test]
fn weights_have_their_names_and_each_is_read_once() {
    for sample in samples() {
        let calls = RefCell::new(Vec::new());
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("model.onnx");
        let read = |name: &str| {
            calls.borrow_mut().push(name.to_owned());
            sample.read(name)
        };
        save_onnx(&path, &sample.config, None, &read).unwrap();
        let mut calls = calls.into_inner();
        calls.sort();
        let left_out: &[&str] = match &sample.config {
            ModelConfig::Beit(_) => &["mask_token", "norm.", "lm_head.", "pixel_head."],
            ModelConfig::Classifier(_) => &[],
            ModelConfig::Bert(_)
            | ModelConfig::Encoder(_)
            | ModelConfig::Segmenter(_)
            | ModelConfig::Vae(_) => {
                unreachable!("none is among the samples")
            }
            ModelConfig::Dvae(_) => &["decoder."],
        };
        let kept = |name: &&String| !left_out.iter().any(|part| name.starts_with(part));
        let wanted: Vec<String> = sample.tensors.keys().filter(kept).cloned().collect();
        assert_eq!(calls, wanted, "{}", sample.name);
        let model = ModelProto::decode(&std::fs::read(&path).unwrap()[..]).unwrap();
        for tensor in model.graph.unwrap().initializer {
            let dims: Vec<usize> = tensor.dims.iter().map(|&n| n as usize).collect();
            if let Some((shape, values)) = sample.tensors.get(&tensor.name) {
                assert_eq!((&dims, &floats(&tensor)), (shape, values), "{}", tensor.name);
            }
            let Some(own) = tensor.name.strip_suffix(".transposed") else { continue };
            let (shape, values) = &sample.tensors[own];
            assert_eq!(dims, [shape[1], shape[0]]);
            let there = floats(&tensor);
            let same = |i: usize| values[i] == there[i % shape[1] * shape[0] + i / shape[1]];
            assert!((0..values.len()).all(same), "{}", tensor.name);
        }
    }
}

#[test]
fn graphs_compute_what_the_models_do() {
    for sample in samples().iter().filter(|sample| sample.small) {
        let model = written(sample).1;
        for batch in [1, 3] {
            let (input, wanted) = sample.run(batch);
            let found = run::graph(&model.graph.clone().unwrap(), input);
            for (name, output) in wanted {
                let (far, largest) = output.distance(&found[&name]);
                let near = if output.is_whole() { far == 0.0 } else { far <= 1e-5 * largest };
                assert!(near, "{}: {name} is {far:e} off, of {largest}", sample.name);
            }
        }
    }
}

/// Tokens alone would forgive much.
#[test]
fn the_graph_of_a_tokenizer_has_the_logits_of_the_model() {
    for sample in samples().iter().filter(|sample| sample.small) {
        let Some((input, logits)) = sample.token_logits(2) else { continue };
        let found = run::graph(&written(sample).1.graph.unwrap(), input);
        let (far, largest) = logits.distance(&found["encoder.blocks.output.conv"]);
        assert!(far <= 1e-5 * largest, "{}: {far:e} of {largest}", sample.name);
    }
}

/// Mistakes that the comparison is to see.
#[test]
fn a_wrong_number_of_a_graph_shows() {
    let config = ClassifierConfig { pooling: Pooling::Class, ..ClassifierConfig::test() };
    let sample = Sample::new("wrong", ModelConfig::Classifier(config));
    let (input, wanted) = sample.run(2);
    let graph = written(&sample).1.graph.unwrap();
    let off =
        |graph: &GraphProto| wanted["logits"].distance(&run::graph(graph, input.clone())["logits"]);
    let (far, largest) = off(&graph);
    assert!(far < 1e-5 * largest);
    let mut eps = graph.clone();
    let norm = eps.node.iter_mut().find(|node| node.name == "norm").unwrap();
    norm.attribute.iter_mut().for_each(|attribute| attribute.f = attribute.f.map(|_| 1e-2));
    let mut index = graph.clone();
    let rows = index.initializer.iter_mut().find(|t| t.name == "relative_position_index").unwrap();
    let side = rows.dims[0] as usize;
    let (old, _) = rows.raw_data.as_chunks::<4>();
    rows.raw_data = (0..old.len()).flat_map(|i| old[i % side * side + i / side]).collect();
    for wrong in [eps, index] {
        let (far, largest) = off(&wrong);
        assert!(far > 1e-4 * largest, "{far:e} of {largest}");
    }
}

#[test]
fn the_tokenizer_reads_the_pixels_of_its_map() {
    let bytes: Vec<u8> = (0..=255).flat_map(|x| [x; 3]).collect();
    let mapped = PixelMap::map_pixels().apply(&Image::new(1, 256, bytes));
    for (x, rgb) in mapped.as_chunks::<3>().0.iter().enumerate() {
        assert_eq!(rgb[0], SLOPE * (x as f32 / 255.0) + DISTANCE);
    }
}

/// The text of a refusal; nothing is left where the file was to be.
fn refusal(config: &ModelConfig, read: &dyn Fn(&str) -> Result<Vec<f32>>) -> String {
    let folder = tempfile::TempDir::new().unwrap();
    let text = save_onnx(&folder.path().join("model.onnx"), config, None, read).unwrap_err();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    text.to_string()
}

#[test]
fn what_cannot_be_written_is_refused() {
    let sample = Sample::new("refused", ModelConfig::Classifier(ClassifierConfig::test()));
    let with = |change: fn(&str, &mut Vec<f32>)| {
        refusal(&sample.config, &|name| {
            let mut values = sample.read(name)?;
            change(name, &mut values);
            Ok(values)
        })
    };
    let text =
        with(|name, values| values.truncate(if name == "head.weight" { 5 } else { 1 << 20 }));
    assert_eq!(text, "tensor head.weight has 5 values, the sizes of the model want 24");
    let text = with(|name, values| values[1] = if name == "fc_norm.bias" { f32::NAN } else { 1.0 });
    assert!(text.starts_with("tensor fc_norm.bias holds NaN at element 1: "), "{text}");
    let text = refusal(&sample.config, &|name| Err(Error::config(format!("no {name}"))));
    assert!(text.starts_with("no "), "{text}");
    let giant = EncoderConfig { depth: 12, ..EncoderConfig::base_patch16_224() }.with_width(2048);
    let text = refusal(&ModelConfig::Beit(giant.with_vocab(8)), &|_| panic!("nothing is read"));
    assert!(text.starts_with("an ONNX file of this model would have 24"), "{text}");
    assert!(text.contains("2147483647 are the most that its readers take"), "{text}");
}
