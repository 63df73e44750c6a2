//! Tests a claviger without any Cargo feature: the daemon of a node, with the slots file, passphrase and systemd
//! credential.
//!
//! It has the same files and the same configuration as the build with all features. It refuses what it cannot do, and
//! says why.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use age::secrecy::ExposeSecret;

use crate::harness::{commands::output, plugin::Plugin, processes::Run};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");
const LIMIT: Duration = Duration::from_mins(1);

/// Returns a keyring with two keys: the first is decrypt-only, and the second is primary.
fn rotated(run: &Run) -> (Plugin, [String; 2]) {
    let plugin = Plugin::init(run, BINARY, "claviger").unwrap();
    plugin.claviger(&["key", "add"]).unwrap();
    plugin.claviger(&["key", "promote", "k2", "--without-backup"]).unwrap();
    let keys = keys(&plugin);
    let id = |index: usize| keys[index]["key_id"].as_str().unwrap().to_owned();
    let ids = [id(0), id(1)];
    (plugin, ids)
}

fn keys(plugin: &Plugin) -> Vec<serde_json::Value> {
    let list: serde_json::Value =
        serde_json::from_str(&plugin.claviger(&["key", "list", "--output", "json"]).unwrap()).unwrap();
    list["keys"].as_array().unwrap().clone()
}

fn state(plugin: &Plugin, key_id: &str) -> String {
    let key = keys(plugin).into_iter().find(|key| key["key_id"] == key_id).unwrap();
    key["state"].as_str().unwrap().to_owned()
}

fn run_with(plugin: &Plugin, arguments: &[&str], input: &[u8]) -> Output {
    output(plugin.command(arguments), input, LIMIT).unwrap()
}

/// Runs a command that must be refused with `exit`. Returns its error text.
#[track_caller]
fn refused(plugin: &Plugin, exit: i32, arguments: &[&str]) -> String {
    let output = run_with(plugin, arguments, &[]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(exit), "{arguments:?}: {said}");
    said
}

#[test]
fn a_key_is_given_up_only_by_an_operator_who_names_the_risk() {
    let run = Run::new().unwrap();
    let (plugin, [old, _]) = rotated(&run);
    let unproven = "this claviger was built without a scan of etcd";
    for verb in ["disable", "destroy"] {
        let flag = if verb == "disable" { "--risk-unreadable-secrets" } else { "--risk-losing-secrets" };
        let before = state(&plugin, &old);
        let said = refused(&plugin, 3, &["key", verb, &old]);
        assert!(said.contains(unproven) && said.contains(flag), "{said}");
        assert!(!said.contains("--etcd-servers"), "a hint names a flag that is not there: {said}");
        assert_eq!(state(&plugin, &old), before);
        plugin.claviger(&["key", verb, &old, flag]).unwrap();
    }
    assert_eq!(state(&plugin, &old), "destroyed");
}

#[test]
fn commands_and_settings_of_absent_features_are_refused() {
    let run = Run::new().unwrap();
    let plugin = Plugin::init(&run, BINARY, "claviger").unwrap();
    for absent in [&["scan"][..], &["verify"], &["completions", "bash"], &["man"], &["recovery", "split"]] {
        let said = refused(&plugin, 2, absent);
        assert!(said.contains("unrecognized subcommand"), "{said}");
    }
    let socket = run.socket("kms.sock").unwrap();
    let serve = ["serve", "--socket", socket.to_str().unwrap(), "--metrics-listen", "127.0.0.1:9"];
    let said = refused(&plugin, 2, &serve);
    assert!(said.contains("cannot serve metrics on 127.0.0.1:9: this claviger was built without them"), "{said}");
    assert!(said.contains("feature `metrics`"), "{said}");
    let shares = run.path("share.txt");
    fs::write(&shares, "CLAVIGER-SHARE1 QQQQQ QQQQQ\n").unwrap();
    let said = refused(&plugin, 2, &["recovery", "test", "--recovery-identity", shares.to_str().unwrap()]);
    assert!(said.contains("this claviger was built without shares, and cannot put an identity together"), "{said}");
}

#[test]
fn the_help_describes_only_flags_that_exist() {
    for verb in [&["key", "disable"][..], &["key", "destroy"], &["backup", "restore"]] {
        let mut help = Command::new(BINARY);
        help.args(verb).arg("--help");
        let said = String::from_utf8(output(help, &[], LIMIT).unwrap().stdout).unwrap();
        for absent in ["--etcd-servers", "--apiserver-manifest", "--snapshot", "reads all of etcd"] {
            assert!(!said.contains(absent), "{verb:?} names {absent}: {said}");
        }
    }
}

/// After the loss of a disk, every build restores alike.
#[test]
fn a_backup_comes_back_if_the_operator_names_it() {
    let run = Run::new().unwrap();
    let (plugin, [_, primary]) = rotated(&run);
    let (secret, file) = (age::x25519::Identity::generate(), run.path("identity.txt"));
    fs::write(&file, secret.to_string().expose_secret()).unwrap();
    let identity = ["--recovery-identity", file.to_str().unwrap()];
    let call = |arguments: &[&str]| plugin.claviger(&[arguments, &identity].concat()).unwrap();
    call(&["recovery", "add", &secret.to_public().to_string()]);
    let backup = run.path("backup.age");
    let backup = backup.to_str().unwrap();
    plugin.claviger(&["backup", "create", backup]).unwrap();
    call(&["backup", "check", backup]);
    let status: serde_json::Value =
        serde_json::from_slice(&run_with(&plugin, &["status", "--output", "json"], &[]).stdout).unwrap();
    let expect = status["keyring"]["expect"].as_str().unwrap_or_else(|| panic!("{status}")).to_owned();
    remove(plugin.state_dir());
    let without = [&["backup", "restore", backup], &identity[..]].concat();
    let said = refused(&plugin, 3, &without);
    assert!(said.contains("give --expect") && !said.contains("--snapshot"), "{said}");
    call(&["backup", "restore", backup, "--expect", &expect]);
    assert_eq!(state(&plugin, &primary), "primary");
}

fn remove(state_dir: &Path) {
    fs::remove_dir_all(state_dir).unwrap();
    fs::DirBuilder::new().create(state_dir).unwrap();
    fs::set_permissions(state_dir, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
}

/// kube-apiserver also accepts JSON, because it is YAML.
#[test]
fn the_encryption_configuration_is_json() {
    let mut generate = Command::new(BINARY);
    generate.args(["generate", "encryption-configuration"]);
    let printed = output(generate, &[], LIMIT).unwrap();
    let read: serde_json::Value = serde_json::from_slice(&printed.stdout).unwrap();
    assert_eq!(read["resources"][0]["providers"][0]["kms"]["name"], "claviger");
}
