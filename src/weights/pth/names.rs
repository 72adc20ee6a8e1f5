//! The names that a pickle may ask for.

use super::element::StorageType;

/// Module and names in it. The functions build tensors, the classes stand in parts that are left out,
/// such as the state of an optimizer.
const ALLOWED: [(&str, &[&str]); 10] = [
    ("collections", &["OrderedDict", "Counter"]),
    (
        "torch._utils",
        &[
            "_rebuild_tensor",
            "_rebuild_tensor_v2",
            "_rebuild_parameter",
            "_rebuild_parameter_with_state",
        ],
    ),
    ("torch.nn.parameter", &["Parameter"]),
    ("torch", &["Size", "Tensor", "device"]),
    ("argparse", &["Namespace"]),
    ("__builtin__", &["set", "complex", "bytearray"]),
    ("_codecs", &["encode"]),
    ("numpy", &["dtype", "ndarray"]),
    ("numpy.core.multiarray", &["scalar", "_reconstruct"]),
    ("numpy._core.multiarray", &["scalar", "_reconstruct"]),
];

/// Names of element types, which stand among settings.
const TYPES: [&str; 13] = [
    "float64", "double", "float32", "float", "float16", "half", "bfloat16", "int64", "int32",
    "int16", "int8", "uint8", "bool",
];

/// Packages all of whose classes may stand in a file: whole modules.
const PACKAGES: [&str; 2] = ["torch.nn.modules.", "dall_e."];

/// Refuses a name that files of weights do not need.
pub(super) fn check(module: &str, name: &str) -> Result<(), String> {
    let listed = ALLOWED.iter().any(|(of, names)| *of == module && names.contains(&name));
    let class = PACKAGES.iter().any(|package| module.starts_with(package));
    let types =
        module == "torch" && (TYPES.contains(&name) || StorageType::of_storage(name).is_some());
    if listed || class || types {
        return Ok(());
    }
    Err(format!(
        "asks for {module}.{name}, which is none of the names that tensors need; nothing of it was run. \
         If you trust the file, load it with PyTorch and save its state dict alone"
    ))
}
