//! The arguments that several verbs have, and the configuration that they make together with the configuration file.

use std::path::PathBuf;

use clap::{
    Args, ValueEnum,
    builder::{PathBufValueParser, TypedValueParser},
};

use super::given::Given;
use crate::{
    config::{Config, ConfigError, Settings},
    keyring::key_id::KeyId,
};

/// The default name of the credential of a slot.
pub(super) const CREDENTIAL: &str = "claviger-root";

/// The error for an argument with a value that it cannot have. Contains the expected form.
#[derive(Debug, thiserror::Error)]
#[error("expected {0}")]
pub(super) struct Expected(pub(super) &'static str);

/// Parses the path of a file or directory to write. Refuses `-`, which would be a file of this name, because standard
/// output has the report.
pub(super) fn named() -> impl TypedValueParser<Value = PathBuf> {
    let is_named = |path: PathBuf| {
        let expected = Expected("a name: standard output has the report; ./- is a file of this name");
        if path.as_os_str() == "-" { Err(expected) } else { Ok(path) }
    };
    PathBufValueParser::new().try_map(is_named)
}

/// Parses a whole key_id. A number alone does not prove that the operator means this key.
///
/// # Errors
/// When it is not a full key_id.
pub(super) fn full_key_id(text: &str) -> Result<KeyId, Expected> {
    text.parse().map_err(|_| Expected("a key_id in full, k<number>-<32 hex digits>, as `claviger key list` prints it"))
}

/// What every verb has.
#[derive(Args)]
#[command(next_help_heading = "Options of every command")]
pub(super) struct Global {
    /// Configuration file [default: /etc/claviger/config.toml if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Output as text for people, or as JSON for programs
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "FORMAT",
        default_value_t = Format::Text,
        hide_default_value = true
    )]
    pub(super) output: Format,
    /// Print only results and errors, without progress and advice on what to do next
    #[arg(long, global = true)]
    pub(super) quiet: bool,
    /// The flags that suggested commands repeat.
    #[arg(skip)]
    pub(super) given: Given,
}

impl Global {
    /// Whether progress and advice are printed.
    pub(super) fn is_for_people(&self) -> bool {
        !self.quiet && self.output == Format::Text
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    Text,
    Json,
}

impl Global {
    /// Returns the configuration of the configuration file, overridden by `flags`.
    ///
    /// # Errors
    /// When the file or a flag is invalid.
    pub(super) fn config(&self, flags: Settings) -> Result<Config, ConfigError> {
        Config::load(self.config.as_deref(), flags)
    }
}

/// Where the keys are.
#[derive(Args, Default)]
pub(super) struct StateDir {
    /// Directory of the keyring, the root file and the mark [default: /var/lib/claviger]
    #[arg(long, value_name = "DIR")]
    pub(super) state_dir: Option<PathBuf>,
}

impl StateDir {
    /// Returns the settings of these flags.
    pub(super) fn settings(self) -> Settings {
        Settings { state_dir: self.state_dir, ..Settings::default() }
    }
}

/// A keyring, and what opens it.
#[derive(Args, Default)]
pub(super) struct KeyringArgs {
    #[command(flatten)]
    state_dir: StateDir,
    /// File with the passphrase of a slot, /dev/fd/N for a descriptor, or - for standard input [default: ask on the
    /// terminal if no other slot opens]
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

impl KeyringArgs {
    /// Whether a flag names the state directory.
    #[cfg(feature = "scan")]
    pub(super) fn has_state_dir(&self) -> bool {
        self.state_dir.state_dir.is_some()
    }

    /// Returns the settings of these flags.
    pub(super) fn settings(self) -> Settings {
        Settings { passphrase_file: self.passphrase_file, ..self.state_dir.settings() }
    }
}

/// Where the plugin is reached.
#[derive(Args)]
pub(super) struct Socket {
    /// Socket of the plugin: a path, `unix:///path`, or `@name` (abstract) [default: /run/claviger/kms.sock]
    #[arg(long, value_name = "SOCKET")]
    pub(super) socket: Option<String>,
}
