//! The one error type of everything that can fail for reasons outside the program.
//!
//! Mistakes in shapes and indices are bugs of the caller and panic at the entry of the op; files,
//! images, configurations and checkpoints return [`Error`], whose text says what to do.

use crate::shown;
use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};

/// `Result` with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What failed on a device inside an op, where there is nothing to return an error to: the payload of the
/// op's panic. The command line makes an error of it.
#[derive(Clone, Debug)]
pub struct DeviceFault {
    /// What was being done and the driver's text.
    pub text: String,
}

impl DeviceFault {
    /// Panics with this as the payload.
    #[track_caller]
    pub fn panic(self) -> ! {
        std::panic::panic_any(self)
    }
}

impl fmt::Display for DeviceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuda: {}", self.text)
    }
}

/// The text of a panic: a message or a [`DeviceFault`].
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> Option<String> {
    let message = payload.downcast_ref::<String>().cloned();
    message
        .or_else(|| payload.downcast_ref::<&str>().map(|text| (*text).to_owned()))
        .or_else(|| payload.downcast_ref::<DeviceFault>().map(ToString::to_string))
}

/// Why something outside the program did not work.
#[derive(Debug)]
pub enum Error {
    /// The operating system refused something on a path.
    Io {
        /// What was being done, as in "cannot read".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's own reason.
        source: std::io::Error,
    },
    /// A file was read but its content is not what it should be.
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// The GPU, its driver or a library of it cannot be used.
    Device(String),
    /// A setting, an argument or a combination of them is not usable.
    Config(String),
    /// Training cannot go on (non-finite value, empty mask).
    Training(String),
    /// The user asked to stop; everything was saved.
    Interrupted(String),
}

impl Error {
    /// For `map_err` on a file operation: `Error::io("cannot read", path)`.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { action, path, source }
    }

    /// A content error of one file.
    pub fn format(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Format { path: path.as_ref().to_path_buf(), message: message.into() }
    }

    /// True where the disk, a quota or a limit of the file size left no space.
    pub fn is_disk_full(&self) -> bool {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), StorageFull | QuotaExceeded | FileTooLarge))
    }

    /// An unusable setting.
    pub fn config(message: impl Into<String>) -> Self {
        Self::Config(message.into())
    }
}

fn shown_path(path: &Path) -> String {
    shown::line(&path.to_string_lossy())
}

/// One line without anything that acts on a terminal, whatever it quotes.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { action, path, source } => {
                write!(f, "{action} {}: {source}", shown_path(path))
            }
            Self::Format { path, message } => {
                write!(f, "{}: {}", shown_path(path), shown::line(message))
            }
            Self::Device(m) | Self::Config(m) | Self::Training(m) | Self::Interrupted(m) => {
                f.write_str(&shown::line(m))
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
