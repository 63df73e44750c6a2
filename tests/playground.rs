//! Runs the playground as a newcomer does, until Ctrl-C.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::claviger;

#[test]
fn the_build_inside_of_it_has_none_of_the_variables_that_cargo_run_sets() {
    let users = ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_BUILD_JOBS", "CARGO_INCREMENTAL", "PATH", "RUSTFLAGS"];
    let cargos = ["CARGO", "CARGO_MANIFEST_DIR", "CARGO_MANIFEST_PATH", "CARGO_PKG_NAME", "CARGO_PKG_VERSION_PRE"];
    let command = claviger::cargo(users.into_iter().chain(cargos));
    let removed: Vec<_> = command.get_envs().filter(|(_, value)| value.is_none()).map(|(name, _)| name).collect();
    assert_eq!(removed, cargos);
}

#[test]
fn help_says_what_the_examples_do_and_starts_nothing() {
    for (name, expected) in [("playground", "Usage: cargo run --example playground"), ("drill", "docs/drill.md")] {
        let example = Path::new(env!("CARGO_BIN_EXE_claviger")).with_file_name("examples").join(name);
        let run = |argument: &str| Command::new(&example).arg(argument).output().unwrap();
        let help = run("--help");
        assert!(help.status.success() && String::from_utf8_lossy(&help.stdout).contains(expected), "{help:?}");
        let wrong = run("--wrong");
        assert_eq!(wrong.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&wrong.stderr).starts_with("unexpected argument \"--wrong\""), "{wrong:?}");
    }
}

#[test]
fn it_shows_a_secret_before_and_after_and_leaves_nothing_behind() {
    // `cargo test` builds the example. Running these tests alone does not.
    let example = Path::new(env!("CARGO_BIN_EXE_claviger")).with_file_name("examples").join("playground");
    assert!(example.exists(), "build it first: cargo build --example playground");
    let mut child = Command::new(example).stdout(Stdio::piped()).spawn().unwrap();
    let mut printed = String::new();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines.by_ref() {
        let line = line.unwrap();
        printed.push_str(&line);
        printed.push('\n');
        if line.starts_with("Ctrl-C ends all of it") {
            break;
        }
    }
    for expected in [
        "\"admin-s3cr3t\" can be read there: yes before, no after.",
        "    admin-s3cr3t\n",
        "secret/user created",
        "secret/literal created",
        "secret/from-yaml created",
        "k8s:enc:kms:v2:claviger:",
        "mark current",
        "rotation to k2-",
        "more: until then an API server may still write under the old key",
        "is finished, and proven",
    ] {
        assert!(printed.contains(expected), "{expected:?} is missing in:\n{printed}");
    }
    let kubeconfig = printed.lines().find_map(|line| line.trim().strip_prefix("export KUBECONFIG=")).unwrap();
    assert!(Path::new(kubeconfig).exists());

    let answer = std::panic::catch_unwind(|| assert_the_suggestions_work(&printed));
    // Ctrl-C makes the playground end everything, also after a failed assertion.
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    if let Err(panic) = answer {
        child.wait().unwrap();
        std::panic::resume_unwind(panic);
    }
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(rest, ["", "Ending everything; nothing is left behind."]);
    let directory = Path::new(kubeconfig).parent().unwrap().parent().unwrap();
    assert!(!directory.exists(), "{} is left behind", directory.display());
    assert!(!names_in_a_process(directory), "a process of {} is left behind", directory.display());
}

/// Runs every command that the playground suggests, but does not wait three minutes for the adoption.
fn assert_the_suggestions_work(printed: &str) {
    let (_, suggested) = printed.split_once("In another terminal:").unwrap();
    let lines: Vec<&str> = suggested.lines().filter_map(|line| line.strip_prefix("  ")).collect();
    let script = format!("shopt -s expand_aliases\nset -e -o pipefail\n{}\n", lines.join("\n").replace(" --wait", ""));
    let answer = Command::new("bash").args(["-x", "-c", &script]).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&answer.stdout), String::from_utf8_lossy(&answer.stderr));
    assert!(answer.status.success(), "{out}\n{err}");
    for expected in ["hunter2", "Secrets are encrypted in etcd", "k3-", "it opens"] {
        assert!(out.contains(expected), "{expected:?} is missing in:\n{out}\n{err}");
    }
}

/// Whether a running process has `directory` on its command line.
fn names_in_a_process(directory: &Path) -> bool {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let needle = directory.to_str().unwrap();
    lines.map(|line| String::from_utf8_lossy(&line).into_owned()).any(|line| line.contains(needle))
}
