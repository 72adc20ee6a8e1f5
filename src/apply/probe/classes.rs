//! Which classes two labelled sources share.

use crate::data::classes::listed;
use crate::error::{Error, Result};

/// Classes that a probe tells apart, and which of them each source's own classes are.
#[derive(Debug, PartialEq)]
pub(super) struct SharedClasses {
    /// Their names, in the order of the training images' source.
    pub(super) names: Vec<String>,
    /// By class of the training images, its place in `names`.
    pub(super) train: Vec<Option<u32>>,
    /// The same of the test images.
    pub(super) test: Vec<Option<u32>>,
    /// Which classes only one side has; empty where there are none.
    pub(super) left_out: String,
}

impl SharedClasses {
    /// Matches classes by name, in whatever order each source has them. Where one side has a class that the
    /// other lacks, that is an error unless `common`.
    pub(super) fn of(train: &[String], test: &[String], common: bool) -> Result<Self> {
        let names: Vec<String> = train.iter().filter(|name| test.contains(name)).cloned().collect();
        let lacking = [("train", train, test), ("test", test, train)].into_iter();
        let lacking = lacking.filter_map(|(side, own, other)| {
            let only: Vec<_> = own.iter().filter(|name| !other.contains(name)).collect();
            (!only.is_empty()).then(|| format!("only {side} has {}", listed(&only)))
        });
        let left_out = lacking.collect::<Vec<_>>().join("; ");
        if !left_out.is_empty() && !common {
            let advice = match names.len() {
                0 | 1 => "give images of the same classes".to_owned(),
                n => format!("--common-classes probes with the {n} that both have"),
            };
            return Err(Error::config(format!(
                "train and test have different classes: {left_out}; {advice}"
            )));
        }
        let place = |own: &String| names.iter().position(|name| name == own).map(|i| i as u32);
        let (train, test) = (train.iter().map(place).collect(), test.iter().map(place).collect());
        Ok(Self { names, train, test, left_out })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        text.split_whitespace().map(String::from).collect()
    }

    #[test]
    fn the_same_names_in_another_order_are_the_same_classes() {
        let shared = SharedClasses::of(&names("cat dog bird"), &names("bird cat dog"), false);
        let shared = shared.expect("the same classes");
        assert_eq!(shared.names, ["cat", "dog", "bird"]);
        assert_eq!(shared.test, [Some(2), Some(0), Some(1)]);
        assert_eq!(shared.left_out, "");
    }

    #[test]
    fn only_what_one_side_lacks_is_named() {
        let many: Vec<String> = (0..1000).map(|i| format!("n{i:03}")).collect();
        let fails = |train: &[String], test: &[String]| {
            SharedClasses::of(train, test, false).expect_err("they differ").to_string()
        };
        assert_eq!(
            fails(&many, &many[..999]),
            "train and test have different classes: only train has \"n999\"; --common-classes probes \
             with the 999 that both have"
        );
        let both = fails(&many[..990], &names("n000 n001 n002 new\x1b[2J"));
        assert!(both.starts_with(
            "train and test have different classes: only train has \"n003\", \"n004\", \"n005\", \
             \"n006\", \"n007\", \"n008\", \"n009\", \"n010\" and 979 more; only test has \
             \"new\\u{1b}[2J\"; --common-classes probes with the 3"
        ));
        assert!(fails(&names("a b"), &names("c d")).ends_with("give images of the same classes"));
    }

    #[test]
    fn the_rest_is_matched_by_name() {
        let shared =
            SharedClasses::of(&names("a b c d"), &names("d x b"), true).expect("asked for");
        assert_eq!(shared.names, ["b", "d"]);
        assert_eq!(shared.train, [None, Some(0), None, Some(1)]);
        assert_eq!(shared.test, [Some(1), None, Some(0)]);
        assert_eq!(shared.left_out, "only train has \"a\", \"c\"; only test has \"x\"");
    }
}
