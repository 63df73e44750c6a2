//! Text to a validated [`Config`]: every check happens here, once. A flag goes over the file, the file over the default.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::grpc::socket::{Access, Address, SocketError};

/// Read if it exists and no other is named.
const DEFAULT_FILE: &str = "/etc/claviger/config.toml";
const DEFAULT_STATE_DIR: &str = "/var/lib/claviger";
const DEFAULT_SOCKET: &str = "/run/claviger/kms.sock";
const DEFAULT_PROVIDER: &str = "claviger";

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// An operator must act.
    Error,
    /// It healed itself.
    Warn,
    /// A state changed.
    Info,
    /// Every call.
    Debug,
}

/// What may be said in the file, or by flags.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Settings {
    pub state_dir: Option<PathBuf>,
    pub socket: Option<String>,
    pub socket_group: Option<u32>,
    pub allow_uid: Option<Vec<u32>>,
    pub provider_name: Option<String>,
    pub log_level: Option<LogLevel>,
}

/// A valid configuration.
#[derive(Debug)]
pub struct Config {
    /// Where keyring, root file and mark are.
    pub state_dir: PathBuf,
    /// Where the API server reaches the plugin.
    pub socket: Address,
    /// Who may open it.
    pub socket_access: Access,
    /// Who may connect, besides root and the plugin's own user.
    pub allow_uid: Vec<u32>,
    /// The name of the provider in `EncryptionConfiguration`; part of every stored value.
    pub provider_name: String,
    /// How much is logged.
    pub log_level: LogLevel,
}

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error("configuration {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not TOML, or has an unknown key.
    #[error("configuration {}{}: {reason}", path.display(), line.map_or_else(String::new, |line| format!(", line {line}")))]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Where, counted from one.
        line: Option<usize>,
        /// What is wrong.
        reason: String,
    },
    /// The state directory has no name.
    #[error("the state directory has an empty name")]
    StateDir,
    /// The socket's address.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The provider's name.
    #[error("provider name {0:?} is not 1 to 63 of a-z, A-Z, 0-9, '.', '_' and '-'")]
    ProviderName(String),
}

impl Config {
    /// The configuration of `file`, or of the default file if there is one, with `flags` over it.
    ///
    /// # Errors
    /// When the file cannot be read or says something invalid, or a flag does.
    pub fn load(file: Option<&Path>, flags: Settings) -> Result<Self, ConfigError> {
        let file = read_file(file)?;
        let state_dir = flags.state_dir.or(file.state_dir).unwrap_or_else(|| DEFAULT_STATE_DIR.into());
        if state_dir.as_os_str().is_empty() {
            return Err(ConfigError::StateDir);
        }
        let socket = flags.socket.or(file.socket).unwrap_or_else(|| DEFAULT_SOCKET.to_owned());
        let provider_name = flags.provider_name.or(file.provider_name).unwrap_or_else(|| DEFAULT_PROVIDER.to_owned());
        Ok(Self {
            state_dir,
            socket: socket.parse()?,
            socket_access: Access { group: flags.socket_group.or(file.socket_group) },
            allow_uid: flags.allow_uid.or(file.allow_uid).unwrap_or_default(),
            provider_name: check_provider_name(provider_name)?,
            log_level: flags.log_level.or(file.log_level).unwrap_or(LogLevel::Info),
        })
    }
}

fn read_file(file: Option<&Path>) -> Result<Settings, ConfigError> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE));
    match fs::read_to_string(path) {
        Ok(text) => parse(&text, path),
        Err(error) if error.kind() == io::ErrorKind::NotFound && file.is_none() => Ok(Settings::default()),
        Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
    }
}

fn parse(text: &str, path: &Path) -> Result<Settings, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::Syntax {
        path: path.to_owned(),
        line: error.span().map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count()),
        reason: error.message().lines().collect::<Vec<_>>().join(" "),
    })
}

/// kube-apiserver refuses an empty name and one with a colon; the rest keeps the name readable wherever it stands.
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
    fn an_unknown_key_is_named_with_its_line() {
        let error = settings("socket = '@a'\nsokcet = '@b'\n").unwrap_err().to_string();
        assert!(error.starts_with("configuration config.toml, line 2: unknown field `sokcet`"), "{error}");
    }

    #[test]
    fn provider_names_that_kubernetes_refuses_are_refused() {
        for name in ["", "a:b", "a b", "a\n", &"a".repeat(64)] {
            assert!(matches!(check_provider_name(name.to_owned()), Err(ConfigError::ProviderName(_))), "{name:?}");
        }
        assert!(check_provider_name("claviger-2.example_x".to_owned()).is_ok());
    }
}
