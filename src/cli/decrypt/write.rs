//! Writes recovered objects into a directory or to standard output.

use std::{
    io::{self, BufWriter, IsTerminal},
    path::Path,
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};

use rustix::fs::{FileType, fstat};

use super::{
    super::{
        Global,
        failure::{Exit, Failure},
        output::{self, OutputError},
        runtime::event_loop,
    },
    args::DecryptArgs,
    names::file_names,
    stream::ObjectStream,
};
use crate::{
    durable::{DurableError, ExportTree},
    recover::{Form, OpenedPart},
};

/// The directory while it is written. Ctrl-C takes the tree out, and so removes the directory.
type SharedTree = Arc<Mutex<Option<ExportTree>>>;

/// The destination of the objects.
pub(super) enum ObjectTarget {
    /// A directory. Contains the prefix of all keys, which file names leave out.
    Directory(SharedTree, String),
    /// Standard output, as a stream.
    Stream(ObjectStream<BufWriter<io::Stdout>>),
}

/// Why an object cannot be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// The file of the object cannot be written.
    #[error(transparent)]
    File(#[from] DurableError),
    /// Standard output is closed or full.
    #[error(transparent)]
    Output(#[from] OutputError),
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::File(error) => Self::export(&error),
            WriteError::Output(error) => error.into(),
        }
    }
}

impl ObjectTarget {
    /// Prepares the destination. `prefix` is the prefix of all keys in etcd.
    ///
    /// # Errors
    /// When the directory cannot be made, or standard output is a terminal that was not asked for.
    pub(super) fn prepare(args: &DecryptArgs, form: Form, prefix: &str, global: &Global) -> Result<Self, Failure> {
        if let Some(path) = &args.to {
            let tree = ExportTree::create(path).map_err(|error| not_made(&error))?;
            let tree = Arc::new(Mutex::new(Some(tree)));
            remove_on_interrupt(&tree)?;
            return Ok(Self::Directory(tree, prefix.to_owned()));
        }
        check_terminal(args)?;
        if is_readable_by_others() {
            let line =
                "! other users may read the file that this is written to: run `umask 077` before, or use --to DIR";
            output::aside(line, global);
        }
        let out = BufWriter::with_capacity(1 << 16, io::stdout());
        Ok(Self::Stream(ObjectStream { out, form, is_one: args.chosen.is_one() }))
    }

    /// Writes the objects of `part`.
    pub(super) fn write(&mut self, part: &OpenedPart) -> Result<(), WriteError> {
        match self {
            Self::Stream(stream) => Ok(stream.write(part).map_err(OutputError::from)?),
            Self::Directory(tree, prefix) => {
                // If the tree is gone, Ctrl-C has taken it, and this process is about to end.
                let mut tree = lock(tree);
                let Some(tree) = tree.as_mut() else { return Ok(()) };
                let mut rest = part.bytes.as_slice();
                for object in &part.objects {
                    let (bytes, after) = rest.split_at(object.length);
                    rest = after;
                    tree.write(&file_names(object, prefix), bytes)?;
                }
                Ok(())
            }
        }
    }

    /// Finishes the writing, and gives the directory its name. If there are no objects, the directory is removed.
    pub(super) fn finish(self, objects: u64) -> Result<(), WriteError> {
        let tree = match &self {
            Self::Directory(tree, _) if objects > 0 => lock(tree).take(),
            _ => None,
        };
        Ok(tree.map_or(Ok(()), ExportTree::finish)?)
    }
}

/// Removes a directory that is not finished. The thread that waits for Ctrl-C shares the directory, so this takes it
/// out of the shared place.
impl Drop for ObjectTarget {
    fn drop(&mut self) {
        if let Self::Directory(tree, _) = self {
            drop(lock(tree).take());
        }
    }
}

/// Returns the failure of a directory that cannot be made.
fn not_made(error: &DurableError) -> Failure {
    let failure = Failure::export(error);
    match error {
        DurableError::Exists(_) => failure.with_hint("give the name of a new directory: --to DIR"),
        _ => failure,
    }
}

/// Returns the words for the destination, as the audit event has them.
pub(super) fn target_name(to: Option<&Path>) -> String {
    to.map_or_else(|| "standard output".to_owned(), |path| path.display().to_string())
}

fn lock(tree: &SharedTree) -> MutexGuard<'_, Option<ExportTree>> {
    tree.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Refuses to show secrets on a terminal, unless exactly one object is named and `--show` is given.
fn check_terminal(args: &DecryptArgs) -> Result<(), Failure> {
    if args.show && !args.chosen.is_one() {
        let message = "--show shows one object";
        return Err(Failure::new(Exit::Usage, &message, "name it, or write all to a directory: --to DIR".to_owned()));
    }
    if io::stdout().is_terminal() && !args.show {
        let hint = if args.chosen.is_one() { "to show it here: --show" } else { "write to a directory: --to DIR" };
        let message = "secrets would be shown on the terminal";
        return Err(Failure::new(Exit::Usage, &message, hint.to_owned()));
    }
    Ok(())
}

/// Whether standard output is a file that other users may read.
fn is_readable_by_others() -> bool {
    fstat(io::stdout()).is_ok_and(|found| {
        FileType::from_raw_mode(found.st_mode) == FileType::RegularFile && found.st_mode & 0o044 != 0
    })
}

/// Starts a thread that removes the directory and ends the process if the user interrupts.
fn remove_on_interrupt(tree: &SharedTree) -> Result<(), Failure> {
    let (tree, events) = (Arc::clone(tree), event_loop()?);
    let refused = |error| Failure::new(Exit::Refused, &format!("catching signals: {error}"), None);
    let mut interrupt = {
        let _guard = events.enter();
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt()).map_err(refused)?
    };
    thread::spawn(move || {
        events.block_on(interrupt.recv());
        // No thread writes while this lock is held.
        if let Some(tree) = lock(&tree).take() {
            drop(tree);
            process::exit(Exit::Interrupted as i32);
        }
    });
    Ok(())
}
