//! beit
pub mod backend;
pub mod case;
pub mod check;
pub mod config;
pub mod cpu;
pub mod data;
pub mod error;
pub mod layers;
pub mod models;
pub mod ops;
pub mod optim;
pub mod params;
pub mod real;
pub mod report;
pub mod rng;
pub mod run;
pub mod tensor;
pub use error::{Error, Result};
