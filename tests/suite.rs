//! The tests with the ordinary harness in one program: what they share of the crate is compiled and linked
//! once. `cargo test --release --test suite data::` runs those of `data.rs`.

mod bench_report;
mod config;
mod control;
mod coverage;
#[cfg(feature = "cuda")]
mod cuda_cli;
#[cfg(feature = "cuda")]
mod cuda_sources;
mod data;
mod decode;
mod double;
mod encoder;
mod escapes;
mod exchange;
mod fixtures;
mod floors;
mod layout;
mod model_files;
mod papers;
mod precision;
mod pth;
mod real;
mod semantics;
mod shapes;
mod statistics;
mod training;
mod verdicts;
