//! The layers of protection, and how far each is in force.

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;

/// The name under which reports say how keys are kept in memory. Its value is the name of a system call, not a
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

/// What is in force, for the log and for `claviger status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layers {
    /// How keys are kept in memory: the name of the system call.
    pub memory: &'static str,
    /// Files and ports.
    pub landlock: LayerState,
    /// System calls.
    pub seccomp: LayerState,
}

impl Layer {
    /// Returns its name in logs and reports.
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
    /// Returns each layer by its name, with how far it is in force.
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

/// How far a layer is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LayerState {
    /// All of it.
    On,
    /// The part that this kernel knows.
    Partial,
    /// Switched off by an operator.
    Off,
    /// This kernel does not have it.
    Unsupported,
    /// This kernel has it and refused it.
    Failed,
}

impl LayerState {
    /// Returns a word for people and machines.
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
