//! Storage types of PyTorch, and one tensor held against the numbers that it points into.

use crate::weights::info::TensorInfo;
use safetensors::tensor::Dtype as AnyDtype;
use std::ops::Range;

/// Type of the numbers of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StorageType(AnyDtype);

impl StorageType {
    /// The type that belongs to the name of a storage.
    pub(super) fn of_storage(name: &str) -> Option<Self> {
        Some(Self(match name.strip_suffix("Storage")? {
            "Double" => AnyDtype::F64,
            "Float" => AnyDtype::F32,
            "Half" => AnyDtype::F16,
            "BFloat16" => AnyDtype::BF16,
            "Long" => AnyDtype::I64,
            "Int" => AnyDtype::I32,
            "Short" => AnyDtype::I16,
            "Char" => AnyDtype::I8,
            "Byte" => AnyDtype::U8,
            "Bool" => AnyDtype::BOOL,
            _ => return None,
        }))
    }

    /// Bytes of one.
    pub(super) fn size(self) -> usize {
        self.0.bitsize() / 8
    }

    /// Bytes of so many.
    pub(super) fn bytes(self, count: u64) -> Result<usize, String> {
        let bytes = usize::try_from(count).ok().and_then(|count| count.checked_mul(self.size()));
        bytes.ok_or_else(|| format!("{count} elements are absurd"))
    }
}

/// A tensor as a pickle describes it, in elements.
pub(super) struct Laid {
    pub offset: i64,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
}

impl Laid {
    /// The tensor, where its `count` numbers of type `element` lie at `range` of the file.
    pub(super) fn within(
        &self,
        element: StorageType,
        count: usize,
        range: Range<usize>,
    ) -> Result<TensorInfo, String> {
        let unsigned = |values: &[i64], what: &str| {
            let each = values.iter().map(|value| usize::try_from(*value));
            each.collect::<Result<Vec<_>, _>>()
                .map_err(|_| format!("{what} {values:?} are negative"))
        };
        let (shape, strides) =
            (unsigned(&self.shape, "its sizes")?, unsigned(&self.strides, "its strides")?);
        let offset = unsigned(&[self.offset], "its offset")?[0];
        if shape.len() != strides.len() {
            return Err(format!("{} sizes and {} strides", shape.len(), strides.len()));
        }
        let elements = shape.iter().try_fold(1usize, |n, extent| n.checked_mul(*extent));
        let Some(elements) = elements else { return Err(format!("shape {shape:?} is absurd")) };
        if elements > count {
            return Err(format!(
                "shape {shape:?} has more elements than the {count} that are stored"
            ));
        }
        let mut end = Some(offset);
        if elements > 0 {
            // One behind the last element.
            let steps = shape.iter().zip(&strides).map(|(n, stride)| (n - 1).checked_mul(*stride));
            end = steps.fold(offset.checked_add(1), |at, step| at?.checked_add(step?));
        }
        let Some(end) = end.filter(|end| *end <= count) else {
            return Err(format!(
                "shape {shape:?} with strides {strides:?} from {offset} on does not lie within the \
                 {count} elements that are stored"
            ));
        };
        let size = element.size();
        let place = range.start + offset * size..range.start + end * size;
        let strides = (!row_major(&shape, &strides)).then_some(strides);
        Ok(TensorInfo::new(element.0, shape, place, strides))
    }
}

/// True where the elements lie one behind the other; an axis of one has no say.
fn row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut step = 1;
    shape.contains(&0)
        || shape.iter().zip(strides).rev().all(|(extent, stride)| {
            let right = *extent == 1 || *stride == step;
            step *= extent;
            right
        })
}
