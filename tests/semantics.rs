//! What training means, in numbers: each rule beside a plain loop or a formula in f64, written from the papers
//! and not from the code.

mod accumulation;
mod chance;
mod figures;
mod optimizer;
mod plain;
mod run;
mod schedules;
mod targets;
