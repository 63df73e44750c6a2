//! The identities that several verbs read: from files, standard input or the terminal.

use std::{
    io::{self, IsTerminal, Read},
    path::{Path, PathBuf},
};

use clap::Args;
use zeroize::Zeroizing;

use super::{
    failure::{Exit, Failure, reading_settings, unreadable},
    given::quoted,
    prompt::ask_hidden,
};
#[cfg(feature = "shares")]
use crate::escrow::share::shares_in;
use crate::{
    durable::open_input,
    escrow::{Identities, IdentityError, NotRecipient, Recipient},
    hardening,
};

/// The greatest length of an identity file in bytes.
const IDENTITY_MAX: usize = 64 * 1024;

/// The flag that says where identities come from.
#[derive(Args, Default)]
pub(super) struct IdentityArgs {
    /// File with the identity, or with shares of it, or - for standard input; may be given several times [default: ask
    /// on the terminal]
    #[arg(long, value_name = "FILE")]
    recovery_identity: Vec<PathBuf>,
}

impl IdentityArgs {
    /// Reads the identity, or combines it from its shares.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub(super) fn read(&self, purpose: Purpose) -> Result<Identities, Failure> {
        identities(&self.recovery_identity, purpose)
    }
}

/// The purpose of an identity.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    /// The identity of a new recipient, to prove that somebody has it.
    Accept,
    /// The identity that opens a backup or a recovery blob, or that is split.
    Open,
}

/// Parses a recipient. An operator who gives a file probably means the recipient of the identity in that file.
///
/// # Errors
/// When it is no recipient.
pub(super) fn recipient(text: &str) -> Result<Recipient, Failure> {
    let refused = |error: NotRecipient| match error {
        NotRecipient::Other if Path::new(text).is_file() => {
            let hint =
                format!("if this is an identity file, this prints its recipient: age-keygen -y {}", quoted(text));
            Failure::from(error).with_hint(&hint)
        }
        error => Failure::from(error),
    };
    text.parse().map_err(refused)
}

/// Reads identities, or shares of an identity, from files, from standard input, or from the terminal.
///
/// # Errors
/// When there are none, or they cannot be read.
pub(super) fn identities(files: &[PathBuf], purpose: Purpose) -> Result<Identities, Failure> {
    hardening::lock_memory();
    // Each share may be in its own file.
    let mut text = Zeroizing::new(String::with_capacity(files.len().max(1) * (IDENTITY_MAX + 1)));
    let mut wrong = None;
    for file in files.iter().map(|file| Some(&**file)).chain(files.is_empty().then_some(None)) {
        let one = read_identities(file, purpose)?;
        // Each file is read separately, so that an error names the file and the line in it.
        let name = || named(file);
        #[cfg(feature = "shares")]
        shares_in(&one).map_err(|error| Failure::from(error).about(&name()))?;
        if Identities::parse(&one).is_err_and(|error| error == IdentityError::NotIdentity) {
            wrong = wrong.or_else(|| Some(name()));
        }
        text.push_str(&one);
        text.push('\n');
    }
    Identities::parse(&text).map_err(|error| match wrong {
        Some(name) if error == IdentityError::NotIdentity => Failure::from(error).about(&name),
        _ => Failure::from(error),
    })
}

/// Returns the name of a file in messages, or of the terminal.
fn named(file: Option<&Path>) -> String {
    match file {
        None => "the terminal".to_owned(),
        Some(file) if file == Path::new("-") => "standard input".to_owned(),
        Some(file) => file.display().to_string(),
    }
}

/// Reads the text of an identity or of shares from `file`, or else from the terminal.
fn read_identities(file: Option<&Path>, purpose: Purpose) -> Result<Zeroizing<String>, Failure> {
    let failed = |name: &str, error: io::Error| {
        let what = format!("reading the recovery identity from {name}");
        if error.kind() == io::ErrorKind::InvalidData {
            let hint = "give a file that `age-keygen` wrote, or shares of it: these are text".to_owned();
            return Failure::new(Exit::Usage, &format!("{what}: it is not UTF-8"), hint);
        }
        let hint = file.and_then(|file| unreadable(file, &error));
        Failure::new(reading_settings(&error), &format!("{what}: {error}"), hint)
    };
    match file {
        Some(path) if path == Path::new("-") => {
            read_limited(io::stdin().lock()).map_err(|error| failed("standard input", error))
        }
        Some(path) if path.to_string_lossy().starts_with("AGE-SECRET-KEY-") => Err(Failure::new(
            Exit::Usage,
            &"--recovery-identity takes a file with the identity, not the identity itself",
            "it may now be in your shell's history and in the process list: make a new identity".to_owned(),
        )),
        Some(path) if path.to_string_lossy().starts_with("age1") && !path.exists() => Err(Failure::new(
            Exit::Usage,
            &"--recovery-identity takes a file with the identity, and this is a recipient, which opens nothing",
            "give the file that `age-keygen -o FILE` wrote when it printed this recipient: --recovery-identity FILE"
                .to_owned(),
        )
        .without("recovery-identity")),
        Some(path) => {
            open_input(path).and_then(read_limited).map_err(|error| failed(&path.display().to_string(), error))
        }
        None if io::stdin().is_terminal() => ask_hidden(
            "recovery identity, its line AGE-SECRET-KEY-1… (for a file or shares, use --recovery-identity FILE): ",
        )
        .and_then(|line| read_limited(&line[..]))
        .map_err(|error| failed("the terminal", error)),
        None => Err(Failure::new(
            Exit::Usage,
            &match purpose {
                Purpose::Accept => {
                    "no recovery identity was given: a recipient is accepted only if its identity is tried"
                }
                Purpose::Open => "no recovery identity was given, and there is no terminal to ask on",
            },
            "give --recovery-identity FILE, or - for standard input; it is read once and not stored".to_owned(),
        )),
    }
}

fn read_limited(reader: impl Read) -> io::Result<Zeroizing<String>> {
    // The string has room for everything from the start: a string that grows leaves copies in memory.
    let mut text = Zeroizing::new(String::with_capacity(IDENTITY_MAX + 1));
    reader.take(IDENTITY_MAX as u64 + 1).read_to_string(&mut text)?;
    if text.len() > IDENTITY_MAX { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(text) }
}
