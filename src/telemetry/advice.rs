//! The field `advice` of an error line: what the operator does. `docs/errors.md` says more.
//!
//! A constant that names a command is logged by [`whole`], with the flags by which the command reaches this plugin.

use std::sync::OnceLock;

/// The pieces of advice that name commands.
const WITH_COMMANDS: [&str; 3] = [RELOAD_FAILED, KEY_MISSING, KEY_DISABLED];

/// The same pieces of advice with flags, if this process is a plugin.
static WHOLE: OnceLock<[String; WITH_COMMANDS.len()]> = OnceLock::new();

/// Stores the result of `with_flags` for each piece of advice that names commands. Only the first call in a process has
/// an effect.
pub fn complete(with_flags: impl Fn(&str) -> String) {
    _ = WHOLE.set(WITH_COMMANDS.map(with_flags));
}

/// Returns the advice, with the flags by which its commands reach this plugin.
pub(crate) fn whole(advice: &'static str) -> &'static str {
    let index = WITH_COMMANDS.iter().position(|one| *one == advice);
    index.zip(WHOLE.get()).map_or(advice, |(index, whole)| &whole[index])
}

/// The advice if the kernel refused a layer of protection.
pub const UNPROTECTED: &str = "find out why the kernel refused the layer, or leave it out: --without LAYER";
/// The advice if the audit log cannot be written.
pub const NOT_AUDITED: &str = "make audit.jsonl in the state directory writable, then reload the plugin";
/// The advice if the keyring is refused.
pub const RELOAD_FAILED: &str =
    "run `claviger status`, and do what it says; do not restart the plugin before you have read it";
/// The advice if the state directory cannot be locked.
pub const NOT_LOCKED: &str =
    "see `error`; if the file system cannot lock, keep the state directory on one that supports flock";
/// The advice if metrics cannot be served yet.
pub const METRICS_WAITING: &str = "free the address, or choose another one: --metrics-listen ADDRESS";
/// The advice if metrics cannot be served on this system.
pub const METRICS_MISSING: &str = "serve the metrics on a Unix socket: --metrics-listen PATH";
/// The advice if connections cannot be accepted.
pub const NOT_ACCEPTING: &str = "raise the limit of open files of the plugin";
/// The advice if the socket cannot be made again.
pub const SOCKET_LOST: &str = "make the socket's directory writable for the plugin, or restart the plugin";
/// The advice if a stored value needs a missing key.
pub const KEY_MISSING: &str = "run `claviger status`; merge a backup that has the key: claviger backup restore FILE";
/// The advice if a stored value needs a disabled key.
pub const KEY_DISABLED: &str = "enable the key, then re-encrypt: claviger key enable KEY_ID";
/// The advice if the machine has a fault.
pub const INTERNAL: &str = "look for the reason in the kernel's log: dmesg";
