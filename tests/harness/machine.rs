//! A made-up machine: a directory that stands for its root, and the tools that a page of `docs/` calls. The commands of
//! the page run unchanged. Its paths are below that directory.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use super::{
    binaries::{EtcdVersion, Program, Version},
    commands::output,
    error::{Context, Error, Result},
    etcd::Etcd,
    processes::Run,
};

/// The time limit for one block of commands.
const LIMIT: Duration = Duration::from_mins(2);

/// A script in the place of `systemctl`, for the only unit of the machine. If the run ends without stopping the plugin,
/// its watchdog does.
const SYSTEMCTL: &str = r#"
pid="$MACHINE/run/pid"
stop() { [ -f "$pid" ] && kill "$(cat "$pid")" && while kill -0 "$(cat "$pid")" 2>/dev/null; do sleep 0.05; done; rm -f "$pid"; }
start() {
    setsid "$MACHINE/bin/claviger" serve >"$MACHINE/run/log" 2>&1 </dev/null &
    echo $! >"$pid"
    touch "$GROUPS_OF_RUN/$!"
    for _ in $(seq 200); do
        grep -q '"unsealed"' "$MACHINE/run/log" && return
        kill -0 "$(cat "$pid")" 2>/dev/null || break
        sleep 0.05
    done
    cat "$MACHINE/run/log" >&2
    exit 1
}
case "$1" in
    start) start ;;
    stop) stop || true ;;
    restart) stop || true; start ;;
    *) exit 64 ;;
esac
"#;

/// A machine with claviger, systemctl, kubectl, age and the tools of etcd. Its plugin ends when it is dropped.
pub(crate) struct Machine {
    root: PathBuf,
    run: Run,
    /// The paths of the page, each with its path on this machine.
    paths: Vec<(String, PathBuf)>,
}

impl Machine {
    /// Makes a machine whose root, with all paths of the page, is the directory `name` of the run.
    pub(crate) fn new(run: &Run, name: &str, claviger: &Path, paths: &[&str]) -> Result<Self> {
        let root = run.path(name);
        let paths = paths.iter().map(|path| ((*path).to_owned(), root.join(&path[1..]))).collect();
        let machine = Self { root, run: run.clone(), paths };
        for directory in ["bin", "etc/kubernetes/claviger", "run", "var/lib"] {
            let directory = machine.root.join(directory);
            fs::create_dir_all(&directory).during(|| format!("making {}", directory.display()))?;
        }
        let socket_dir = machine.root.join("run");
        fs::set_permissions(&socket_dir, fs::Permissions::from_mode(0o750))
            .during(|| "preparing a machine".to_owned())?;
        machine.configure("")?;
        machine.tool("sudo", "exec \"$@\"")?;
        let config = machine.root.join("etc/config.toml");
        machine.tool("claviger", &format!("exec '{}' --config '{}' \"$@\"", claviger.display(), config.display()))?;
        machine.tool("systemctl", SYSTEMCTL)?;
        for (name, program) in [
            ("age-keygen", Program::AgeKeygen),
            ("etcdutl", Program::Etcdutl(EtcdVersion::V3_7)),
            ("kubectl", Program::Kubectl(Version::V1_37)),
        ] {
            machine.tool(name, &format!("exec '{}' \"$@\"", program.path()?.display()))?;
        }
        Ok(machine)
    }

    /// Mounts the directory `to` at `path`, as a disk that several machines can have.
    pub(crate) fn mount(&mut self, path: &str, to: &Path) {
        self.paths.push((path.to_owned(), to.to_owned()));
    }

    /// Returns the directory that stands for `/`.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn run(&self) -> &Run {
        &self.run
    }

    /// Writes the configuration of claviger, with `more` at its end.
    pub(crate) fn configure(&self, more: &str) -> Result<()> {
        let path = |path: &str| self.root.join(path).display().to_string();
        let config =
            format!("state-dir = \"{}\"\nsocket = \"{}\"\n{more}", path("var/lib/claviger"), path("run/kms.sock"));
        fs::write(self.root.join("etc/config.toml"), config).during(|| "writing claviger's configuration".to_owned())
    }

    /// Makes `etcdctl` connect to this etcd.
    pub(crate) fn add_etcdctl(&self, etcd: &Etcd) -> Result<()> {
        let program = Program::Etcdctl(EtcdVersion::V3_7).path()?;
        self.tool("etcdctl", &format!("ETCDCTL_ENDPOINTS={} exec '{}' \"$@\"", etcd.endpoints(), program.display()))
    }

    fn tool(&self, name: &str, script: &str) -> Result<()> {
        let path = self.root.join("bin").join(name);
        fs::write(&path, format!("#!/usr/bin/env bash\n{script}\n"))
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .during(|| format!("writing {}", path.display()))
    }

    /// Runs commands of the page, and returns their output. If they fail, returns an error with the output.
    pub(crate) fn bash(&self, block: &str, kubeconfig: Option<&Path>) -> Result<String> {
        let Output { status, stdout, stderr } = output(self.command(block, kubeconfig), &[], LIMIT)?;
        let printed = self.as_on_the_page(&[stdout, stderr].concat());
        if status.success() {
            Ok(printed)
        } else {
            Err(Error::new(format!("{block}\nended with {status}:\n{printed}")))
        }
    }

    fn command(&self, block: &str, kubeconfig: Option<&Path>) -> Command {
        let here = |text: String, (path, here): &(String, PathBuf)| text.replace(path, &here.display().to_string());
        let script = self.paths.iter().fold(block.to_owned(), here);
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &script]).current_dir(&self.root).stdin(Stdio::null());
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .env("PATH", format!("{}:{path}", self.root.join("bin").display()))
            .env("MACHINE", &self.root)
            .env("GROUPS_OF_RUN", self.run.path("groups"))
            .envs(kubeconfig.map(|path| ("KUBECONFIG", path)));
        command
    }

    /// Returns the output with the paths of the page.
    fn as_on_the_page(&self, printed: &[u8]) -> String {
        let there =
            |text: String, (path, here): &(String, PathBuf)| in_columns(&text, &here.display().to_string(), path);
        let text = self.paths.iter().fold(String::from_utf8_lossy(printed).into_owned(), there);
        in_columns(&text, &format!("{}/", self.root.display()), "/")
    }
}

/// Replaces a path by a shorter one. In a row of a table, spaces keep the columns after it in their places.
pub(crate) fn in_columns(text: &str, long: &str, short: &str) -> String {
    const GAP: &str = "   ";
    let replaced = |line: &str| {
        let mut line = line.to_owned();
        while let Some(at) = line.find(long) {
            line.replace_range(at..at + long.len(), short);
            if let Some(gap) = line[at..].find(GAP) {
                line.insert_str(at + gap, &" ".repeat(long.len().saturating_sub(short.len())));
            }
        }
        line
    };
    text.split('\n').map(replaced).collect::<Vec<_>>().join("\n")
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The plugin may not run.
        _ = output(self.command("systemctl stop claviger", None), &[], LIMIT);
    }
}
