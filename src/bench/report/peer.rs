//! PyTorch's steps, as `benches/peers/torch_step.py` prints them: one JSON object per line.
//!
//! A line is taken only where this report times the same work: same sizes, same batch, same precision,
//! same device and, on the CPU, as many threads. What does not fit is an error before anything is measured
//! and not a row that cannot be compared.

use super::content::{Peer, Plan, sizes};
use crate::bench::Times;
use crate::error::{Error, Result};
use serde::Deserialize;
use std::path::Path;

/// A line of the file.
#[derive(Deserialize)]
struct Line {
    torch: String,
    config: String,
    device: String,
    dtype: String,
    compile: bool,
    batch: usize,
    params: u64,
    steps_ms: Vec<f64>,
    peak_mem_mb: f64,
    threads: usize,
}

/// Reads the file and checks every line against the plan.
pub fn read(path: &Path, plan: &Plan) -> Result<Vec<Peer>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("cannot read", path))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let peers = lines.map(|(i, line)| {
        peer(line, plan).map_err(|why| Error::format(path, format!("line {}: {why}", i + 1)))
    });
    let peers = peers.collect::<Result<Vec<_>>>()?;
    if peers.is_empty() {
        let help = "empty; put the lines there that benches/peers/torch_step.py prints";
        return Err(Error::format(path, help));
    }
    Ok(peers)
}

fn peer(line: &str, plan: &Plan) -> Result<Peer, String> {
    let line: Line = serde_json::from_str(line)
        .map_err(|e| format!("{e}; give what benches/peers/torch_step.py prints"))?;
    let column = match (line.device.as_str(), line.dtype.as_str()) {
        ("cpu", "float32") => "CPU f32",
        ("cuda", "float32") => "CUDA f32",
        ("cuda", "bfloat16") => "CUDA bf16",
        (device, dtype) => {
            return Err(format!("this report has no column for {dtype} on {device}"));
        }
    };
    if !plan.columns.iter().any(|c| c == column) {
        return Err(format!("there is no {column} here to compare it with"));
    }
    if !plan.steps.iter().any(|(p, b)| *p == line.config && *b == line.batch) {
        let steps = plan.steps.iter().map(|(p, b)| format!("--config {p} --batch {b}"));
        let (steps, config, batch) =
            (steps.collect::<Vec<_>>().join(", "), line.config, line.batch);
        return Err(format!("{config} at batch {batch} is not in this report; it has {steps}"));
    }
    let own = sizes(&line.config).map_err(|e| e.to_string())?.0.parameters();
    if line.params != own {
        return Err(format!("its {} has {} parameters, ours {own}", line.config, line.params));
    }
    let threads = *plan.threads.last().expect("at least one");
    if line.device == "cpu" && line.threads != threads {
        let theirs = line.threads;
        return Err(format!(
            "it ran on {theirs} threads, this report on {threads}: give --threads"
        ));
    }
    if line.steps_ms.is_empty() || line.steps_ms.iter().any(|ms| !ms.is_finite() || *ms <= 0.0) {
        return Err("steps_ms must be times above 0".into());
    }
    Ok(Peer {
        version: line.torch,
        compiled: line.compile,
        preset: line.config,
        batch: line.batch,
        column: column.into(),
        timing: Times::new(line.steps_ms.iter().map(|ms| 1e-3 * ms).collect()).timing(),
        peak_mib: line.peak_mem_mb,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::columns::Columns;
    use serde_json::{Value, json};

    fn plan() -> Plan {
        Plan { threads: vec![1, 2], ..Plan::new(false, &Columns::cpu_only("a test")) }
    }

    fn line() -> Value {
        json!({
            "peer": "pytorch", "torch": "2.0", "config": "tiny", "device": "cpu", "dtype": "float32",
            "compile": false, "batch": 32, "params": 1_264_144, "step_ms": 2.0,
            "steps_ms": [3.0, 2.0, 2.0], "images_per_s": 16000.0, "peak_mem_mb": 9, "threads": 2,
            "loss": 6.2
        })
    }

    fn with(key: &str, value: Value) -> Result<Peer, String> {
        let mut line = line();
        line[key] = value;
        peer(&line.to_string(), &plan())
    }

    #[test]
    fn a_line_that_fits() {
        let peer = peer(&line().to_string(), &plan()).unwrap();
        assert_eq!((peer.column.as_str(), peer.timing.median_s), ("CPU f32", 2e-3));
        assert_eq!(peer.timing.count, 3);
    }

    #[test]
    fn every_missing_key_is_named() {
        for key in [
            "torch",
            "config",
            "device",
            "dtype",
            "compile",
            "batch",
            "params",
            "steps_ms",
            "peak_mem_mb",
            "threads",
        ] {
            let mut line = line();
            line.as_object_mut().unwrap().remove(key);
            let why = peer(&line.to_string(), &plan()).unwrap_err();
            assert!(why.contains(&format!("missing field `{key}`")), "{why}");
        }
    }

    #[test]
    fn work_of_another_size_is_refused() {
        for (key, value, want) in [
            ("batch", json!(31), "--config tiny --batch 32, --config small --batch 32"),
            ("dtype", json!("bfloat16"), "no column for bfloat16 on cpu"),
            ("device", json!("cuda"), "no CUDA f32 here"),
            ("threads", json!(4), "on 4 threads, this report on 2"),
            ("params", json!(7), "has 7 parameters, ours 1264144"),
            ("steps_ms", json!([]), "steps_ms"),
            ("steps_ms", json!([0.0]), "steps_ms"),
        ] {
            let why = with(key, value).unwrap_err();
            assert!(why.contains(want), "{key}: {why}");
        }
    }
}
