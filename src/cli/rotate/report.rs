//! The events of a rotation, as JSON lines show them, and the conditions that it waits for.

use serde::Serialize;

/// Something that has happened. As JSON it is a public interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum RotateEvent {
    /// A scan has ended.
    Scanned {
        /// Objects that are not under the primary key, or are in plaintext and have to be encrypted.
        stale: u64,
        /// How many of them are under another key of the keyring.
        under_other_keys: u64,
        /// Objects that no key opens, or whose value is damaged.
        unreadable: u64,
        /// Objects that are not as configured and that `--leave` names. The other counts do not contain them.
        skipped: u64,
    },
    /// The API servers were counted.
    Counted {
        /// How many there are; 0 if this cannot be known.
        api_servers: u64,
    },
    /// A rotation begins, or goes on.
    Began {
        /// Identifies the rotation.
        rotation: String,
        /// The key, if it exists already.
        key_id: Option<String>,
        /// How far it is.
        phase: &'static str,
        /// Whether others may know the keys before.
        #[serde(rename = "compromise")]
        is_compromise: bool,
        /// Whether it was begun by an earlier command.
        resumed: bool,
    },
    /// A key was made.
    Added {
        /// The key.
        key_id: String,
    },
    /// A backup was written.
    BackedUp {
        /// Its file.
        file: String,
    },
    /// The key is primary.
    Promoted {
        /// The key.
        key_id: String,
        /// The keys that others may know.
        compromised: Vec<String>,
    },
    /// A compromised key was disabled.
    Disabled {
        /// The key.
        key_id: String,
    },
    /// Every plugin serves the key.
    Published {
        /// The key.
        key_id: String,
    },
    /// The API server has written objects again.
    Rewritten {
        /// How many were written.
        written: u64,
        /// How many are left.
        left: u64,
    },
    /// The rotation waits.
    Waiting {
        /// For what.
        gate: WaitGate,
        /// The nodes that it waits for.
        nodes: Vec<String>,
        /// How many seconds at most, if that is known.
        seconds: Option<u64>,
    },
}

/// What a rotation waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum WaitGate {
    /// Plugins have to serve the keyring as it is now.
    Acknowledge,
    /// Plugins have to serve the promoted key.
    Publish,
    /// An API server may write under the old key.
    Quiet,
    /// Connected API servers have to settle on the primary key.
    Settle,
    /// Events have to expire.
    Events,
}
