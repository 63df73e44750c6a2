//! What a plugin reports of itself to those who look after the node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{adoption::ConnectionReport, missing::MissingKey};
use crate::keeper::ServedFrom;

/// What a plugin reports of itself. Nothing in it is secret.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelfReport {
    /// Differs at each start.
    pub instance: String,
    /// The layers that protect the process, each with how far it is in force.
    pub layers: BTreeMap<String, String>,
    /// The uuid of the keyring that is served.
    #[serde(default)]
    pub keyring: Option<String>,
    /// The generation that is served.
    pub generation: u64,
    /// For how many seconds this process has served its primary key.
    #[serde(default)]
    pub primary_s: Option<u64>,
    /// The SHA-256 of the record that is served, in hex.
    #[serde(default)]
    pub record: Option<String>,
    /// The answer to the canary of the probe, in base64. `None` if there was none, or the plugin cannot open it.
    #[serde(default)]
    pub canary: Option<String>,
    /// The key_ids of all keys that are served.
    #[serde(default)]
    pub keys: Vec<String>,
    /// The state directory from which the keyring was read.
    #[serde(default)]
    pub served_from: Option<ServedFrom>,
    /// Why a later generation on the disk is not served; `None` if there is no later one.
    #[serde(default)]
    pub degraded: Option<String>,
    /// Whether the keyring on the disk opens, and is not served only because it does not follow from the served one.
    #[serde(default)]
    pub no_successor: bool,
    /// Whether no other plugin serves from the state directory; `None` from a version that does not know.
    #[serde(default)]
    pub alone: Option<bool>,
    /// Seeds that each key has unwrapped since the process started. Keys that have unwrapped none are left out.
    #[serde(default)]
    pub unwrapped: BTreeMap<String, u64>,
    /// Keys that API servers need and that the keyring does not hold.
    #[serde(default)]
    pub missing: Vec<MissingKey>,
    /// Calls of Decrypt that were refused because the keyring does not hold their key, and that `missing` does not
    /// count.
    #[serde(default)]
    pub missing_others: u64,
    /// The other connections, the oldest first.
    pub connections: Vec<ConnectionReport>,
}
