//! Every case against finite differences in f64, one named test each.

use beit::case::{Case, Visitor};
use beit::check::gradients::check_case;
use libtest_mimic::{Arguments, Trial};

#[derive(Default)]
struct Trials(Vec<Trial>);

impl Visitor for Trials {
    fn visit<C: Case>(&mut self, case: C) {
        self.0.push(Trial::test(format!("gradient::{}", case.name()), move || {
            let report = check_case(&case);
            if report.passed() { Ok(()) } else { Err(report.failures(8).join("\n").into()) }
        }));
    }
}

fn main() {
    let mut trials = Trials::default();
    beit::ops::visit_cases(&mut trials);
    libtest_mimic::run(&Arguments::from_args(), trials.0).exit();
}
