//! Runs `docs/runbook.md`, command by command in its order, with a real kube-apiserver. After each chapter, an API
//! server that remembers nothing reads every Secret.

use std::{fs, path::Path};

use crate::harness::{api_server::ApiServer, etcd::Etcd, machine::Machine, processes::Run};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");
const RUNBOOK: &str = include_str!("../docs/runbook.md");

/// The runbook's paths, which are below the root of a machine that the test makes up.
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

/// Returns a machine with the disks that the runbook names.
fn machine() -> Machine {
    let machine = Machine::new(&Run::new().unwrap(), "machine", Path::new(BINARY), &PATHS).unwrap();
    for directory in ["media/usb", "media/safe"] {
        fs::create_dir_all(machine.root().join(directory)).unwrap();
    }
    machine
}

/// Starts etcd and an API server that uses the plugin of `machine`.
fn control_plane(machine: &Machine, snapshot: Option<&Path>) -> (Etcd, ApiServer) {
    let etcd = match snapshot {
        Some(snapshot) => Etcd::start_from_snapshot(machine.run(), snapshot).unwrap(),
        None => Etcd::start(machine.run(), 1).unwrap(),
    };
    let config = machine.root().join(CONFIGURATION);
    let generate = "claviger generate encryption-configuration --resource secrets > /etc/kubernetes/claviger/encryption-configuration.yaml";
    machine.bash(generate, None).unwrap();
    let api = ApiServer::on(machine.run(), &etcd).encryption_config(&config).start().unwrap();
    let servers = etcd.endpoints().replace(',', "\", \"");
    let settings = format!("etcd-servers = [\"{servers}\"]\nencryption-config = \"{}\"\n", config.display());
    machine.configure(&settings).unwrap();
    (etcd, api)
}

/// Returns the commands that cause the situation of a chapter.
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
        // The check of the chapter fails as long as a value is encrypted.
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
    let machine = machine();
    let mut plane: Option<(Etcd, ApiServer)> = None;
    let mut written = Vec::new();
    for Chapter { heading, blocks } in chapters() {
        assert!(!blocks.is_empty(), "{heading}");
        if heading == "All machines are lost" {
            let (etcd, _) = plane.take().unwrap();
            etcd.snapshot(&machine.root().join("media/usb/etcd.db")).unwrap();
        }
        if heading == "Can this snapshot be restored?" {
            plane.as_ref().unwrap().0.snapshot(&machine.root().join("media/usb/etcd-today.db")).unwrap();
        }
        machine.bash(misfortune(heading), None).unwrap();
        for block in blocks {
            if ["kubectl", "claviger reencrypt"].iter().any(|command| block.contains(command)) && plane.is_none() {
                let snapshot = machine.root().join("media/usb/etcd.db");
                plane = Some(control_plane(&machine, Some(&*snapshot).filter(|snapshot| snapshot.exists())));
            }
            let kubeconfig = plane.as_ref().map(|(_, api)| api.kubeconfig());
            let printed = machine.bash(block, kubeconfig.as_deref()).unwrap();
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
            let api = ApiServer::on(machine.run(), &etcd).start().unwrap();
            plane = Some((etcd, api));
        }
        let (_, api) = plane.as_mut().unwrap();
        // The restarted API server knows no seed, and asks the plugin for each.
        api.restart().unwrap();
        for name in &written {
            assert_eq!(secret(api, name), format!("s-{name}"), "after {heading}");
        }
        let name = format!("chapter-{}", written.len());
        api.kubectl(&["create", "secret", "generic", &name, &format!("--from-literal=value=s-{name}")]).unwrap();
        written.push(name);
        println!("{heading}: {} Secrets read", written.len());
    }
    assert!(machine.bash("claviger key list", None).unwrap().contains("primary"));
}
