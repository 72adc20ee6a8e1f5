//! Files for another program to judge.

use super::models::samples;
use super::run::Value;
use super::save_onnx;
use crate::data::pixels::Normalise;
use crate::weights::{Slice, View, write_tensors};
use ndarray::ArrayD;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// Writes each model with images and what it makes of them, for `tests/exchange/onnx_check.py`.
#[test]
fn files_for_another_program() {
    let Some(folder) = std::env::var_os("BEIT_EXCHANGE_OUT") else {
        println!("skipped: BEIT_EXCHANGE_OUT names no folder to write to");
        return;
    };
    for sample in samples() {
        let folder = Path::new(&folder).join(sample.name);
        std::fs::create_dir_all(&folder).unwrap();
        let onnx = folder.join("model.onnx");
        let read = |name: &str| sample.read(name);
        save_onnx(&onnx, &sample.config, Some(Normalise::Half), &read).unwrap();
        let (input, outputs) = sample.run(3);
        write(&folder.join("numbers.safetensors"), &input, &outputs);
    }
}

fn write(path: &Path, input: &ArrayD<f32>, outputs: &BTreeMap<String, Value>) {
    let whole: Vec<(&String, &[usize], Vec<u32>)> = outputs
        .iter()
        .filter_map(|(name, value)| match value {
            Value::Whole(x) => Some((name, x.shape(), x.iter().map(|&x| x as u32).collect())),
            Value::Real(_) => None,
        })
        .collect();
    let mut views = vec![View::new("input", input.shape(), Slice::F32(input.as_slice().unwrap()))];
    for (name, value) in outputs {
        if let Value::Real(x) = value {
            let values = Slice::F32(x.as_slice().unwrap());
            views.push(View::new(format!("output.{name}"), x.shape(), values));
        }
    }
    for (name, shape, values) in &whole {
        views.push(View::new(format!("output.{name}"), shape, Slice::U32(values)));
    }
    write_tensors(&mut File::create(path).unwrap(), &views, &BTreeMap::new()).unwrap();
}
