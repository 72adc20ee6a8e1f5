//! One case of the fixtures: `NAME.json` and `NAME.safetensors`.

use beit::params::{Layout, arena_len};
use beit::weights::{Allow, LoadPlan, ORIGINAL, Shapes};
use libtest_mimic::Failed;
use safetensors::{Dtype, SafeTensors};
use std::path::Path;

/// A case in memory.
pub struct Fixture {
    /// The JSON file.
    pub json: serde_json::Value,
    bytes: Vec<u8>,
}

impl Fixture {
    /// Reads both files of a case; what is missing is named.
    pub fn open(dir: &Path, case: &str) -> Result<Self, Failed> {
        let read = |ending: &str| {
            let path = dir.join(format!("{case}.{ending}"));
            std::fs::read(&path).map_err(|e| format!("case {case}: {}: {e}", path.display()))
        };
        let json = serde_json::from_slice(&read("json")?).map_err(|e| format!("{case}: {e}"))?;
        let bytes = read("safetensors")?;
        SafeTensors::deserialize(&bytes).map_err(|e| format!("{case}: {e}"))?;
        Ok(Self { json, bytes })
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).expect("checked when opened")
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = String> {
        let mut names: Vec<_> = self.tensors().names().into_iter().map(String::from).collect();
        names.sort();
        names.into_iter()
    }

    /// Whether there is such a tensor.
    pub fn has(&self, name: &str) -> bool {
        self.tensors().tensor(name).is_ok()
    }

    /// Shape of a tensor.
    #[track_caller]
    pub fn shape(&self, name: &str) -> Vec<usize> {
        self.tensors().tensor(name).unwrap_or_else(|e| panic!("{name}: {e}")).shape().to_vec()
    }

    /// Values of a tensor of any type, which f64 holds exactly.
    #[track_caller]
    pub fn f64(&self, name: &str) -> Vec<f64> {
        fn each<const N: usize>(bytes: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            bytes.as_chunks::<N>().0.iter().map(|&b| f(b)).collect()
        }
        let tensors = self.tensors();
        let tensor = tensors.tensor(name).unwrap_or_else(|e| panic!("{name}: {e}"));
        let bytes = tensor.data();
        match tensor.dtype() {
            Dtype::U8 => each(bytes, |[b]| f64::from(b)),
            Dtype::I32 => each(bytes, |b| f64::from(i32::from_le_bytes(b))),
            Dtype::I64 => each(bytes, |b| i64::from_le_bytes(b) as f64),
            Dtype::F32 => each(bytes, |b| f64::from(f32::from_le_bytes(b))),
            Dtype::F64 => each(bytes, f64::from_le_bytes),
            other => panic!("{name}: {other:?} is not used by the fixtures"),
        }
    }

    /// Values of `layout` from a checkpoint whose tensors `read` returns by name.
    pub fn values(layout: &Layout, read: impl Fn(&str) -> Vec<f64>) -> Result<Vec<f32>, Failed> {
        let entries = layout.iter().flat_map(|p| ORIGINAL.entries(p));
        let shapes: Shapes = entries.map(|e| (e.name, e.shape)).collect();
        let plan = LoadPlan::new(&ORIGINAL, layout, &shapes, &Allow::default())?;
        let single = |name: &str| Ok(read(name).into_iter().map(|x| x as f32).collect());
        Ok(plan.apply(vec![0.0; arena_len(layout)], single)?)
    }

    /// Fails unless `got` agrees with a stored tensor by the rule of the precision.
    pub fn compare<T: Precision>(&self, name: &str, got: &[f64]) -> Result<(), Failed> {
        let want = self.f64(name);
        if got.len() != want.len() {
            return Err(format!("{name}: {} values, stored are {}", got.len(), want.len()).into());
        }
        let largest = want.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        let limit = T::RELATIVE * largest + T::ABSOLUTE;
        let wrong = |a: &f64, b: &f64| a.is_nan() || (a - b).abs() > limit;
        match got.iter().zip(&want).position(|(a, b)| wrong(a, b)) {
            None => Ok(()),
            Some(i) => Err(format!(
                "{name}: element {i} is {}, stored {}, limit {limit:.1e}",
                got[i], want[i]
            )
            .into()),
        }
    }

    /// [`Fixture::compare`] where the file has the tensor.
    pub fn compare_if_present<T: Precision>(&self, name: &str, got: &[f64]) -> Result<(), Failed> {
        if self.has(name) { self.compare::<T>(name, got) } else { Ok(()) }
    }

    /// Fails unless a loss agrees by the precision's rule for losses.
    pub fn compare_loss<T: Precision>(&self, name: &str, got: f64) -> Result<(), Failed> {
        let want = self.f64(name)[0];
        if (got - want).abs() <= T::LOSS * want.abs() {
            return Ok(());
        }
        Err(format!("{name}: {got}, stored {want}").into())
    }

    /// Fails unless every value is within `limit` of the stored one.
    pub fn compare_within(&self, name: &str, got: &[f64], limit: f64) -> Result<(), Failed> {
        let want = self.f64(name);
        assert_eq!(got.len(), want.len(), "{name}");
        let wrong = |(a, b): (&f64, &f64)| a.is_nan() || (a - b).abs() > limit;
        match got.iter().zip(&want).position(wrong) {
            None => Ok(()),
            Some(i) => Err(format!("{name}: element {i} is {}, stored {}", got[i], want[i]).into()),
        }
    }

    /// Fails unless every value is equal.
    pub fn compare_exact(&self, name: &str, got: &[f64]) -> Result<(), Failed> {
        if got == self.f64(name) { Ok(()) } else { Err(format!("{name} differs").into()) }
    }

    /// Channels-first `[B,C,H,W]` to channels-last.
    pub fn to_nhwc(values: &[f64], shape: &[usize]) -> Vec<f64> {
        let (b, c, pixels) = (shape[0], shape[1], shape[2] * shape[3]);
        let at = |i: usize| values[(i / (c * pixels) * c + i % c) * pixels + i / c % pixels];
        (0..b * c * pixels).map(at).collect()
    }

    /// Channels-last back to channels-first `shape`.
    pub fn to_nchw(values: &[f64], shape: &[usize]) -> Vec<f64> {
        let (b, c, pixels) = (shape[0], shape[1], shape[2] * shape[3]);
        let at = |i: usize| values[(i / (c * pixels) * pixels + i % pixels) * c + i / pixels % c];
        (0..b * c * pixels).map(at).collect()
    }
}

/// The fixtures' rule for an arithmetic: max|a−b| <= RELATIVE max|b| + ABSOLUTE per tensor.
pub trait Precision {
    /// Of the stored tensor's largest magnitude.
    const RELATIVE: f64;
    /// On top.
    const ABSOLUTE: f64;
    /// Of a loss.
    const LOSS: f64;
    /// In a trial's name.
    const NAME: &'static str;
}

impl Precision for f64 {
    const RELATIVE: f64 = 1e-10;
    const ABSOLUTE: f64 = 1e-13;
    const LOSS: f64 = 1e-10;
    const NAME: &'static str = "f64";
}

impl Precision for f32 {
    const RELATIVE: f64 = 5e-4;
    const ABSOLUTE: f64 = 1e-7;
    const LOSS: f64 = 2e-5;
    const NAME: &'static str = "f32";
}
