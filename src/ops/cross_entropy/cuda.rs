//! Cross-entropy on CUDA: `cuda/cross_entropy.cu`.

use super::{CrossEntropyOp, Losses, Target};
use crate::cuda::{Argument, Cuda, Grid, Precision, args};
use crate::tensor::{Ids, Master, Tensor};

/// The kernels' labels, soft targets and ignored label: one of the first two is null, and -1 is no
/// label.
fn arguments<T: Precision>(target: &Target<'_, Cuda<T>>) -> [Argument; 3] {
    match target {
        Target::Hard { labels, ignore } => [
            Argument::from(*labels),
            None::<&Master<Cuda<T>>>.into(),
            ignore.map_or(-1, i64::from).into(),
        ],
        Target::Soft(soft) => [None::<&Ids<Cuda<T>>>.into(), Argument::from(*soft), (-1i64).into()],
    }
}

impl<T: Precision> CrossEntropyOp for Cuda<T> {
    #[track_caller]
    fn cross_entropy_forward(
        &self,
        logits: &Tensor<Self>,
        target: &Target<'_, Self>,
    ) -> Losses<Self> {
        target.expect_fit("cross_entropy", logits);
        let (r, v) = (logits.rows(), logits.cols());
        let losses = Losses { rows: self.unset(&[r]), argmax: self.unset(&[r]) };
        let [labels, soft, ignore] = arguments(target);
        let (rows, argmax) = (&losses.rows, &losses.argmax);
        let arguments = args![logits, labels, soft, ignore, rows, argmax, v, self.fault()];
        self.launch("cross_entropy_forward", Grid::rows(r, v), arguments);
        losses
    }

    #[track_caller]
    fn cross_entropy_backward(
        &self,
        mut logits: Tensor<Self>,
        target: &Target<'_, Self>,
        scale: f64,
    ) -> (Losses<Self>, Tensor<Self>) {
        target.expect_fit("cross_entropy_backward", &logits);
        let (r, v) = (logits.rows(), logits.cols());
        let losses = Losses { rows: self.unset(&[r]), argmax: self.unset(&[r]) };
        let [labels, soft, ignore] = arguments(target);
        let (rows, argmax, fault) = (&losses.rows, &losses.argmax, self.fault());
        let arguments = args![&mut logits, labels, soft, ignore, scale, rows, argmax, v, fault];
        self.launch("cross_entropy_backward", Grid::rows(r, v), arguments);
        (losses, logits)
    }
}
