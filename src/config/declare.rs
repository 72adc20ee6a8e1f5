//! What the settings of a run declare: a struct, its keys and their documentation at once.

use super::key::{Key, Preset};
use crate::error::Result;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The settings of one kind of run.
pub trait RunConfig: Serialize + DeserializeOwned {
    /// What the run is called in messages and in its folder.
    const KIND: &'static str;
    /// Every key, in the order of `config.toml`.
    const KEYS: &'static [Key];

    /// The starting values; `data` and the like are still empty.
    fn preset(preset: Preset) -> Self;

    /// Conditions that involve more than one key.
    fn validate(&self) -> Result<()>;
}

/// Declares settings that several commands share: a struct and its keys.
macro_rules! shared_settings {
    ($(#[$meta:meta])* $name:ident {
        $($(#[doc = $doc:literal])+ $field:ident: $type:ty = $range:expr;)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $type,)*
        }

        impl $name {
            /// Every key, with the words of commands that have none of their own.
            pub(super) const KEYS: &'static [$crate::config::Key] = &[$($crate::config::Key {
                name: stringify!($field),
                doc: concat!($($doc, "\n"),+),
                range: $range,
            }),*];
        }
    };
}

/// Declares the settings of a run: the struct, its keys and their documentation at once. The blocks in
/// brackets are fields that hold shared settings; `use NAME` is where a shared key stands in
/// `config.toml`, and `use NAME = "..."` what is said about it there. A shared setting that stands nowhere is none of
/// the command's: it keeps the preset's value.
macro_rules! run_config {
    ($(#[$meta:meta])* $name:ident, $kind:literal, [$($block:ident: $shared:ident),+] {
        $(
            $(use $key:ident $(= $($own:literal)+)?)?
            $($(#[doc = $doc:literal])+ $field:ident: $type:ty = $range:expr)?
        ;)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $name {
            $(
                #[doc = concat!("Shared settings: see [`", stringify!($shared), "`].")]
                #[serde(flatten)]
                pub $block: $crate::config::$shared,
            )+
            $($($(#[doc = $doc])+ pub $field: $type,)?)*
        }

        impl $name {
            const SHARED: &'static [&'static [$crate::config::Key]] =
                &[$($crate::config::$shared::KEYS),+];
        }

        impl $crate::config::RunConfig for $name {
            const KIND: &'static str = $kind;
            const KEYS: &'static [$crate::config::Key] = &[$(
                $($crate::config::Key {
                    name: stringify!($field),
                    doc: concat!($($doc, "\n"),+),
                    range: $range,
                })?
                $($crate::config::Key::shared(
                    Self::SHARED,
                    stringify!($key),
                    concat!($($($own, "\n"),+)?),
                ))?
            ),*];

            fn preset(preset: $crate::config::Preset) -> Self {
                Self::defaults(preset)
            }

            fn validate(&self) -> $crate::error::Result<()> {
                self.check()
            }
        }
    };
}
pub(super) use {run_config, shared_settings};
