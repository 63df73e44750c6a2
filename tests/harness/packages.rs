//! containerd, its shim and runc: found, or unpacked from Debian's packages, never installed.
//!
//! Those on the search path come first, if all are there. The packages come by apt-get, with lists of its own, so that
//! nothing of the system changes and its lists need not be fresh. What is unpacked stays in the user's cache directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::binaries::{cache, lock};
use super::commands::output_of_success;
use super::error::{Context, Result};
use super::processes::Run;
use super::progress::{Progress, human};

/// All that a kubelet's container runtime consists of.
const PROGRAMS: [&str; 4] = ["containerd", "containerd-shim-runc-v2", "ctr", "runc"];

const PACKAGES: [&str; 2] = ["containerd", "runc"];

/// For one call of apt-get or dpkg.
const LIMIT: Duration = Duration::from_mins(5);

/// What a search path needs in front to have the programs; nothing if it has them already.
pub(crate) fn container_runtime() -> Result<String> {
    if PROGRAMS.iter().all(|program| on_search_path(program)) {
        return Ok(String::new());
    }
    let unpacked = cache("packages")?.join("containerd");
    if !unpacked.exists() {
        unpack_locked(&unpacked)?;
    }
    Ok(format!("{0}/usr/bin:{0}/usr/sbin", unpacked.display()))
}

/// Whether [`container_runtime`] has a way to get them.
pub(crate) fn container_runtime_can_be_had() -> bool {
    let all = |programs: &[&str]| programs.iter().all(|program| on_search_path(program));
    all(&PROGRAMS) || all(&["apt-get", "dpkg"])
}

fn on_search_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn unpack_locked(target: &Path) -> Result<()> {
    let packages = cache("packages")?;
    fs::create_dir_all(&packages).during(|| format!("making {}", packages.display()))?;
    let _lock = lock(&packages.join("lock"))?;
    if target.exists() {
        return Ok(());
    }
    let why = format!("needed once, kept in {}", target.display());
    let progress = Progress::start("unpacking containerd and runc", &why, &human(LIMIT), Instant::now());
    // Inside the cache, so that the last step is a rename: the programs are there whole, or not at all.
    let run = Run::inside(&packages)?;
    let outcome = unpack(&run);
    progress.finish(if outcome.is_ok() { "done" } else { "failed" });
    let unpacked = outcome.map_err(|error| error.hint("can apt-get reach Debian's packages? Or install containerd"))?;
    fs::rename(&unpacked, target).during(|| format!("moving programs to {}", target.display()))
}

/// Downloads and unpacks the packages, and returns the directory with what is in them.
fn unpack(run: &Run) -> Result<PathBuf> {
    let root = run.path("root");
    for directory in ["lists/partial", "archives/partial", "debs", "root"] {
        let directory = run.path(directory);
        fs::create_dir_all(&directory).during(|| format!("making {}", directory.display()))?;
    }
    call(apt_get(run, &["update"]))?;
    call(apt_get(run, &[&["download"], &PACKAGES[..]].concat()))?;
    for package in fs::read_dir(run.path("debs")).during(|| "looking for packages".to_owned())? {
        let package = package.during(|| "looking for packages".to_owned())?;
        let mut dpkg = Command::new("dpkg");
        dpkg.arg("--extract").arg(package.path()).arg(&root);
        call(dpkg)?;
    }
    Ok(root)
}

/// apt-get on lists and a cache of its own, which downloads into `debs`; as root, who alone may write there.
fn apt_get(run: &Run, arguments: &[&str]) -> Command {
    let mut apt_get = Command::new("apt-get");
    apt_get
        .args(["--quiet", "--option", "APT::Sandbox::User=root", "--option"])
        .arg(format!("Dir::State::Lists={}", run.path("lists").display()))
        .arg("--option")
        .arg(format!("Dir::Cache={}", run.directory().display()))
        .args(arguments)
        .current_dir(run.path("debs"));
    apt_get
}

fn call(command: Command) -> Result<()> {
    output_of_success(command, &[], LIMIT).map(drop)
}
