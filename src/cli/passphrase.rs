//! Reads passphrases for every verb that opens a keyring: from a file, a descriptor, standard input or the terminal.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use zeroize::Zeroizing;

use crate::{
    config::Config,
    durable::{Dir, is_passed_on, open_input},
    hardening, keeper,
    root::{Kind, Means, Passphrase, PassphraseError, Passphrases},
};

use super::{
    failure::{self, Exit, Failure},
    given::quoted,
    prompt::ask_hidden,
};

/// The greatest number of bytes that are read, which is more than any passphrase has.
const LIMIT: usize = 2 * Passphrase::MAX;

/// The source of passphrases.
#[derive(Debug)]
enum PassphraseSource {
    /// A file that can be read again each time.
    File(PathBuf),
    /// A passphrase that was read at once, because its pipe or descriptor can be read only once.
    Given(Mutex<Option<Arc<Passphrase>>>),
    /// The terminal. Each slot's passphrase is asked for once.
    Terminal(Mutex<BTreeMap<String, Arc<Passphrase>>>),
}

impl Passphrases for PassphraseSource {
    fn of(&self, slot: &str, nth: u32) -> io::Result<Option<Arc<Passphrase>>> {
        match self {
            Self::File(_) | Self::Given(_) if nth > 0 => Ok(None),
            Self::File(path) => match read(path) {
                Ok(passphrase) => Ok(Some(Arc::new(passphrase))),
                Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
            },
            Self::Given(given) => Ok(given.lock().unwrap_or_else(PoisonError::into_inner).clone()),
            Self::Terminal(known) => {
                let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(passphrase) = known.get(slot).filter(|_| nth == 0) {
                    return Ok(Some(Arc::clone(passphrase)));
                }
                let again = if nth > 0 { "wrong passphrase; " } else { "" };
                let asked = Arc::new(ask(&format!("{again}passphrase of slot {slot}: "))?);
                known.insert(slot.to_owned(), Arc::clone(&asked));
                Ok(Some(asked))
            }
        }
    }

    fn forget(&self) {
        match self {
            Self::File(_) => {}
            Self::Given(given) => *given.lock().unwrap_or_else(PoisonError::into_inner) = None,
            Self::Terminal(known) => known.lock().unwrap_or_else(PoisonError::into_inner).clear(),
        }
    }
}

/// Returns the secrets with which a command opens slots.
///
/// # Errors
/// When a given passphrase cannot be read, or is not allowed.
pub(super) fn means(config: &Config) -> Result<Means, Failure> {
    hardening::lock_memory();
    Ok(match source(config.passphrase_file.as_deref())? {
        Some(source) => Means::new(Means::credentials_directory(), Box::new(source)),
        None => Means::new(Means::credentials_directory(), Box::new(PassphraseSource::Given(Mutex::default()))),
    })
}

/// Returns the secrets with which a daemon opens slots. If nothing else opens its keyring, it asks for a passphrase
/// before it gives up the terminal.
///
/// # Errors
/// As [`means`].
pub(super) fn means_of_daemon(config: &Config, dir: Option<&Dir>) -> Result<Means, Failure> {
    let source = match source(config.passphrase_file.as_deref())? {
        Some(PassphraseSource::Terminal(_)) | None => {
            let slots = dir.and_then(|dir| keeper::slots(dir).ok()).unwrap_or_default();
            let needs_somebody = !slots.is_empty() && slots.iter().all(|slot| slot.kind == Kind::Passphrase);
            let asks = needs_somebody && io::stdin().is_terminal();
            let asked = asks.then(|| ask(&format!("passphrase of slot {}: ", slots[0].name)));
            let asked = asked.transpose().map_err(|error| unreadable("the terminal", &error))?;
            PassphraseSource::Given(Mutex::new(asked.map(Arc::new)))
        }
        Some(source) => source,
    };
    Ok(Means::new(Means::credentials_directory(), Box::new(source)))
}

/// Reads a new passphrase from a file, or asks for it twice on the terminal.
///
/// # Errors
/// When it cannot be read, is too short or too long, or was typed differently the second time.
pub(super) fn choose(file: Option<&Path>) -> Result<Passphrase, Failure> {
    hardening::lock_memory();
    let refused = |error: &dyn std::fmt::Display| Failure::new(Exit::Usage, &format!("new passphrase: {error}"), None);
    let bytes = match file {
        Some(path) => read_bytes(path).map_err(|error| unreadable_file(path, &error))?,
        None if io::stdin().is_terminal() => {
            let [first, second] = ["new passphrase: ", "repeat it: "].map(ask_hidden);
            let first = first.map_err(|error| unreadable("the terminal", &error))?;
            if *second.map_err(|error| unreadable("the terminal", &error))? != *first {
                return Err(refused(&"the two entries differ"));
            }
            first
        }
        None => {
            return Err(refused(&"there is no terminal to ask on")
                .with_hint("give --new-passphrase-file FILE, or - for standard input"));
        }
    };
    Passphrase::choose(&bytes).map_err(|error| refused(&error).with_any_hint(longer(&error)))
}

/// Returns the hint for a new passphrase that is too short.
fn longer(error: &PassphraseError) -> Option<String> {
    let is_short = matches!(error, PassphraseError::Empty | PassphraseError::TooShort);
    is_short.then(|| {
        "take several random words, which nobody guesses who has the disk; to make one: head -c 20 /dev/urandom | base32".to_owned()
    })
}

fn source(file: Option<&Path>) -> Result<Option<PassphraseSource>, Failure> {
    match file {
        Some(path) if is_read_once(path) => {
            let given = read(path).map_err(|error| unreadable_file(path, &error))?;
            Ok(Some(PassphraseSource::Given(Mutex::new(Some(Arc::new(given))))))
        }
        Some(path) => Ok(Some(PassphraseSource::File(path.to_owned()))),
        None if io::stdin().is_terminal() => Ok(Some(PassphraseSource::Terminal(Mutex::default()))),
        None => Ok(None),
    }
}

/// Whether the path is standard input or a descriptor, which can be read only once.
fn is_read_once(path: &Path) -> bool {
    path == Path::new("-") || is_passed_on(path)
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::Usage, &format!("reading a passphrase from {name}: {error}"), None)
}

fn unreadable_file(path: &Path, error: &io::Error) -> Failure {
    let failure = unreadable(&path.display().to_string(), error);
    let others_read = path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & OTHERS != 0);
    let hint = match failure::unreadable(path, error) {
        _ if path == Path::new("-") => None,
        None if others_read => Some(format!("chmod 0600 {}", quoted(path))),
        hint => hint,
    };
    failure.with_any_hint(hint).without("passphrase-file")
}

/// The mode bits of group and others.
const OTHERS: u32 = 0o077;

fn read(path: &Path) -> io::Result<Passphrase> {
    Passphrase::new(&read_bytes(path)?).map_err(to_io)
}

fn read_bytes(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    if path == Path::new("-") {
        return read_limited(io::stdin().lock());
    }
    let file = open_input(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.permissions().mode() & OTHERS != 0 {
        return Err(io::Error::other("others may read it, expected mode 0600"));
    }
    read_limited(file)
}

fn read_limited(reader: impl Read) -> io::Result<Zeroizing<Vec<u8>>> {
    // The buffer has its full size from the start: a buffer that grows leaves copies in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LIMIT));
    reader.take(LIMIT as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn ask(prompt: &str) -> io::Result<Passphrase> {
    Passphrase::new(&ask_hidden(prompt)?).map_err(to_io)
}

fn to_io(error: PassphraseError) -> io::Error {
    io::Error::other(error)
}
