//! Hints for what keeps a daemon from serving: its configuration, its socket, its keyring.

use std::path::{Path, PathBuf};

use super::{
    super::{given::quoted, socket},
    exit::{Exit, Explain, Explanation, refused, with},
    files::{LIMITS, reading_settings, unreadable},
    keyring::{IN_ETCD, RIGHT_PAIR},
};
use crate::{
    config::{ConfigError, KINDS, ValueKind, nearest},
    daemon::DaemonError,
    durable::{DurableError, SERVING, Untrusted},
    keeper::ServeError,
    listen::AddressError,
};

impl Explain for ConfigError {
    fn explain(&self) -> Explanation {
        let hint = match self {
            Self::Socket(AddressError::Malformed { address, .. }) => Some(socket::address(address)),
            Self::Socket(_) => Some(socket::ADDRESS.to_owned()),
            Self::MetricsAddress { .. } | Self::MetricsSocket(_) => {
                Some("--metrics-listen 127.0.0.1:9808, or --metrics-listen /run/claviger/metrics.sock".to_owned())
            }
            Self::NotLoopback(address) => {
                Some(format!("listen on 127.0.0.1:{}, and put a proxy that authenticates in front", address.port()))
            }
            Self::MetricsOnSocket(_) => Some("give them a socket of their own beside it".to_owned()),
            #[cfg(not(feature = "metrics"))]
            Self::NoMetrics(_) => {
                Some("remove `metrics-listen`, or build claviger with its feature `metrics`".to_owned())
            }
            Self::Read { path, source } => {
                return Explanation { exit: reading_settings(source), hint: unreadable(path, source) };
            }
            Self::Untrusted { path, reason } => Some(untrusted(path, reason)),
            Self::Relative { path, key, value } => Some(format!("{key} = \"{}\"", absolute(path, value).display())),
            Self::Value { key, value, kind, .. } => Some(example(key, value, *kind)),
            Self::NoList { key, value, .. } if *key == "allow-uid" => {
                Some(format!("{key} = [{}]", value.replace(['"', '\''], "")))
            }
            Self::NoList { key, value, .. } => Some(format!("{key} = [{}]", several(value))),
            Self::UnknownKey { key, .. } => Some(known_keys(key)),
            Self::Syntax { .. } => Some(
                "each line gives a setting its value, and no setting comes twice, as in: log-level = \"info\"".to_owned(),
            ),
            Self::UnusedFile { .. } => Some(
                "say where etcd is, too: --etcd-servers URL; or omit the file, if the flags of kube-apiserver are read, which name \
                 files of their own"
                    .to_owned(),
            ),
            Self::NoTls { .. } => Some("if etcd serves TLS, give its https:// address; otherwise omit the file".to_owned()),
            Self::StateDir => Some("give its path: --state-dir /var/lib/claviger".to_owned()),
            Self::ProviderName(_) => Some("for example: --provider-name claviger".to_owned()),
        };
        Explanation { exit: Exit::Usage, hint }
    }
}

/// Returns the hint with the setting that was probably meant, and all settings.
fn known_keys(key: &str) -> String {
    let meant = nearest(key).map_or_else(String::new, |name| format!("did you mean {name}? "));
    format!("{meant}the settings are: {}", KINDS.map(|(name, _)| name).join(", "))
}

/// Returns the hint for a file that others could change. The command that protects the file comes after its reading,
/// because what others have written there already would be trusted, too.
pub(super) fn untrusted(path: &Path, reason: &Untrusted) -> String {
    const READ: &str = "read the file first, because others may have changed it; then";
    const MOVE: &str = "keep it where only root can replace it, as in /etc/claviger";
    match reason {
        Untrusted::Owner(_) => format!("{READ}: chown root {}", quoted(path)),
        // Many programs need a shared directory, such as /tmp, as it is.
        Untrusted::Place(DurableError::Ancestor { path, mode, .. }) if mode & 0o1000 == 0 => {
            format!("{READ} {MOVE}; or, if only its owner should write there: chmod go-w {}", quoted(path))
        }
        Untrusted::Place(_) => format!("{READ} {MOVE}"),
        Untrusted::Mode(_) => format!("{READ}: chmod go-w {}", quoted(path)),
    }
}

/// Returns an example of a correct line of the configuration. For a group, only the operator knows the number.
fn example(key: &str, value: &str, kind: ValueKind) -> String {
    let line = format!("{key} = {}", right_value(value, kind));
    if key == "socket-group" { format!("{line}; `getent group NAME` prints a group's number") } else { line }
}

/// Returns `value` in quotes, if only the quotes are missing. Otherwise returns an example.
fn right_value(value: &str, kind: ValueKind) -> String {
    let is_plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "/-_.:@".contains(c)) && !value.is_empty();
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    match kind {
        ValueKind::Text(_) if is_plain && !is_number => format!("{value:?}"),
        ValueKind::Text(example) => format!("{example:?}"),
        ValueKind::Words(words) => {
            let bare = value.trim_matches(['"', '\'']);
            let meant = words.iter().find(|word| word.eq_ignore_ascii_case(bare));
            format!("{:?}", meant.or(words.last()).unwrap_or(&""))
        }
        ValueKind::Number(example) => example.to_string(),
        ValueKind::List(example) => example.to_owned(),
        ValueKind::WordList(_) => "[]".to_owned(),
    }
}

/// Returns the values in the list `value`. On the command line, commas separate them.
fn several(value: &str) -> String {
    let Some(quote) = value.chars().next().filter(|quote| ['"', '\''].contains(quote)) else { return value.to_owned() };
    value.split(',').map(str::trim).collect::<Vec<_>>().join(&format!("{quote}, {quote}"))
}

/// Returns the path that was probably meant: the same path with a slash before it, or a path beside the configuration
/// file.
fn absolute(file: &Path, value: &Path) -> PathBuf {
    let from_root = Path::new("/").join(value);
    let mut above = value.components();
    if above.next_back().is_some() && above.next().is_some_and(|first| Path::new("/").join(first).is_dir()) {
        return from_root;
    }
    let path = file.parent().unwrap_or(Path::new("/")).join(value);
    std::path::absolute(&path).unwrap_or(path)
}

impl Explain for ServeError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Open(error) | Self::NoSuccessor(error) => error.explain(),
            Self::OtherRootKey(_) => with(Exit::WrongKey, RIGHT_PAIR),
            Self::Expect(_) => refused("compare it with what `status` prints on a node that you trust"),
            Self::HomeInEtcd(_) => refused(IN_ETCD),
            Self::DirectoryGone(_) | Self::DirectoryReplaced(_) => {
                refused("see what the plugin serves, and what the directory holds: claviger status")
            }
            Self::Lock(error) => error.explain(),
            Self::NotMarked(error) => error.explain(),
        }
    }
}

impl Explain for DaemonError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Keyring(error) => error.explain(),
            Self::Socket(error) => Explanation { exit: Exit::Refused, hint: socket::hint(error) },
            Self::Occupied(dir) => refused(&occupied_hint(dir)),
            Self::Signals(_) | Self::Register(_) => refused(LIMITS),
            Self::Notify(_) => {
                refused("NOTIFY_SOCKET names it: start the plugin as a systemd service, or unset the variable")
            }
            Self::Inherited(_) => {
                refused("let the unit pass one Unix socket that listens: ListenStream= in its socket unit names it")
            }
        }
    }
}

/// Returns the hint for a socket that is occupied. It does not repeat the socket of this command, which is not that of
/// the plugin that serves already.
fn occupied_hint(state_dir: &Path) -> String {
    format!(
        "to replace it, use its own socket: claviger serve --take-over --socket ITS_SOCKET; or stop it first; `fuser {}` finds \
         it, and `claviger status --socket ITS_SOCKET` shows how it is",
        quoted(state_dir.join(SERVING))
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, KINDS};

    #[test]
    fn the_example_of_every_setting_is_right() {
        for (key, kind) in KINDS {
            // A claviger without metrics refuses the address of the metrics for another reason.
            let right = format!("{key} = {}", right_value("", kind));
            let is_value =
                |text: &str| matches!(Config::parse(text), Err(ConfigError::Value { .. } | ConfigError::NoList { .. }));
            assert!(!is_value(&right) && is_value(&format!("{key} = {{}}")), "{right}");
        }
        assert_eq!(example("log-level", "info", ValueKind::Words(&["debug", "info"])), "log-level = \"info\"");
        assert_eq!(example("backups", "\"None\"", ValueKind::Words(&["none", "listed"])), "backups = \"none\"");
        assert_eq!(example("backups", "\"no\"", ValueKind::Words(&["none", "listed"])), "backups = \"listed\"");
        let meant = |value: &str| absolute(Path::new("/etc/claviger/config.toml"), Path::new(value));
        assert_eq!(meant("usr/local/keys"), Path::new("/usr/local/keys"));
        assert_eq!([meant("ca.crt"), meant("pki/ca.crt")].map(|path| path.starts_with("/etc/claviger")), [true; 2]);
        assert_eq!(example("socket", "/run/own/kms.sock", ValueKind::Text("/a")), "socket = \"/run/own/kms.sock\"");
    }
}
