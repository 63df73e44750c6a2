//! The layers of protection: their names, and whether each is in force.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;

/// The name under which reports say how keys are kept in memory. The value is the name of a system call, not a
/// [`LayerState`].
pub const MEMORY: &str = "memory";

/// A layer that an operator can switch off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// Keys in memory that no other process can read. Without it they are locked into RAM.
    MemfdSecret,
    /// Only the files and ports that are needed.
    Landlock,
    /// Only the system calls that are needed.
    Seccomp,
}

/// The state of every layer, for the log and for `claviger status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers {
    /// The name of the system call that protects the memory of keys.
    pub memory: &'static str,
    /// The state of the layer that restricts files and ports.
    pub landlock: LayerState,
    /// The state of the layer that restricts system calls.
    pub seccomp: LayerState,
}

impl Layer {
    /// Returns the name of the layer in logs and reports.
    const fn as_str(self) -> &'static str {
        match self {
            Self::MemfdSecret => MEMORY,
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Layers {
    /// Returns the state of each layer, by the name of the layer.
    pub fn by_name(&self) -> BTreeMap<String, String> {
        let Self { memory, landlock, seccomp } = self;
        let layers = [
            (Layer::MemfdSecret, (*memory).to_owned()),
            (Layer::Landlock, landlock.to_string()),
            (Layer::Seccomp, seccomp.to_string()),
        ];
        layers.map(|(layer, state)| (layer.to_string(), state)).into()
    }
}

/// The state of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// The whole layer is in force.
    On,
    /// The part of the layer that this kernel knows is in force.
    Partial,
    /// An operator has switched the layer off.
    Off,
    /// This kernel does not have the layer.
    Unsupported,
    /// This kernel has the layer and refused it.
    Failed,
}

impl LayerState {
    /// Returns the word for the state, for people and programs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Partial => "partial",
            Self::Off => "off",
            Self::Unsupported => "unsupported",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for LayerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
