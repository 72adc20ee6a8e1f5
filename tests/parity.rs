//! Every case in f32 and in bf16 against f64, and on several numbers of threads, one named test each.

use beit::selfcheck::parity;
use libtest_mimic::{Arguments, Trial};
use std::sync::Arc;

fn main() {
    let mut trials = Vec::new();
    for case in beit::selfcheck::cases() {
        let case = Arc::new(case);
        let (name, same) = (case.name.clone(), case.clone());
        let f32 = move || parity::check_f32(&same).ok().map_err(Into::into);
        trials.push(Trial::test(format!("parity::f32::{name}"), f32));
        let same = case.clone();
        let bf16 = move || parity::check_bf16(&same).ok().map_err(Into::into);
        trials.push(Trial::test(format!("parity::bf16::{name}"), bf16));
        let threads = move || parity::check_threads(&case).map_err(Into::into);
        trials.push(Trial::test(format!("parity::threads::{name}"), threads));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
