//! The field `advice` of an error line: what the operator does. `docs/errors.md` says more.
//!
//! A constant that names a command is logged by [`whole`], with the flags by which the command reaches this plugin.

use std::sync::OnceLock;

/// The advice that names commands.
const WITH_COMMANDS: [&str; 3] = [RELOAD_FAILED, KEY_MISSING, KEY_DISABLED];

/// The same with flags, if this process is a plugin.
static WHOLE: OnceLock<[String; WITH_COMMANDS.len()]> = OnceLock::new();

/// Keeps what `with_flags` makes of each advice that names commands. Only the first call in a process has an effect.
pub fn complete(with_flags: impl Fn(&str) -> String) {
    _ = WHOLE.set(WITH_COMMANDS.map(with_flags));
}

/// Returns the advice with the flags by which its commands reach this plugin.
pub(crate) fn whole(advice: &'static str) -> &'static str {
    let index = WITH_COMMANDS.iter().position(|one| *one == advice);
    index.zip(WHOLE.get()).map_or(advice, |(index, whole)| &whole[index])
}

/// For a layer of protection that the kernel refused.
pub const UNPROTECTED: &str = "find out why the kernel refused the layer, or leave it out: --without LAYER";
/// For an audit log that cannot be written.
pub const NOT_AUDITED: &str = "make audit.jsonl in the state directory writable, then reload the plugin";
/// For a keyring that is refused.
pub const RELOAD_FAILED: &str =
    "run `claviger status`, and do what it says; do not restart the plugin before you have read it";
/// For a state directory that cannot be locked.
pub const NOT_LOCKED: &str = "keep the state directory on a file system that supports flock";
/// For metrics that cannot be served yet.
pub const METRICS_WAITING: &str = "free the address, or choose another one: --metrics-listen ADDRESS";
/// For metrics that cannot be served on this system.
pub const METRICS_MISSING: &str = "serve the metrics on a Unix socket: --metrics-listen PATH";
/// For connections that cannot be accepted.
pub const NOT_ACCEPTING: &str = "raise the limit of open files of the plugin";
/// For a socket that cannot be made again.
pub const SOCKET_LOST: &str = "make the socket's directory writable for the plugin, or restart the plugin";
/// For a stored value whose key is missing.
pub const KEY_MISSING: &str = "run `claviger status`; merge a backup that has the key: claviger backup restore FILE";
/// For a stored value whose key is disabled.
pub const KEY_DISABLED: &str = "enable the key, then re-encrypt: claviger key enable KEY_ID";
/// For a fault of the machine.
pub const INTERNAL: &str = "look for the reason in the kernel's log: dmesg";
