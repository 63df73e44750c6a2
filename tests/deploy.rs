//! The files in `deploy/` cannot rot: each is parsed, and what it runs is tried on the binary.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::Value;

use crate::{admin, cli::sandbox::Sandbox};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name)).unwrap()
}

fn yaml(name: &str) -> Value {
    serde_saphyr::from_str(&read(name)).unwrap()
}

/// Checks that the binary takes these arguments: with `--help` after them it only parses them.
fn takes(arguments: &[&str]) {
    let output = Command::new(BINARY).args(arguments).arg("--help").output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The default of an option, as the help of `serve` tells it.
fn default_of(option: &str) -> String {
    let help = Command::new(BINARY).args(["serve", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    let after = &help[help.find(&format!("{option} ")).unwrap()..];
    let default = after.split("[default: ").nth(1).unwrap();
    default.split(']').next().unwrap().to_owned()
}

/// The value of a setting of the unit.
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

/// Words of an expression that name a metric of ours, a histogram by its base name.
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
    let rules = yaml("prometheus-rules.yaml");
    let rules = rules["groups"][0]["rules"].as_array().unwrap();
    assert!(rules.len() >= 5);
    for rule in rules {
        let used = metrics_of(rule["expr"].as_str().unwrap());
        assert!(!used.is_empty() && used.is_subset(&there), "{rule}");
        for text in ["summary", "description"] {
            assert!(rule["annotations"][text].is_string(), "{rule}");
        }
    }
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
    // The directory of the socket, never the socket: a restarted plugin makes a new one.
    assert!(paths.contains(&Path::new(&default_of("--socket")).parent().unwrap().to_str().unwrap()));
    assert!(paths.contains(&default_of("--state-dir").as_str()));
    for mount in container["volumeMounts"].as_array().unwrap() {
        assert!(paths.contains(&mount["mountPath"].as_str().unwrap()), "{mount}");
    }
}
