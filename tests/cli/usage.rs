//! Help, version, and what is no command.

use super::sandbox::{Sandbox, snapshot};

#[test]
fn every_verb_explains_itself() {
    let sandbox = Sandbox::new();
    for verb in ["", "init", "serve", "status", "key", "key list", "generate", "generate encryption-configuration"] {
        let answer = sandbox.run(&format!("{verb} --help"));
        answer.ends_with(0).matches(&format!("usage/help {verb}").trim().replace(' ', "-"));
    }
}

#[test]
fn the_version_is_the_packages() {
    let answer = Sandbox::new().run("--version");
    assert_eq!(answer.stdout, format!("claviger {}\n", env!("CARGO_PKG_VERSION")));
    answer.ends_with(0);
}

#[test]
fn no_verb_is_answered_with_help() {
    let sandbox = Sandbox::new();
    for (verb, name) in [("", "no-verb"), ("key", "no-verb-of-key"), ("generate", "no-file-of-generate")] {
        sandbox.run(verb).ends_with(2).matches(&format!("usage/{name}"));
    }
}

#[test]
fn what_is_no_command_is_refused() {
    let sandbox = Sandbox::new();
    let expect = "00000000000000000000000000000000:01:00";
    for (name, lines) in [
        ("unknown-verb", &["rotate-everything", "help", "key lisst"][..]),
        ("unknown-flag", &["status --sokcet @kms", "init --without-recovery -q", "--state-dir state status"]),
        ("unexpected-argument", &["status state", "serve /run/claviger/kms.sock"]),
        ("missing-value", &["status --state-dir", "serve --socket"]),
        ("given-twice", &["status --socket @a --socket @b", "status --quiet --quiet"]),
        ("bad-value", &["serve --log-level loud", "status --output yaml", "serve --allow-uid kube"]),
        ("bad-resource", &["generate encryption-configuration --resource Secrets"]),
        ("bad-expect", &["serve --expect 1", &format!("serve --expect {expect}")]),
        ("init-recovery-not-decided", &["init", "init --state-dir state", "init --recovery-identity identity.txt"]),
        (
            "init-recovery-contradicts",
            &[
                "init --without-recovery --recovery-recipient age1",
                "init --without-recovery --recovery-identity identity.txt",
            ],
        ),
    ] {
        let answers: Vec<_> = lines.iter().map(|line| sandbox.refused(2, line)).collect();
        snapshot(&format!("usage/{name}"), &answers.iter().collect::<Vec<_>>());
    }
}

#[test]
fn an_empty_value_is_none() {
    let sandbox = Sandbox::new();
    let answers = ["status --state-dir=", "status --config=", "status --socket="].map(|line| sandbox.refused(2, line));
    snapshot("usage/empty-value", &answers.each_ref());
}
