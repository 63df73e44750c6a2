//! `docs/runbook.md`, command by command, in its order, under a real kube-apiserver: after each chapter every Secret is read by an API
//! server that knows nothing from before.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::harness::{
    api_server::ApiServer,
    binaries::{EtcdVersion, Program, Version},
    etcd::Etcd,
    processes::Run,
};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");
const RUNBOOK: &str = include_str!("../docs/runbook.md");
const LIMIT: Duration = Duration::from_mins(2);

/// Where the runbook's paths are below the root of a machine that is made up.
const PATHS: [&str; 5] =
    ["/var/lib/claviger", "/var/lib/etcd", "/media/usb", "/media/safe", "/etc/kubernetes/claviger"];

/// The EncryptionConfiguration, below the root of the machine.
const CONFIGURATION: &str = "etc/kubernetes/claviger/encryption-configuration.yaml";

/// A chapter: its heading, and its commands.
struct Chapter {
    heading: &'static str,
    blocks: Vec<&'static str>,
}

fn chapters() -> Vec<Chapter> {
    let chapter = |text: &'static str| {
        let (heading, rest) = text.split_once('\n').unwrap();
        let blocks = rest.split("```sh\n").skip(1).map(|block| block.split("\n```").next().unwrap()).collect();
        Chapter { heading, blocks }
    };
    RUNBOOK.split("\n## ").skip(1).map(chapter).collect()
}

/// A machine with claviger, systemctl, kubectl and age on it, below a directory.
struct Machine {
    root: PathBuf,
    run: Run,
}

impl Machine {
    fn new(run: Run) -> Self {
        let root = run.path("machine");
        for directory in ["bin", "etc/kubernetes/claviger", "run", "var/lib", "media/usb", "media/safe"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o750)).unwrap();
        let machine = Self { root, run };
        machine.configure("");
        machine.tool("sudo", "exec \"$@\"");
        machine.tool("claviger", &format!("exec '{BINARY}' --config '{}' \"$@\"", machine.path("/etc/config.toml")));
        machine.tool("systemctl", SYSTEMCTL);
        for (name, program) in [
            ("age-keygen", Program::AgeKeygen),
            ("etcdutl", Program::Etcdutl(EtcdVersion::V3_7)),
            ("kubectl", Program::Kubectl(Version::V1_37)),
        ] {
            machine.tool(name, &format!("exec '{}' \"$@\"", program.path().unwrap().display()));
        }
        machine
    }

    /// Writes the configuration of claviger, with `more` at its end.
    fn configure(&self, more: &str) {
        let (state_dir, socket) = (self.path("/var/lib/claviger"), self.path("/run/kms.sock"));
        let config = format!("state-dir = \"{state_dir}\"\nsocket = \"{socket}\"\n{more}");
        fs::write(self.root.join("etc/config.toml"), config).unwrap();
    }

    /// Where `path` of the runbook is.
    fn path(&self, path: &str) -> String {
        format!("{}{path}", self.root.display())
    }

    fn tool(&self, name: &str, script: &str) {
        let path = self.root.join("bin").join(name);
        fs::write(&path, format!("#!/usr/bin/env bash\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Runs a block of commands as the runbook has it.
    fn bash(&self, block: &str, kubeconfig: Option<&Path>) -> String {
        let script = PATHS.iter().fold(block.to_owned(), |text, path| text.replace(path, &self.path(path)));
        let mut command = Command::new("bash");
        command.args(["-euo", "pipefail", "-c", &script]).current_dir(&self.root).stdin(Stdio::null());
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{path}", self.path("/bin"))).env("MACHINE", &self.root);
        if let Some(kubeconfig) = kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        let start = Instant::now();
        let output = command.output().unwrap();
        let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{block}\n{printed}");
        assert!(start.elapsed() < LIMIT, "{block} took {:?}", start.elapsed());
        printed
    }

    /// Starts etcd and an API server that uses the plugin here.
    fn control_plane(&self, snapshot: Option<&Path>) -> (Etcd, ApiServer) {
        let etcd = match snapshot {
            Some(snapshot) => Etcd::start_from_snapshot(&self.run, snapshot).unwrap(),
            None => Etcd::start(&self.run, 1).unwrap(),
        };
        let config = self.root.join(CONFIGURATION);
        let generate = "claviger generate encryption-configuration --resource secrets";
        fs::write(&config, self.bash(generate, None)).unwrap();
        let api = ApiServer::on(&self.run, &etcd).encryption_config(&config).start().unwrap();
        self.configure(&format!("etcd-servers = [\"{}\"]\n", etcd.endpoints().replace(',', "\", \"")));
        (etcd, api)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let stop =
            format!("PATH='{}':$PATH MACHINE='{}' systemctl stop claviger", self.path("/bin"), self.root.display());
        // It may not run.
        _ = Command::new("bash").args(["-c", &stop]).output();
    }
}

/// systemd's command, for the one unit that there is.
const SYSTEMCTL: &str = r#"
pid="$MACHINE/run/pid"
stop() { [ -f "$pid" ] && kill "$(cat "$pid")" && while kill -0 "$(cat "$pid")" 2>/dev/null; do sleep 0.05; done; rm -f "$pid"; }
start() {
    setsid "$MACHINE/bin/claviger" serve >"$MACHINE/run/log" 2>&1 </dev/null &
    echo $! >"$pid"
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

/// What has happened before a chapter is opened.
fn misfortune(heading: &str) -> &'static str {
    match heading {
        "The disk is lost" | "All machines are lost" => "systemctl stop claviger; rm -rf /var/lib/claviger",
        "The passphrase is lost" => {
            "umask 077; echo 'correct horse' > phrase
             claviger slot add passphrase --new-passphrase-file phrase --lanes 1 --memory 64 --passes 1
             claviger slot remove file --passphrase-file phrase; claviger key add --passphrase-file phrase; rm phrase"
        }
        "The plugin is down" => {
            "claviger backup create /media/usb/claviger-newest.age >/media/safe/claviger-newest.txt
             kill -9 $(cat $MACHINE/run/pid)"
        }
        "The keyring is damaged" => "printf damaged | dd of=/var/lib/claviger/keyring conv=notrunc status=none",
        "The directory was deleted" => "rm -rf /var/lib/claviger",
        "The restored backup is too old" => {
            "systemctl stop claviger; rm -rf /var/lib/claviger
             claviger backup restore /media/usb/claviger-1.age --recovery-identity /media/safe/identity.txt \
               --expect $(sed -n 's/^expect *//p' /media/safe/claviger-1.txt)
             systemctl start claviger"
        }
        // The proof of the chapter fails as long as something is encrypted.
        "Uninstall" => {
            r#"claviger scan --list > objects || [ $? -eq 1 ]
               grep -q '"provider":"kms:' objects"#
        }
        "etcd was restored" => {
            "first=$(claviger key list | awk '/^k1-/ { print $1 }')
             claviger key disable $first --risk-unreadable-secrets; claviger key destroy $first --risk-losing-secrets"
        }
        _ => "",
    }
}

fn secret(api: &ApiServer, name: &str) -> String {
    api.kubectl(&["get", "secret", name, "-o", "go-template={{.data.value | base64decode}}"]).unwrap()
}

#[test]
fn every_command_of_the_runbook_does_what_its_chapter_promises() {
    let machine = Machine::new(Run::new().unwrap());
    let mut plane: Option<(Etcd, ApiServer)> = None;
    let mut written = Vec::new();
    for Chapter { heading, blocks } in chapters() {
        assert!(!blocks.is_empty(), "{heading}");
        if heading == "All machines are lost" {
            let (etcd, _) = plane.take().unwrap();
            etcd.snapshot(&machine.root.join("media/usb/etcd.db")).unwrap();
        }
        if heading == "Can this snapshot be restored?" {
            plane.as_ref().unwrap().0.snapshot(&machine.root.join("media/usb/etcd-today.db")).unwrap();
        }
        machine.bash(misfortune(heading), None);
        for block in blocks {
            if block.contains("kubectl") && plane.is_none() {
                let snapshot = machine.root.join("media/usb/etcd.db");
                plane = Some(machine.control_plane(Some(&*snapshot).filter(|snapshot| snapshot.exists())));
            }
            let kubeconfig = plane.as_ref().map(|(_, api)| api.kubeconfig());
            let printed = machine.bash(block, kubeconfig.as_deref());
            if heading == "All machines are lost" && block.starts_with("kubectl") {
                assert!(written.iter().all(|name: &String| printed.contains(name.as_str())), "{printed}");
            }
            if heading == "Uninstall" && block.contains("generate") {
                plane.as_mut().unwrap().1.restart().unwrap();
            }
        }
        if heading == "Uninstall" {
            let (etcd, mut encrypting) = plane.take().unwrap();
            encrypting.kill().unwrap();
            let api = ApiServer::on(&machine.run, &etcd).start().unwrap();
            plane = Some((etcd, api));
        }
        let (_, api) = plane.as_mut().unwrap();
        // One that has just started knows no seed, and asks the plugin for each.
        api.restart().unwrap();
        for name in &written {
            assert_eq!(secret(api, name), format!("s-{name}"), "after {heading}");
        }
        let name = format!("chapter-{}", written.len());
        api.kubectl(&["create", "secret", "generic", &name, &format!("--from-literal=value=s-{name}")]).unwrap();
        written.push(name);
        println!("{heading}: {} Secrets read", written.len());
    }
    assert!(machine.bash("claviger key list", None).contains("primary"));
}
