//! Finds or unpacks PostgreSQL, and runs it at a Unix socket as a user who is not root.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::commands::{isolated, output_of_success};
use super::error::{Context, Error, Result};
use super::packages::{database, database_can_be_had, programs_of_database};
use super::processes::{Process, Run};

/// The time limit for initdb and for the start, which take a second each.
const UP_WITHIN: Duration = Duration::from_mins(1);

/// A user who owns nothing on this machine. PostgreSQL refuses to run as root.
const NOBODY: u32 = 65534;

/// The line of the log after which the server can be used.
const READY: &str = "database system is ready to accept connections";

/// A running server. It is killed when dropped.
pub(crate) struct Postgres {
    sockets: PathBuf,
    _process: Process,
}

impl Postgres {
    /// Returns the reason why this machine cannot have a server. `None` if it can.
    pub(crate) fn impossible() -> Option<String> {
        let reason = "PostgreSQL is not installed, and there is no apt-get to get it";
        (!database_can_be_had()).then(|| reason.to_owned())
    }

    /// Starts a server without databases, and waits until it can be used. Everyone who reaches its socket may do
    /// anything.
    pub(crate) fn start(run: &Run) -> Result<Self> {
        let database = Programs::find(run)?;
        let [data, sockets] = ["postgres-data", "postgres"].map(|name| run.path(run.unique_name(name)));
        for directory in [&data, &sockets] {
            make_private(directory)?;
        }
        // The user of the server must reach its files in the directory.
        set_mode(run.directory(), 0o711)?;
        let mut initdb = database.command("initdb", &sockets);
        initdb.args(["--username=postgres", "--auth=trust", "--no-locale", "--encoding=UTF8", "--no-sync", "-D"]);
        initdb.arg(&data);
        output_of_success(initdb, &[], UP_WITHIN)?;
        let mut postgres = database.command("postgres", &sockets);
        // Tests kill processes, and never the machine. What a process has written survives its end without a sync.
        postgres.args(["-c", "listen_addresses=", "-c", "fsync=off", "-k"]).arg(&sockets).arg("-D").arg(&data);
        let mut process = run.start(&run.unique_name("postgres"), postgres)?;
        let log = run.log_of(process.name());
        let is_ready = || fs::read_to_string(&log).is_ok_and(|log| log.contains(READY));
        process.wait_until("ready", UP_WITHIN, is_ready)?;
        Ok(Self { sockets, _process: process })
    }

    /// Returns the address of the server, as kine's `--endpoint` takes it.
    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@/kine?host={}", self.sockets.display())
    }
}

/// The directory of PostgreSQL's programs, and the search path of the libraries that were unpacked with them.
struct Programs {
    directory: PathBuf,
    libraries: Option<String>,
}

impl Programs {
    fn find(run: &Run) -> Result<Self> {
        let mut root = database()?;
        let is_unpacked = root != Path::new("/");
        if is_unpacked && is_root() {
            // The user that PostgreSQL runs as cannot enter the home of root.
            let copy = run.path("postgresql");
            let mut cp = Command::new("cp");
            cp.arg("-a").arg(&root).arg(&copy);
            output_of_success(cp, &[], UP_WITHIN)?;
            set_mode(&copy, 0o755)?;
            root = copy;
        }
        let missing = || Error::new(format!("{} has no PostgreSQL", root.display())).hint("remove it");
        let directory = programs_of_database(&root).ok_or_else(missing)?;
        let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
        let libraries = is_unpacked.then(|| format!("{0}/usr/lib/{triple}:{0}/lib/{triple}", root.display()));
        Ok(Self { directory, libraries })
    }

    fn command(&self, program: &str, home: &Path) -> Command {
        let mut command = isolated(&self.directory.join(program), home);
        if let Some(libraries) = &self.libraries {
            command.env("LD_LIBRARY_PATH", libraries);
        }
        if is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn make_private(directory: &Path) -> Result<()> {
    fs::create_dir(directory).during(|| format!("making {}", directory.display()))?;
    set_mode(directory, 0o700)?;
    if is_root() {
        chown(directory, Some(NOBODY), Some(NOBODY)).during(|| format!("giving {} away", directory.display()))?;
    }
    Ok(())
}

fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).during(|| format!("opening {}", path.display()))
}
