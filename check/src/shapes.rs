//! A layer at generated sizes, and the smallest at which it is wrong.
//!
//! A fault that needs a size (a remainder that is forgotten, an axis of length 1 that is broadcast, a second
//! block that overwrites the first) is not seen at the one size that a test has. Here the sizes are named and have
//! ranges, and those that are tried are the ones where such faults live: 1, 2, 3, primes, powers of two and both
//! neighbours. A case that is not right is shrunk, one size after the other, until every smaller one is.

use crate::random::{SEED, Stream};
use crate::report::{Report, Verdict};
use ndarray::{Array, Dimension, IntoDimension};
use serde::Serialize;
use std::any::Any;
use std::fmt;
use std::ops::{Index, RangeInclusive};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Cases besides those in which one size varies.
const MIXED: usize = 24;

/// Named sizes of one case.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Sizes(Vec<(String, usize)>);

impl Sizes {
    /// Normal numbers, the same for the same label and shape: `sizes.normal("x", (sizes["rows"], 3))`.
    pub fn normal<Sh: IntoDimension>(&self, label: &str, shape: Sh) -> Array<f64, Sh::Dim> {
        let number = label.bytes().fold(31, |n: u64, b| n.wrapping_mul(31) + u64::from(b));
        let shape = shape.into_dimension();
        let numbers = Stream::new(SEED ^ number, 13).normal(shape.size());
        Array::from_shape_vec(shape, numbers).expect("as many as the shape has")
    }

    fn with(&self, dimension: usize, size: usize) -> Self {
        let mut other = self.clone();
        other.0[dimension].1 = size;
        other
    }
}

impl Index<&str> for Sizes {
    type Output = usize;
    /// Panics where there is none of that name.
    #[track_caller]
    fn index(&self, name: &str) -> &usize {
        let found = self.0.iter().find(|(own, _)| own == name);
        &found.unwrap_or_else(|| panic!("there is no size `{name}`, there are: {self}")).1
    }
}

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all: Vec<String> = self.0.iter().map(|(name, n)| format!("{name} = {n}")).collect();
        f.write_str(&all.join(", "))
    }
}

/// Names of sizes and their ranges.
///
/// A sum of pairs of neighbours, whose backward forgets the odd one out:
///
/// ```
/// use beit_check::{Arrays, Check, Shapes};
/// use ndarray::Array2;
///
/// let found = Shapes::new("pairs").size("rows", 1..=40).size("cols", 1..=40).check(|n| {
///     let at = Arrays::new().with("x", n.normal("x", (n["rows"], n["cols"])));
///     Check::new("pairs").at(at).gradients(
///         |a| a.matrix("x").mapv(|x| x * x),
///         |a, dy: &Array2<f64>| {
///             let mut dx = dy * &a.matrix("x") * 2.0;
///             let odd = n["cols"] % 2 == 1 && n["cols"] > 8;
///             dx.column_mut(n["cols"] - 1).mapv_inplace(|g| if odd { 0.0 } else { g });
///             Arrays::new().with("x", dx)
///         },
///     )
/// });
/// assert_eq!(found.smallest.as_ref().unwrap().to_string(), "rows = 1, cols = 9");
/// println!("{found}"); // pairs: fail; smallest at rows = 1, cols = 9 ...
/// ```
#[derive(Clone, Debug)]
pub struct Shapes {
    name: String,
    ranges: Vec<(String, RangeInclusive<usize>)>,
}

/// The values that one size took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// Its name.
    pub size: String,
    /// From small to large, each once.
    pub values: Vec<usize>,
    /// How many of them are primes ...
    pub primes: usize,
    /// ... powers of two, 1 among them ...
    pub powers_of_two: usize,
    /// ... and by one above or below a power of two of 4 or more.
    pub beside_powers: usize,
}

impl Tried {
    fn new(size: &str, all: impl Iterator<Item = usize>) -> Self {
        let mut values: Vec<usize> = all.collect();
        values.sort_unstable();
        values.dedup();
        let count = |is: fn(usize) -> bool| values.iter().filter(|n| is(**n)).count();
        let beside = |n: usize| n > 2 && ((n + 1).is_power_of_two() || (n - 1).is_power_of_two());
        Self {
            size: size.into(),
            primes: count(|n| n > 1 && (2..n).take_while(|d| d * d <= n).all(|d| n % d != 0)),
            powers_of_two: count(usize::is_power_of_two),
            beside_powers: count(beside),
            values,
        }
    }
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { size, values, primes, powers_of_two, beside_powers } = self;
        let all: Vec<String> = values.iter().map(usize::to_string).collect();
        write!(
            f,
            "{size}: {} sizes, {primes} of them primes, {powers_of_two} powers of two, ",
            all.len()
        )?;
        write!(f, "{beside_powers} beside one: {}", all.join(", "))
    }
}

/// What generated sizes found. [`Pages::shapes`](crate::pages::Pages::shapes) puts it on the pages.
#[derive(Clone, Debug, Serialize)]
pub struct ShapesReport {
    /// Name of the layer.
    pub name: String,
    /// How many combinations of sizes were tried, without those of the shrinking.
    pub cases: usize,
    /// The values of each size in them.
    pub tried: Vec<Tried>,
    /// The worst of all.
    pub verdict: Verdict,
    /// The smallest sizes with this verdict; none where all pass.
    pub smallest: Option<Sizes>,
    /// The report at the smallest sizes.
    pub report: Option<Report>,
}

impl ShapesReport {
    /// Whether all sizes passed.
    pub fn passed(&self) -> bool {
        self.verdict == Verdict::Pass
    }
}

impl fmt::Display for ShapesReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, cases, verdict, .. } = self;
        let word = match verdict {
            Verdict::Pass => "pass",
            Verdict::Inconclusive => "inconclusive",
            Verdict::Fail => "fail",
        };
        let tried = self.tried.iter().map(|t| format!("{} of {}", t.values.len(), t.size));
        let tried: Vec<String> = tried.collect();
        write!(f, "{name}: {word} ({cases} combinations of sizes: {})", tried.join(", "))?;
        if let (Some(smallest), Some(report)) = (&self.smallest, &self.report) {
            write!(f, "; smallest at {smallest}\n{report}")?;
        }
        Ok(())
    }
}

impl Shapes {
    /// No sizes yet.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), ranges: Vec::new() }
    }

    /// One more size; panics where its range is empty or its name is taken.
    #[track_caller]
    #[must_use]
    pub fn size(mut self, name: &str, range: RangeInclusive<usize>) -> Self {
        assert!(!range.is_empty(), "the range of `{name}` is empty");
        let taken = self.ranges.iter().any(|(own, _)| own == name);
        assert!(!taken, "there is a size `{name}` already");
        self.ranges.push((name.into(), range));
        self
    }

    /// Checks a layer at many sizes. `layer` makes arrays and closures of the sizes and checks them; where it
    /// panics, that is a fault at these sizes. The first case that fails is shrunk; where none does, the first that
    /// is inconclusive.
    pub fn check(&self, layer: impl Fn(&Sizes) -> Report) -> ShapesReport {
        let run = |sizes: &Sizes| -> Report {
            catch_unwind(AssertUnwindSafe(|| layer(sizes))).unwrap_or_else(|panic| Report {
                faults: vec![format!("panicked: {}", text(&*panic))],
                ..Report::new(&self.name)
            })
        };
        let (mut run_at, mut worst) = (Vec::new(), None::<(Sizes, Report)>);
        for sizes in self.cases() {
            run_at.push(sizes.clone());
            let report = run(&sizes);
            let verdict = report.verdict();
            let known = worst.as_ref().map_or(Verdict::Pass, |(_, report)| report.verdict());
            if verdict > known {
                worst = Some((sizes, report));
            }
            if verdict == Verdict::Fail {
                break;
            }
        }
        let of = |d: usize| run_at.iter().map(move |sizes: &Sizes| sizes.0[d].1);
        let named = self.ranges.iter().enumerate();
        let found = ShapesReport {
            name: self.name.clone(),
            cases: run_at.len(),
            tried: named.map(|(d, (name, _))| Tried::new(name, of(d))).collect(),
            verdict: Verdict::Pass,
            smallest: None,
            report: None,
        };
        let Some((sizes, report)) = worst else { return found };
        let verdict = report.verdict();
        let (smallest, report) = self.shrink(sizes, report, &run);
        ShapesReport { verdict, smallest: Some(smallest), report: Some(report), ..found }
    }

    /// The smallest size of each dimension at which the verdict stays, one dimension after the other, until
    /// nothing changes.
    fn shrink(
        &self,
        mut sizes: Sizes,
        mut report: Report,
        run: &dyn Fn(&Sizes) -> Report,
    ) -> (Sizes, Report) {
        let verdict = report.verdict();
        loop {
            let before = sizes.clone();
            for (d, (_, range)) in self.ranges.iter().enumerate() {
                for size in *range.start()..sizes.0[d].1 {
                    let smaller = sizes.with(d, size);
                    let found = run(&smaller);
                    if found.verdict() == verdict {
                        (sizes, report) = (smaller, found);
                        break;
                    }
                }
            }
            if sizes == before {
                return (sizes, report);
            }
        }
    }

    /// Small ones first: all at their least, then each by itself with the others at a small and at a
    /// middling size, then mixed ones.
    fn cases(&self) -> Vec<Sizes> {
        let candidates: Vec<Vec<usize>> = self.ranges.iter().map(|(_, r)| candidates(r)).collect();
        let at = |pick: &dyn Fn(usize, &[usize]) -> usize| {
            let named = self.ranges.iter().zip(&candidates).enumerate();
            Sizes(named.map(|(d, ((name, _), all))| (name.clone(), pick(d, all))).collect())
        };
        let mut cases = vec![at(&|_, all| all[0])];
        for others in [2, 5] {
            for (varied, all) in candidates.iter().enumerate() {
                for &size in all {
                    let other = |all: &[usize]| {
                        all.iter().copied().find(|n| *n >= others).unwrap_or(all[all.len() - 1])
                    };
                    cases.push(at(&|d, all| if d == varied { size } else { other(all) }));
                }
            }
        }
        let rng = std::cell::RefCell::new(Stream::new(SEED, 14));
        for _ in 0..if self.ranges.len() > 1 { MIXED } else { 0 } {
            cases.push(at(&|_, all| all[rng.borrow_mut().integer(all.len() - 1)]));
        }
        let mut seen = Vec::new();
        cases.retain(|sizes| {
            let new = !seen.contains(sizes);
            seen.push(sizes.clone());
            new
        });
        cases
    }
}

/// 1, 2, 3, primes, powers of two and their neighbours, and both ends, as far as they are inside.
fn candidates(range: &RangeInclusive<usize>) -> Vec<usize> {
    let powers = (0..usize::BITS - 1).map(|k| 1usize << k).take_while(|n| n - 1 <= *range.end());
    let mut all: Vec<usize> = powers.flat_map(|n| [n - 1, n, n + 1]).collect();
    all.extend([5, 11, 13, 19, 23, 37, 61, 97, 131, *range.start(), *range.end()]);
    all.retain(|n| range.contains(n));
    all.sort_unstable();
    all.dedup();
    all
}

/// What a panic says.
pub(crate) fn text(panic: &(dyn Any + Send)) -> &str {
    let literal = panic.downcast_ref::<&str>().copied();
    literal
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_sizes() {
        let tried = Tried::new("n", [9, 2, 1, 2, 16, 15, 6, 3].into_iter());
        let text =
            "n: 7 sizes, 2 of them primes, 3 powers of two, 3 beside one: 1, 2, 3, 6, 9, 15, 16";
        assert_eq!(tried.to_string(), text);
    }

    #[test]
    fn sizes_at_which_faults_live() {
        let all = candidates(&(1..=40));
        for n in [1, 2, 3, 4, 5, 7, 8, 9, 11, 13, 15, 16, 17, 31, 32, 33, 37, 40] {
            assert!(all.contains(&n), "{n}");
        }
        assert!(!all.contains(&0) && candidates(&(0..=3)) == [0, 1, 2, 3]);
        assert_eq!(candidates(&(10..=12)), [10, 11, 12]);
        let cases = Shapes::new("").size("a", 1..=40).size("b", 2..=9).cases();
        assert_eq!(cases[0].to_string(), "a = 1, b = 2");
        assert!(cases.len() < 120, "{}", cases.len());
    }
}
