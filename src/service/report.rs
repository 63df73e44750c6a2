//! The report of a plugin about itself, for the operators of the node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{adoption::ConnectionReport, missing::MissingKey};
use crate::keeper::ServedFrom;

/// A plugin's report of itself. It contains nothing secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfReport {
    /// A random text that identifies this start of the plugin.
    pub instance: String,
    /// The layers that protect the process, and how far each is in force.
    pub layers: BTreeMap<String, String>,
    /// The uuid of the served keyring, in hex.
    #[serde(default)]
    pub keyring: Option<String>,
    /// The generation of the served keyring.
    pub generation: u64,
    /// For how many seconds this process has served its primary key.
    #[serde(default)]
    pub primary_s: Option<u64>,
    /// The SHA-256 of the served record, in hex.
    #[serde(default)]
    pub record: Option<String>,
    /// The answer to the canary of the probe, in base64. `None` if the probe has no canary, or the plugin cannot open
    /// it.
    #[serde(default)]
    pub canary: Option<String>,
    /// The key_ids of all keys in the served keyring.
    #[serde(default)]
    pub keys: Vec<String>,
    /// The state directory from which the keyring was read.
    #[serde(default)]
    pub served_from: Option<ServedFrom>,
    /// Why the keyring on the disk is not taken up. `None` if it is the served one.
    #[serde(default)]
    pub degraded: Option<String>,
    /// Whether the keyring on the disk opens, and is refused only because it does not follow from the served one.
    #[serde(default)]
    pub no_successor: bool,
    /// Whether no other plugin serves from the state directory. `None` from a version that does not know.
    #[serde(default)]
    pub alone: Option<bool>,
    /// The number of seeds that each key has unwrapped since the process started. Keys without any are left out.
    #[serde(default)]
    pub unwrapped: BTreeMap<String, u64>,
    /// The keys that API servers need and that the keyring does not hold or has disabled.
    #[serde(default)]
    pub missing: Vec<MissingKey>,
    /// The number of refused calls of Decrypt for keys that `missing` does not list.
    #[serde(default)]
    pub missing_others: u64,
    /// All connections but the asking one, the oldest first.
    pub connections: Vec<ConnectionReport>,
}
