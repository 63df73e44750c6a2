//! Every message of the log, and every field. `docs/errors.md` lists the same ones; a test compares them.

/// The plugin listens on the socket. It answers calls with UNAVAILABLE until the keyring is open.
pub const LISTENING: &str = "listening";
/// Names the layers of protection that are active.
pub const PROTECTED: &str = "protected";
/// The kernel has this layer of protection and refused it. The other layers are active.
pub const UNPROTECTED: &str = "a layer of protection failed";
/// The keyring is open. The plugin answers calls.
pub const UNSEALED: &str = "unsealed";
/// A command changed the keyring, and the plugin serves the new one.
pub const FOLLOWED: &str = "keyring changed";
/// This node had no mark, so it trusts the first record that it reads.
pub const TRUSTED_ON_FIRST_USE: &str = "no mark yet, trusting the keyring that was found";
/// The keyring was changed after this node marked it. The mark names the new record now.
pub const MARK_ADVANCED: &str = "mark advanced";
/// The event could not be written to the audit log. The plugin serves the keyring nevertheless.
pub const NOT_AUDITED: &str = "unsealed without a line in the audit log";
/// The primary key did not unwrap what it had just wrapped, or no random value could be made for the test. Status
/// announces the failure to API servers.
pub const SELF_TEST_FAILED: &str = "the self-test of wrapping and unwrapping failed";
/// The plugin received SIGHUP, so it reads the keyring again.
pub const RELOADING: &str = "reading the keyring again";
/// The plugin serves this keyring already.
pub const UNCHANGED: &str = "the keyring is unchanged";
/// The changed keyring does not open, is older, or belongs to another installation. The plugin still serves the one
/// before.
pub const RELOAD_FAILED: &str = "refused the changed keyring, still serving the one before";
/// The keyring on the disk opens again after a refusal. If it differs from the served one, the next line reports the
/// change.
pub const OPENS_AGAIN: &str = "keyring opens again";
/// Another plugin serves from the state directory. This plugin takes over from it, or waits up to 6 s for its end.
pub const WAITING: &str = "another plugin serves from this state directory, waiting until it ends";
/// The other plugin has ended, and this one holds the lock of the state directory.
pub const LOCKED: &str = "state directory locked";
/// The system call that locks failed, so it is unknown whether the other plugin has ended.
pub const NOT_LOCKED: &str = "cannot lock the state directory, still trying";
/// Metrics and health are served at this address.
pub const METRICS_LISTENING: &str = "serving metrics";
/// The address of metrics and health cannot be bound yet. Calls are answered.
pub const METRICS_WAITING: &str = "cannot serve metrics, still trying";
/// This system has no such network. Calls are answered, and metrics are not served.
pub const METRICS_MISSING: &str = "cannot serve metrics on this system";
/// The metrics' listener cannot accept a connection.
pub const METRICS_NOT_ACCEPTING: &str = "metrics: cannot accept a connection";
/// A connection to the metrics ended with an error.
pub const METRICS_BROKEN: &str = "metrics: connection broken";
/// The socket has no permissions.
pub const ABSTRACT: &str = "an abstract socket: local users and pods with hostNetwork can impersonate either side";
/// systemd's unit decides who may open the socket that it made.
pub const GROUP_UNUSED: &str = "the socket is from systemd, so socket-group has no effect";
/// The kernel does not say who the peer is.
pub const PEER_UNKNOWN: &str = "connection closed: its peer is unknown";
/// The peer's user may not call, so every call on this connection is refused.
pub const PEER_REFUSED: &str = "peer refused";
/// As many peers are connected as the plugin serves.
pub const TOO_MANY: &str = "connection closed: too many connections";
/// The peer did not begin to speak HTTP/2.
pub const NO_PREFACE: &str = "connection closed: no HTTP/2 preface came in time";
/// A connection ended with an error.
pub const BROKEN: &str = "connection broken";
/// Most likely, the process has no file descriptor left.
pub const NOT_ACCEPTING: &str = "cannot accept connections, still trying";
/// Somebody removed the socket, and the plugin made it again.
pub const SOCKET_RESTORED: &str = "socket was removed, made again";
/// Somebody removed the socket, and the plugin cannot make it again.
pub const SOCKET_LOST: &str = "socket was removed and cannot be made again, still trying";
/// Another plugin has the socket now. This one answers the calls in flight and ends.
pub const SOCKET_REPLACED: &str = "socket taken over by another plugin";
/// A call was answered.
pub const ANSWERED: &str = "call answered";
/// A call was refused.
pub const CALL_FAILED: &str = "call failed";
/// Decrypt was called for a key that the keyring does not hold: an older keyring may have been restored.
pub const KEY_MISSING: &str = "a stored value needs a key that this keyring does not hold";
/// Decrypt was called for a disabled key: only an operator can enable it.
pub const KEY_DISABLED: &str = "a stored value needs a key that is disabled";
/// A call failed by a fault of the machine. The peer does not learn the detail.
pub const INTERNAL: &str = "internal error";
/// The plugin received a signal to end. It still answers the calls in flight.
pub const STOPPING: &str = "stopping";
/// The plugin has ended.
pub const STOPPED: &str = "stopped";

/// The fields of a line of the log, sorted. A field has one meaning in all lines.
#[cfg(test)]
pub const FIELDS: [&str; 21] = [
    "address",
    "advice",
    "code",
    "cut_off",
    "detail",
    "error",
    "expect",
    "generation",
    "key_id",
    "keyring",
    "landlock",
    "layer",
    "left_out",
    "memory",
    "method",
    "peer_pid",
    "peer_uid",
    "reason",
    "seccomp",
    "socket",
    "uid",
];

#[cfg(test)]
mod tests {
    use super::FIELDS;

    #[test]
    fn the_fields_are_sorted_and_distinct() {
        assert!(FIELDS.is_sorted_by(|field, next| field < next), "{FIELDS:?}");
    }
}
