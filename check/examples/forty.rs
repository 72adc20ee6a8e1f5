//! What the checker says of forty layers, right and wrong, as JSON: the column of `benches/peers/gradcheck`.

#[path = "../tests/layers/forty.rs"]
mod forty;

use beit_check::{Report, Verdict};
use serde_json::{Value, json};
use std::time::Instant;

/// The verdict in the words that the other columns have.
fn word(report: &Report) -> &'static str {
    match report.verdict() {
        Verdict::Pass => "pass",
        Verdict::Inconclusive => "open",
        Verdict::Fail => "fail",
    }
}

fn main() {
    let layers: Vec<Value> = forty::forty()
        .into_iter()
        .map(|layer| {
            let start = Instant::now();
            let [right, wrong] = [false, true].map(|wrong| word(&(layer.check)(wrong)));
            // At this point the two are the same function.
            let same = layer.wrong == forty::Must::Same;
            let seconds = start.elapsed().as_secs_f64();
            json!({ "name": layer.name, "right": right, "wrong": wrong, "same": same, "seconds": seconds })
        })
        .collect();
    let version = env!("CARGO_PKG_VERSION");
    println!("{}", json!({ "checker": "beit-check", "version": version, "layers": layers }));
}
