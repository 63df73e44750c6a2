//! Makes container images for a [`super::node`] with `deploy/image.sh`, from programs on this machine.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::commands::{isolated, output_of_success};
use super::error::Result;
use super::processes::Run;

/// The image of `node/reader.go`. It shows the files and variables of a Pod, and the sandbox of every Pod runs it, too.
pub(crate) const READER: &str = "localhost/reader:1";

/// The time limit for Go to compile one file, or for an archive to be written. The first compilation includes Go's
/// library.
const LIMIT: Duration = Duration::from_mins(3);

/// An image that containerd can import.
#[derive(Clone)]
pub(crate) struct Image {
    /// The reference, for example "localhost/reader:1@sha256:…".
    pub(crate) reference: String,
    pub(crate) archive: PathBuf,
}

/// Makes an image as an operator does.
pub(crate) fn image(run: &Run, binary: &Path, reference: &str) -> Result<Image> {
    let archive = run.path(run.unique_name("image")).with_extension("tar");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/image.sh");
    let mut command = isolated(&script, run.directory());
    command.arg(binary).arg(reference).arg(&archive);
    let printed = output_of_success(command, &[], LIMIT)?;
    Ok(Image { reference: String::from_utf8_lossy(&printed).trim().to_owned(), archive })
}

/// Compiles the reader and makes its image, [`READER`].
pub(crate) fn reader(run: &Run) -> Result<Image> {
    let binary = run.path("reader");
    let mut go = Command::new("go");
    go.args(["build", "-trimpath", "-ldflags", "-s -w", "-o"])
        .arg(&binary)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/harness/node/reader.go"))
        // The program is static, because the image contains nothing else.
        .env("CGO_ENABLED", "0")
        .env("GOTMPDIR", run.directory())
        .current_dir(run.directory());
    output_of_success(go, &[], LIMIT).map_err(|error| error.hint("is Go 1.26 or newer installed (`go version`)?"))?;
    image(run, &binary, READER)
}
