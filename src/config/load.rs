//! Reads the configuration file and the flags, and checks them. Makes a [`Config`] of them, in which every value is
//! valid.

use std::{
    io,
    net::SocketAddr,
    ops::Range,
    path::{Path, PathBuf},
    str::FromStr,
};

use crate::{
    durable::{InputError, read_trusted},
    etcd::Servers,
    listen::{Access, Address},
    telemetry::LogLevel,
};

use super::{
    error::ConfigError,
    kinds::{DEFAULT_PROVIDER, DEFAULT_SOCKET, DEFAULT_STATE_DIR, KINDS, ValueKind},
    metrics::MetricsAddress,
    settings::{Cluster, Config, Settings},
};

/// The configuration file that is read if it exists and no other file is named.
const DEFAULT_FILE: &str = "/etc/claviger/config.toml";
/// The greatest length of the file in bytes.
const FILE_MAX: usize = 1024 * 1024;
impl FromStr for MetricsAddress {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        let refuse = |expected| ConfigError::MetricsAddress { address: text.to_owned(), expected };
        if text.starts_with('/') || text.starts_with("unix:") {
            return match text.parse().map_err(ConfigError::MetricsSocket)? {
                Address::Path(path) => Ok(Self::Socket(path)),
                // An abstract socket has no permissions, and the metrics' listener checks no user.
                Address::Abstract(_) => Err(refuse("a path, which has permissions; an abstract socket has none")),
            };
        }
        let expected = "an IP address and a port, or the absolute path of a socket";
        let address: SocketAddr = text.parse().map_err(|_| refuse(expected))?;
        if address.ip().is_loopback() { Ok(Self::Loopback(address)) } else { Err(ConfigError::NotLoopback(address)) }
    }
}

impl Config {
    /// Reads the configuration from `file`, or from the default file if that exists. `flags` override it.
    ///
    /// # Errors
    /// When the file cannot be read, or it or a flag has an invalid value.
    pub fn load(file: Option<&Path>, flags: Settings) -> Result<Self, ConfigError> {
        let files = [
            ("etcd-cafile", flags.etcd_cafile.clone()),
            ("etcd-certfile", flags.etcd_certfile.clone()),
            ("etcd-keyfile", flags.etcd_keyfile.clone()),
        ];
        let config = Self::of(read_file(file)?, flags)?;
        let named = files.into_iter().find_map(|(flag, path)| Some((flag, path?)));
        named.map_or(Ok(()), |(flag, path)| check_used(flag, path, &config.cluster.etcd))?;
        Ok(config)
    }

    /// Returns the configuration that a file of this text makes.
    ///
    /// # Errors
    /// When it has an invalid value.
    #[cfg(any(test, fuzzing))]
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Self::of(parse(text, Path::new("config.toml"))?, Settings::default())
    }

    /// Makes the configuration of the settings in the file and of the flags. A flag overrides the file.
    fn of(file: Settings, flags: Settings) -> Result<Self, ConfigError> {
        let state_dir = flags.state_dir.or(file.state_dir).unwrap_or_else(|| DEFAULT_STATE_DIR.into());
        if state_dir.as_os_str().is_empty() {
            return Err(ConfigError::StateDir);
        }
        let socket = flags.socket.map(socket_from_here).or(file.socket).unwrap_or_else(|| DEFAULT_SOCKET.to_owned());
        let socket = socket.parse()?;
        let metrics_listen = flags.metrics_listen.map(from_here).or(file.metrics_listen);
        let metrics_listen = metrics_listen.map(|text| text.parse()).transpose()?;
        let provider_name = flags.provider_name.or(file.provider_name).unwrap_or_else(|| DEFAULT_PROVIDER.to_owned());
        Ok(Self {
            state_dir: canonical(&state_dir),
            passphrase_file: flags.passphrase_file.or(file.passphrase_file),
            metrics_listen: apart_from(&socket, metrics_listen)?,
            socket,
            socket_access: Access { group: flags.socket_group.or(file.socket_group) },
            allow_uid: flags.allow_uid.or(file.allow_uid).unwrap_or_default(),
            provider_name: check_provider_name(provider_name)?,
            without: flags.without.or(file.without).unwrap_or_default(),
            log_level: flags.log_level.or(file.log_level).unwrap_or(LogLevel::Info),
            backups: flags.backups.or(file.backups).unwrap_or_default(),
            cluster: Cluster {
                etcd: Servers {
                    urls: flags.etcd_servers.or(file.etcd_servers).unwrap_or_default(),
                    cafile: flags.etcd_cafile.or(file.etcd_cafile),
                    certfile: flags.etcd_certfile.or(file.etcd_certfile),
                    keyfile: flags.etcd_keyfile.or(file.etcd_keyfile),
                },
                prefix: flags.etcd_prefix.or(file.etcd_prefix),
                // A flag that names a process takes precedence over a manifest in the configuration file.
                manifest: flags
                    .apiserver_manifest
                    .or(file.apiserver_manifest.filter(|_| flags.apiserver_process.is_none())),
                process: flags.apiserver_process,
                encryption_config: flags.encryption_config.or(file.encryption_config),
                feature_gates: flags.feature_gates,
            },
        })
    }
}

/// Reads the settings of `file`, or of the default file. Without `file`, a missing default file gives no settings.
fn read_file(file: Option<&Path>) -> Result<Settings, ConfigError> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    let unreadable = |source| ConfigError::Read { path: path.to_owned(), source };
    let bytes = match read_trusted(path, FILE_MAX) {
        Ok(bytes) => bytes,
        Err(InputError::Io(error)) if error.kind() == io::ErrorKind::NotFound && file.is_none() => {
            return Ok(Settings::default());
        }
        Err(InputError::Io(error)) => return Err(unreadable(error)),
        Err(InputError::Untrusted(reason)) => return Err(ConfigError::Untrusted { path: path.to_owned(), reason }),
    };
    let not_utf8 = |_| unreadable(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"));
    let settings = parse(str::from_utf8(&bytes).map_err(not_utf8)?, path)?;
    check_absolute(&settings, path)?;
    Ok(settings)
}

/// Checks that a connection to `etcd` uses the file for TLS that a flag names. Otherwise the operator would think that
/// the connection is secured. The file of the configuration may name certificates for another etcd than a flag does.
fn check_used(flag: &'static str, path: PathBuf, etcd: &Servers) -> Result<(), ConfigError> {
    if etcd.urls.is_empty() {
        return Err(ConfigError::UnusedFile { flag, path });
    }
    let secures = |url: &String| match url.split(':').next() {
        Some("https" | "unixs") => true,
        Some("unix") => etcd.cafile.is_some(),
        _ => false,
    };
    if etcd.urls.iter().any(secures) { Ok(()) } else { Err(ConfigError::NoTls { flag, path }) }
}

/// Refuses relative paths. A daemon and a command run in different directories, and would find different files.
fn check_absolute(settings: &Settings, path: &Path) -> Result<(), ConfigError> {
    let paths = [
        ("state-dir", &settings.state_dir),
        ("passphrase-file", &settings.passphrase_file),
        ("etcd-cafile", &settings.etcd_cafile),
        ("etcd-certfile", &settings.etcd_certfile),
        ("etcd-keyfile", &settings.etcd_keyfile),
        ("apiserver-manifest", &settings.apiserver_manifest),
        ("encryption-config", &settings.encryption_config),
    ];
    let mut given = paths.into_iter().filter_map(|(key, value)| Some((key, value.as_ref()?)));
    match given.find(|(_, value)| value.is_relative() && !value.as_os_str().is_empty()) {
        Some((key, value)) => Err(ConfigError::Relative { path: path.to_owned(), key, value: value.clone() }),
        None => Ok(()),
    }
}

/// Makes a relative path on the command line absolute, if `address` is one.
fn from_here(address: String) -> String {
    let is_path = address.contains('/') || Path::new(&address).extension().is_some_and(|it| it == "sock");
    if !is_path || address.starts_with(['/', '@']) || address.contains(':') {
        return address;
    }
    std::path::absolute(&address).map_or(address, |path| path.display().to_string())
}

/// Makes the address of the plugin's socket absolute, as [`from_here`] does. A name with an extension, such as
/// `kms.socket`, is a path, too. A bare name may mean an abstract socket, so it is refused.
fn socket_from_here(address: String) -> String {
    let is_name = !address.contains(['/', ':']) && !address.starts_with('@');
    if is_name && Path::new(&address).extension().is_some() {
        return from_here(format!("./{address}"));
    }
    from_here(address)
}

/// Makes a path absolute and canonical: `st`, `./st` and `st/` become the same.
fn canonical(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned()).components().collect()
}

fn parse(text: &str, path: &Path) -> Result<Settings, ConfigError> {
    toml::from_str(text).map_err(|error| {
        let line = error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        let path = path.to_owned();
        if let Some(((key, value), line)) = error.span().and_then(|span| no_list(text, span, error.message())).zip(line)
        {
            return ConfigError::NoList { path, line, key, value };
        }
        if let Some((key, line)) = unknown_key(error.message()).zip(line) {
            return ConfigError::UnknownKey { path, line, key };
        }
        match error.span().and_then(|span| wrong_value(text, span.start)).zip(line) {
            Some(((key, kind, value), line)) => ConfigError::Value { path, line, key, value, kind },
            None => ConfigError::Syntax { path, line, reason: on_one_line(error.message()) },
        }
    })
}

/// Returns the key that no setting has, if that is what a message of the TOML reader says.
fn unknown_key(message: &str) -> Option<String> {
    let (key, _) = message.strip_prefix("unknown field `")?.rsplit_once("`, expected one of `state-dir`")?;
    Some(key.to_owned())
}

/// Returns the setting whose value is at `start`, the kind of value that it should have, and its value as the file has
/// it.
fn wrong_value(text: &str, start: usize) -> Option<(&'static str, ValueKind, String)> {
    let before = text.get(..start)?;
    let begin = before.rfind('\n').map_or(0, |end| end + 1);
    let (name, value) = text.get(begin..)?.lines().next()?.split_once('=')?;
    let (key, kind) = KINDS.into_iter().find(|(key, _)| *key == name.trim())?;
    let value = if value.contains(['"', '\'']) { value } else { value.split('#').next()? };
    // A value that spans several lines is not shown.
    let is_whole = !value.contains("'''") && !value.contains("\"\"\"");
    (is_whole && start > begin + name.len()).then(|| (key, kind, on_one_line(value.trim())))
}

/// Returns the setting at `span` and its value, if the TOML reader expected a list there.
fn no_list(text: &str, span: Range<usize>, message: &str) -> Option<(String, String)> {
    let is_list = message.ends_with("expected a sequence");
    let (before, value) = (text.get(..span.start)?, text.get(span)?);
    let key = before.lines().next_back()?.trim().strip_suffix('=')?.trim_end();
    let is_plain = |key: &str| key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    let is_one_line = !value.contains('\n');
    (is_list && is_plain(key) && is_one_line).then(|| (key.to_owned(), on_one_line(value)))
}

/// Puts a message of the TOML reader, which may quote the file, on one line without control characters.
fn on_one_line(message: &str) -> String {
    let line = message.lines().collect::<Vec<_>>().join(" ");
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    line.chars().map(shown).collect()
}

/// Checks that the two sockets have different paths. If systemd made the plugin's socket, the metrics' socket would
/// otherwise replace it.
fn apart_from(socket: &Address, metrics: Option<MetricsAddress>) -> Result<Option<MetricsAddress>, ConfigError> {
    match (metrics, socket) {
        (Some(MetricsAddress::Socket(path)), Address::Path(socket)) if path == *socket => {
            Err(ConfigError::MetricsOnSocket(path))
        }
        #[cfg(not(feature = "metrics"))]
        (Some(address), _) => Err(ConfigError::NoMetrics(address)),
        (metrics, _) => Ok(metrics),
    }
}

/// Checks the name of the provider. kube-apiserver refuses an empty name and a name with a colon. The other rules keep
/// the name readable in every place.
fn check_provider_name(name: String) -> Result<String, ConfigError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=63).contains(&name.len()) && name.bytes().all(plain) {
        Ok(name)
    } else {
        Err(ConfigError::ProviderName(name))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn settings(text: &str) -> Result<Settings, ConfigError> {
        parse(text, Path::new("config.toml"))
    }

    #[test]
    fn a_flag_goes_over_the_file_and_the_file_over_the_default() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "state-dir = '/a'\nsocket = '/run/b/s'\nallow-uid = [7]\nlog-level = 'debug'\n")
            .unwrap();
        let flags = Settings { socket: Some("@kms".to_owned()), ..Settings::default() };
        let config = Config::load(Some(file.path()), flags).unwrap();
        assert_eq!(config.state_dir, Path::new("/a"));
        assert_eq!(config.socket, "@kms".parse().unwrap());
        assert_eq!((config.allow_uid, config.log_level), (vec![7], LogLevel::Debug));
        assert_eq!(config.provider_name, DEFAULT_PROVIDER);
    }

    #[test]
    fn a_relative_path_is_taken_from_the_command_line_and_refused_in_a_file() {
        let here = std::env::current_dir().unwrap();
        let empty = tempfile::NamedTempFile::new().unwrap();
        for (socket, state_dir) in
            [("run/kms.sock", "st"), ("kms.sock", "st/"), ("./kms.sock", "./st"), ("pw.txt", "st")]
        {
            let (socket, state_dir) = (Some(socket.to_owned()), Some(state_dir.into()));
            let flags = Settings { socket: socket.clone(), state_dir, ..Settings::default() };
            let (socket, config) = (socket.unwrap(), Config::load(Some(empty.path()), flags).unwrap());
            assert_eq!(config.state_dir, here.join("st"));
            assert_eq!(config.socket, Address::Path(here.join(socket.trim_start_matches("./"))));
        }
        assert_eq!(from_here("run/metrics.sock".to_owned()), here.join("run/metrics.sock").display().to_string());
        for other in ["", "@name", "unix:///run/s", "127.0.0.1:9808", "[::1]:9808", "9808"] {
            assert_eq!(from_here(other.to_owned()), other);
        }
        fs::write(empty.path(), "etcd-cafile = 'ca.crt'\n").unwrap();
        let error = Config::load(Some(empty.path()), Settings::default()).unwrap_err().to_string();
        assert!(error.ends_with(": etcd-cafile = \"ca.crt\": expected an absolute path"), "{error}");
        fs::write(empty.path(), "socket = 'run/kms.sock'\n").unwrap();
        let error = Config::load(Some(empty.path()), Settings::default()).unwrap_err().to_string();
        assert_eq!(error, "socket address \"run/kms.sock\": expected an absolute path, or @ and a name");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = settings("socket = '@a'\nsokcet = '@b'\n").unwrap_err().to_string();
        assert_eq!(error, "configuration config.toml, line 2: \"sokcet\" is no setting");
    }

    #[test]
    fn a_control_character_in_a_value_is_shown_escaped() {
        let error = settings("log-level = \"de\\rbug\"\n").unwrap_err().to_string();
        assert!(
            error.starts_with("configuration config.toml, line 1: log-level = \"de\\rbug\": expected one of"),
            "{error}"
        );
        let error = settings("log-level = \"de\u{1}bug\"\n").unwrap_err().to_string();
        assert!(error.contains("\"de\\u{1}bug\""), "{error}");
    }

    #[test]
    fn metrics_are_served_on_loopback_and_on_paths_only() {
        for (text, shown) in [
            ("127.0.0.1:9808", "127.0.0.1:9808"),
            ("127.9.9.9:0", "127.9.9.9:0"),
            ("[::1]:9808", "[::1]:9808"),
            ("/run/claviger/metrics.sock", "/run/claviger/metrics.sock"),
            ("unix:///run/claviger/metrics.sock", "/run/claviger/metrics.sock"),
        ] {
            assert_eq!(text.parse::<MetricsAddress>().unwrap().to_string(), shown);
        }
        for text in ["0.0.0.0:9808", "[::]:9808", "192.168.0.7:9808", "[::ffff:127.0.0.1]:9808", "8.8.8.8:1"] {
            let error = text.parse::<MetricsAddress>().unwrap_err().to_string();
            assert_eq!(error, format!("refusing to serve metrics on {text}: not a loopback address"));
        }
        for text in ["", "9808", ":9808", "127.0.0.1", "localhost:9808", "127.0.0.1:65536", "metrics.sock", "@name"] {
            let error = text.parse::<MetricsAddress>().unwrap_err().to_string();
            let expected = "expected an IP address and a port, or the absolute path of a socket";
            assert_eq!(error, format!("metrics address {text:?}: {expected}"));
        }
        for text in ["/@name", "unix:///@name"] {
            let error = text.parse::<MetricsAddress>().unwrap_err().to_string();
            assert!(error.ends_with("expected a path, which has permissions; an abstract socket has none"), "{error}");
        }
        let error = "/run/".parse::<MetricsAddress>().unwrap_err().to_string();
        assert_eq!(error, "metrics: socket address \"/run/\": expected a name at its end");
    }

    #[test]
    fn the_plugins_own_socket_is_not_for_metrics() {
        let flags = |metrics: &str| Settings {
            socket: Some("/run/claviger/kms.sock".to_owned()),
            metrics_listen: Some(metrics.to_owned()),
            ..Settings::default()
        };
        let empty = tempfile::NamedTempFile::new().unwrap();
        let load = |metrics| Config::load(Some(empty.path()), flags(metrics));
        let error = load("unix:///run/claviger//kms.sock").unwrap_err().to_string();
        assert_eq!(error, "refusing to serve metrics on /run/claviger//kms.sock: it is the plugin's own socket");
        #[cfg(feature = "metrics")]
        assert!(load("/run/claviger/metrics.sock").unwrap().metrics_listen.is_some());
        assert_eq!(Config::load(Some(empty.path()), Settings::default()).unwrap().metrics_listen, None);
    }

    #[test]
    fn provider_names_that_kubernetes_refuses_are_refused() {
        for name in ["", "a:b", "a b", "a\n", &"a".repeat(64)] {
            assert!(matches!(check_provider_name(name.to_owned()), Err(ConfigError::ProviderName(_))), "{name:?}");
        }
        assert!(check_provider_name("claviger-2.example_x".to_owned()).is_ok());
    }
}
