//! The two parts of a data set.

/// Which part of a source that has two: CIFAR's folder, drawn scenes, or pairs in folders of their own. Other
/// sources ignore it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// To train on.
    Train,
    /// To measure on; shares nothing with the former.
    Test,
}
