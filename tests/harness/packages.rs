//! Finds containerd, its shim, runc and PostgreSQL, or unpacks them from Debian's packages. Nothing is installed.
//!
//! Installed programs come first, if all of them are there. apt-get downloads the packages with its own lists, so it
//! changes nothing of the system, whose lists may be old. The unpacked packages stay in the user's cache directory.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::binaries::{cache, lock};
use super::commands::output_of_success;
use super::error::{Context, Result};
use super::processes::Run;
use super::progress::{Progress, human};

/// The programs of a kubelet's container runtime.
const PROGRAMS: [&str; 4] = ["containerd", "containerd-shim-runc-v2", "ctr", "runc"];

const PACKAGES: [&str; 2] = ["containerd", "runc"];

/// The programs of PostgreSQL that a server needs.
const DATABASE: [&str; 2] = ["initdb", "postgres"];

/// The directory in which Debian installs these programs by version, below the root of the unpacked packages.
const DATABASES: &str = "usr/lib/postgresql";

/// The package of Debian's newest PostgreSQL. It depends on the package with the version in its name.
const DATABASE_PACKAGE: &str = "postgresql";

/// Libraries that every Debian has.
const LIBRARIES_THERE: [&str; 4] = ["libc6", "libgcc-s1", "libstdc++6", "libcrypt1"];

/// The time limit for one call of apt-get or dpkg.
const LIMIT: Duration = Duration::from_mins(5);

/// Returns the directories to put before the search path, so that it has the programs. The text is empty if it has them
/// already.
pub(crate) fn container_runtime() -> Result<String> {
    if PROGRAMS.iter().all(|program| on_search_path(program)) {
        return Ok(String::new());
    }
    let unpacked = cache("packages")?.join("containerd");
    if !unpacked.exists() {
        unpack_locked(&unpacked, "containerd and runc", |_| Ok(PACKAGES.map(str::to_owned).to_vec()))?;
    }
    Ok(format!("{0}/usr/bin:{0}/usr/sbin", unpacked.display()))
}

/// Whether [`container_runtime`] can find or unpack the programs.
pub(crate) fn container_runtime_can_be_had() -> bool {
    let all = |programs: &[&str]| programs.iter().all(|program| on_search_path(program));
    all(&PROGRAMS) || all(&["apt-get", "dpkg"])
}

/// Returns the directory below which PostgreSQL is: the root, or the directory of the unpacked packages.
pub(crate) fn database() -> Result<PathBuf> {
    let root = PathBuf::from("/");
    if programs_of_database(&root).is_some() {
        return Ok(root);
    }
    let unpacked = cache("packages")?.join(DATABASE_PACKAGE);
    if !unpacked.exists() {
        unpack_locked(&unpacked, "PostgreSQL", packages_of_database)?;
    }
    Ok(unpacked)
}

/// Whether [`database`] can find or unpack the programs.
pub(crate) fn database_can_be_had() -> bool {
    programs_of_database(Path::new("/")).is_some() || ["apt-get", "apt-cache", "dpkg"].into_iter().all(on_search_path)
}

/// Returns the directory with the programs of the newest PostgreSQL below a root.
pub(crate) fn programs_of_database(root: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(root.join(DATABASES)).ok()?;
    let directories = versions.filter_map(|version| Some(version.ok()?.path().join("bin")));
    directories.filter(|bin| DATABASE.iter().all(|program| bin.join(program).is_file())).max()
}

/// Returns the packages of PostgreSQL and of the libraries that it needs.
fn packages_of_database(run: &Run) -> Result<Vec<String>> {
    let mut apt_cache = Command::new("apt-cache");
    apt_cache
        .args(["depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks"])
        .args(["--no-replaces", "--no-enhances", "--option"])
        .arg(format!("Dir::State::Lists={}", run.path("lists").display()))
        .arg("--option")
        .arg(format!("Dir::Cache={}", run.directory().display()))
        .arg(DATABASE_PACKAGE);
    let names = output_of_success(apt_cache, &[], LIMIT)?;
    let names = String::from_utf8_lossy(&names).into_owned();
    // A name in angle brackets is no package. A line with spaces names what the package above it needs.
    let names = names.lines().filter(|name| !name.starts_with([' ', '<']) && !name.contains(':'));
    let is_needed = |name: &&str| {
        let is_server = name.strip_prefix("postgresql-").is_some_and(|rest| rest.parse::<u32>().is_ok());
        is_server || (name.starts_with("lib") && !name.contains("perl") && !LIBRARIES_THERE.contains(name))
    };
    Ok(names.filter(is_needed).map(str::to_owned).collect())
}

fn on_search_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

/// Downloads and unpacks the packages that `choose` names. `choose` is called when the lists of all packages have been
/// read.
fn unpack_locked(target: &Path, what: &str, choose: impl Fn(&Run) -> Result<Vec<String>>) -> Result<()> {
    let packages = cache("packages")?;
    fs::create_dir_all(&packages).during(|| format!("making {}", packages.display()))?;
    let _lock = lock(&packages.join("lock"))?;
    if target.exists() {
        return Ok(());
    }
    let why = format!("needed once, kept in {}", target.display());
    let progress = Progress::start(&format!("unpacking {what}"), &why, &human(LIMIT), Instant::now());
    // The run is inside the cache, so that the last step is a rename: the programs are complete or absent.
    let run = Run::inside(&packages)?;
    let outcome = unpack(&run, choose);
    progress.finish(if outcome.is_ok() { "done" } else { "failed" });
    let unpacked = outcome.map_err(|error| error.hint("can apt-get reach Debian's packages? Or install them"))?;
    fs::rename(&unpacked, target).during(|| format!("moving programs to {}", target.display()))
}

/// Downloads and unpacks the packages, and returns the directory with their contents.
fn unpack(run: &Run, choose: impl Fn(&Run) -> Result<Vec<String>>) -> Result<PathBuf> {
    let root = run.path("root");
    for directory in ["lists/partial", "archives/partial", "debs", "root"] {
        let directory = run.path(directory);
        fs::create_dir_all(&directory).during(|| format!("making {}", directory.display()))?;
    }
    call(apt_get(run, &["update"]))?;
    let packages = choose(run)?;
    let mut download = apt_get(run, &["download"]);
    download.args(packages);
    call(download)?;
    for package in fs::read_dir(run.path("debs")).during(|| "looking for packages".to_owned())? {
        let package = package.during(|| "looking for packages".to_owned())?;
        let mut dpkg = Command::new("dpkg");
        dpkg.arg("--extract").arg(package.path()).arg(&root);
        call(dpkg)?;
    }
    Ok(root)
}

/// Returns apt-get with its own lists and cache. It downloads into `debs`, as root, because only root may write there.
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
