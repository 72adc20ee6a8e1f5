//! A case on a GPU, or on the emulator, with its type forgotten.

use super::subject::{Done, Start, run};
use crate::cuda::Cuda;
use crate::ops::case::Case;
use half::bf16;
use std::sync::Arc;

type On<T> = Box<dyn Fn(&Cuda<T>, &Start) -> Done + Send + Sync>;

/// A case in the three precisions.
pub struct OnCuda {
    pub(super) f64: On<f64>,
    pub(super) f32: On<f32>,
    pub(super) bf16: On<bf16>,
}

impl OnCuda {
    pub(super) fn new<C: Case>(case: Arc<C>) -> Self {
        let [a, b, c] = [case.clone(), case.clone(), case];
        Self {
            f64: Box::new(move |bk, start| run(bk, &*a, start)),
            f32: Box::new(move |bk, start| run(bk, &*b, start)),
            bf16: Box::new(move |bk, start| run(bk, &*c, start)),
        }
    }
}
