//! Tests the files in `deploy/`: each is parsed, and its commands are run with the binary.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use crate::{admin, cli::sandbox::Sandbox};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).unwrap()
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&read(name)).unwrap()
}

/// Checks that the binary accepts these arguments. With `--help` after them it only parses them.
fn takes(arguments: &[&str]) {
    let output = Command::new(BINARY).args(arguments).arg("--help").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Returns the default of an option, as the help of `serve` shows it.
fn default_of(option: &str) -> String {
    let help = Command::new(BINARY).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let after = &help[help.find(&format!("{option} ")).unwrap()..];
    let default = after.split("[default: ").nth(1).unwrap();
    default.split(']').next().unwrap().to_owned()
}

/// Returns the value of a setting of the unit.
fn setting<'a>(unit: &'a str, name: &str) -> &'a str {
    let mut values = unit.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    let value = values.next().unwrap_or_else(|| panic!("{name}= is set"));
    assert_eq!(values.next(), None, "{name}= is set once");
    value
}

#[test]
fn the_unit_runs_what_the_binary_takes_in_directories_that_it_uses() {
    let unit = read("claviger.service");
    let command: Vec<&str> = setting(&unit, "ExecStart").split(' ').collect();
    assert_eq!(command[0], "/usr/local/bin/claviger");
    takes(&command[1..]);
    assert_eq!(default_of("--socket"), format!("/run/{}/kms.sock", setting(&unit, "RuntimeDirectory")));
    assert_eq!(default_of("--state-dir"), format!("/var/lib/{}", setting(&unit, "StateDirectory")));
    assert_eq!(setting(&unit, "StateDirectoryMode"), "0700");
    assert_eq!(setting(&unit, "RuntimeDirectoryMode"), "0750");
    assert_eq!(setting(&unit, "LimitCORE"), "0");
}

#[test]
fn the_rotation_by_timer_runs_what_the_binary_takes_and_may_write_where_it_does() {
    let unit = read("claviger-rotate.service");
    let command: Vec<&str> = setting(&unit, "ExecStart").split(' ').collect();
    assert_eq!(command[..2], ["/usr/local/bin/claviger", "rotate"]);
    takes(&command[1..]);
    let directory = command[1 + command.iter().position(|word| *word == "--backup-dir").unwrap()];
    assert_eq!(setting(&unit, "ReadWritePaths"), format!("{} {directory}", default_of("--state-dir")));
}

#[test]
fn the_socket_unit_makes_the_socket_that_the_plugin_would() {
    let unit = read("claviger.socket");
    assert_eq!(setting(&unit, "ListenStream"), default_of("--socket"));
    assert_eq!(setting(&unit, "SocketMode"), "0600");
    assert_eq!(setting(&unit, "SocketUser"), setting(&read("claviger.service"), "User"));
}

#[test]
fn the_encryption_configuration_is_what_the_command_line_generates() {
    let output = Command::new(BINARY).args(["generate", "encryption-configuration"]).output().unwrap();
    let generated: Value = serde_saphyr::from_str(&String::from_utf8(output.stdout).unwrap()).unwrap();
    assert_eq!(yaml("encryption-configuration.yaml"), generated);
}

/// Returns the words of an expression that name a metric of claviger. A histogram has its base name.
fn metrics_of(expression: &str) -> BTreeSet<&str> {
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let ours = words.filter(|word| word.starts_with("claviger_") || word.starts_with("process_"));
    ours.map(|word| word.strip_suffix("_bucket").unwrap_or(word)).collect()
}

#[test]
fn every_alert_is_on_metrics_that_there_are() {
    let sandbox = Sandbox::initialised();
    let flags = "--state-dir [DIR]/state --socket [DIR]/run/kms.sock --metrics-listen [DIR]/run/metrics.sock";
    let daemon = sandbox.serve(flags);
    daemon.wait_for("serving metrics");
    let scrape = admin::scrape(sandbox.path("run/metrics.sock").to_str().unwrap());
    let there = admin::names(&scrape);
    assert!(alerts_are_on(0, &there) >= 5);
}

#[test]
fn every_alert_on_a_scan_is_on_metrics_that_a_scan_writes() {
    let sandbox = Sandbox::new();
    let snapshot = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/etcd-snapshot.db");
    sandbox.run(&format!("scan --snapshot {snapshot} --prometheus [DIR]/claviger.prom")).ends_with(1);
    let text = fs::read_to_string(sandbox.path("claviger.prom")).unwrap();
    assert!(alerts_are_on(1, &admin::names(&text)) >= 2);
}

/// Checks that the alerts of a group use existing metrics only. Returns the number of alerts.
fn alerts_are_on(group: usize, there: &BTreeSet<&str>) -> usize {
    let rules = yaml("prometheus-rules.yaml");
    let rules = rules["groups"][group]["rules"].as_array().unwrap();
    for rule in rules {
        let used = metrics_of(rule["expr"].as_str().unwrap());
        assert!(!used.is_empty() && used.is_subset(there), "{rule}");
        for text in ["summary", "description"] {
            assert!(rule["annotations"][text].is_string(), "{rule}");
        }
    }
    rules.len()
}

#[test]
fn the_static_pod_runs_what_the_binary_takes_on_the_hosts_directories() {
    let pod = yaml("static-pod.yaml");
    let container = &pod["spec"]["containers"][0];
    let command: Vec<&str> =
        container["command"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(command[0], "claviger");
    takes(&command[1..]);
    let paths: Vec<&str> = pod["spec"]["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|volume| volume["hostPath"]["path"].as_str().unwrap())
        .collect();
    // The manifest mounts the directory of the socket, and never the socket, because a restarted plugin makes a new
    // one.
    assert!(paths.contains(&Path::new(&default_of("--socket")).parent().unwrap().to_str().unwrap()));
    assert!(paths.contains(&default_of("--state-dir").as_str()));
    // A kubelet that starts before any API server knows the priority only if the Pod contains its value.
    assert_eq!(pod["spec"]["priorityClassName"], "system-node-critical");
    assert_eq!(pod["spec"]["priority"], 2_000_001_000);
    for mount in container["volumeMounts"].as_array().unwrap() {
        assert!(paths.contains(&mount["mountPath"].as_str().unwrap()), "{mount}");
    }
}

/// Runs `image.sh` under a mask that hides new files from others.
fn image(arguments: &[&Path]) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/image.sh");
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"umask 077; exec "$@""#, "image"]).arg(script).args(arguments).output().unwrap()
}

#[test]
fn the_same_binary_makes_the_same_image_whatever_surrounds_it() {
    let directory = tempfile::tempdir().unwrap();
    let copy = directory.path().join("claviger");
    fs::copy(BINARY, &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o400)).unwrap();
    let made = [Path::new(BINARY), &copy].map(|binary| {
        let archive = directory.path().join("image.tar");
        let output = image(&[binary, Path::new("localhost/claviger:1"), &archive]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (String::from_utf8(output.stdout).unwrap(), fs::read(archive).unwrap())
    });
    assert!(made[0] == made[1], "{} differs from {}", made[0].0, made[1].0);
    assert!(made[0].0.starts_with("localhost/claviger:1@sha256:"), "{}", made[0].0);
}

#[test]
fn what_makes_no_image_is_refused_with_a_hint_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let truncated = path("truncated");
    fs::write(&truncated, &fs::read(BINARY).unwrap()[..4096]).unwrap();
    let (readme, absent, archive, nowhere) = (path("README"), path("absent"), path("image.tar"), path("no/image.tar"));
    fs::write(&readme, "not a program\n").unwrap();
    let (binary, reference) = (Path::new(BINARY), Path::new("localhost/claviger:1"));
    for (arguments, expected) in [
        (&[binary, reference][..], "three arguments are needed"),
        (&[absent.as_path(), reference, &archive], "is no file that can be read"),
        (&[directory.path(), reference, &archive], "is no file that can be read"),
        (&[readme.as_path(), reference, &archive], "is no program"),
        (&[truncated.as_path(), reference, &archive], "ldd does not understand"),
        // Without a host in the reference, the kubelet would look for the image at docker.io.
        (&[binary, Path::new("claviger:1"), &archive], "is not HOST/NAME:TAG"),
        (&[binary, Path::new("localhost/claviger"), &archive], "is not HOST/NAME:TAG"),
        (&[binary, Path::new("localhost/\"claviger:1"), &archive], "is not HOST/NAME:TAG"),
        (&[binary, reference, &nowhere], "cannot be written"),
    ] {
        let output = image(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.starts_with("error: ") && stderr.contains(expected) && stderr.contains("\nhint:  "), "{stderr}");
        assert!(output.stdout.is_empty() && !archive.exists(), "{stderr}");
    }
}
