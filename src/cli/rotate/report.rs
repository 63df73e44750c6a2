//! The events of a rotation, as JSON lines show them, and the conditions that it waits for.

use serde::Serialize;

/// An event of a rotation. As JSON it is a public interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum RotateEvent {
    /// A scan has finished.
    Scanned {
        /// The number of objects that are not under the primary key, or are in plaintext and have to be encrypted.
        stale: u64,
        /// The number of objects in `stale` that are under another key of the keyring.
        under_other_keys: u64,
        /// The number of objects that no key opens, or whose value is damaged.
        unreadable: u64,
        /// The number of Secrets that no entry of the EncryptionConfiguration encrypts.
        uncovered: u64,
        /// The number of objects that `--leave` names and that are not as configured. The other counts do not contain
        /// them.
        skipped: u64,
    },
    /// The API servers were counted.
    Counted {
        /// The number of API servers. 0 if they cannot be counted.
        api_servers: u64,
    },
    /// A rotation begins, or is continued.
    Began {
        /// The id of the rotation.
        rotation: String,
        /// The key_id of the new key, if it exists already.
        key_id: Option<String>,
        /// The phase of the rotation.
        phase: &'static str,
        /// Whether others may know the older keys.
        #[serde(rename = "compromise")]
        is_compromise: bool,
        /// Whether an earlier command began the rotation.
        resumed: bool,
    },
    /// A pending key was made.
    Added {
        /// The key_id of the new key.
        key_id: String,
    },
    /// A backup of the new key was written.
    BackedUp {
        /// The path of the backup.
        file: String,
    },
    /// The new key was promoted.
    Promoted {
        /// The key_id of the new key.
        key_id: String,
        /// The key_ids of the keys that are now marked as compromised.
        compromised: Vec<String>,
    },
    /// A compromised key was disabled.
    Disabled {
        /// The key_id of the disabled key.
        key_id: String,
    },
    /// Every plugin serves the key.
    Published {
        /// The key_id of the new key.
        key_id: String,
    },
    /// The API server has rewritten objects.
    Rewritten {
        /// The number of objects that were written.
        written: u64,
        /// The number of objects that are left.
        left: u64,
    },
    /// The rotation waits for a condition.
    Waiting {
        /// The condition that the rotation waits for.
        gate: WaitGate,
        /// The names of the nodes that the rotation waits for.
        nodes: Vec<String>,
        /// The greatest number of seconds that the wait takes, if that is known.
        seconds: Option<u64>,
    },
}

/// The condition that a rotation waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WaitGate {
    /// Plugins have to serve the present keyring and to open the canary.
    Acknowledge,
    /// Plugins have to serve the promoted key.
    Publish,
    /// An API server may still write under the old key.
    Quiet,
    /// Connected API servers have to settle on the primary key.
    Settle,
    /// Events under an old key have to expire.
    Events,
}
