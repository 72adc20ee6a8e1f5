//! Every case against finite differences in f64, exact derivatives, and in f32 against both within what
//! rounding can do; large cases without differences. One named test each.

use libtest_mimic::{Arguments, Trial};

fn main() {
    let mut trials = Vec::new();
    for case in beit::selfcheck::cases() {
        trials.push(Trial::test(format!("gradient::{}", case.name), move || {
            let report = case.gradients(false);
            if report.passed() { Ok(()) } else { Err(report.failures(8).join("\n").into()) }
        }));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
