//! Pastes the commands that hints name. If a command lacks an option that says where etcd is or what is encrypted, it
//! has a placeholder for that option, and with a value in the place of the placeholder it reads etcd.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
};

use super::{
    backup::{STATE, names},
    sandbox::{Answer, Call, Sandbox},
    status::backed_up,
};

/// A snapshot with values in plaintext.
const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/etcd-snapshot.db");

const BOTH: &str = "--etcd-servers URL --encryption-config FILE";

/// Returns the suggested command that begins with `claviger VERB`.
fn suggested(answer: &Answer, verb: &str) -> String {
    let whole = format!("{}\n{}", answer.stdout, answer.stderr);
    let begin = format!("claviger {verb} ");
    let at = whole.find(&begin).unwrap_or_else(|| panic!("no {begin}: {answer}"));
    whole[at..].split(['`', ';', '\n']).next().unwrap().to_owned()
}

/// Runs a suggested command with values in the place of its placeholders. It gets as far as the etcd, where nothing
/// listens.
fn reads_etcd(sandbox: &Sandbox, command: &str, more: &str) {
    let line = command.strip_prefix("claviger ").unwrap().replace("URL", "http://127.0.0.1:1");
    let line = line.replace("--encryption-config FILE", "--encryption-config [DIR]/enc.yaml");
    let answer = sandbox.run(&format!("{line} {more}"));
    assert!(answer.ends_with(6).stderr.contains("etcd http://127.0.0.1:1 does not answer"), "{answer}");
}

/// Makes a keyring with a key that can be promoted, and an EncryptionConfiguration.
fn declared() -> (Sandbox, String) {
    let (sandbox, _) = backed_up();
    let config = sandbox.run("generate encryption-configuration").ends_with(0).stdout.clone();
    fs::write(sandbox.path("enc.yaml"), config).unwrap();
    let (keys, primary) = names(&sandbox, "state");
    let pending = keys.into_iter().find(|key| *key != primary).unwrap();
    (sandbox, pending)
}

#[test]
fn a_suggested_command_has_a_placeholder_for_each_option_that_nothing_gives() {
    let (sandbox, key) = declared();
    let promote = format!("key promote {key} {STATE} --without-backup");
    let twin = sandbox.twin();
    let promoted = twin.run(&promote);
    let reencrypt = suggested(promoted.ends_with(0), "reencrypt");
    assert_eq!(reencrypt, format!("claviger reencrypt {STATE} {BOTH}"));
    reads_etcd(&twin, &reencrypt, "--dry-run");

    let refused = sandbox.run(&format!("key disable {key} {STATE}"));
    let scan = suggested(refused.ends_with(3), "scan");
    assert_eq!(scan, format!("claviger scan {STATE} --etcd-servers URL"));
    reads_etcd(&sandbox, &scan, "");

    let scanned = sandbox.run(&format!("scan --snapshot {SNAPSHOT} --encryption-config [DIR]/enc.yaml {STATE}"));
    let reencrypt = suggested(scanned.ends_with(1), "reencrypt");
    let expected = format!("claviger reencrypt {STATE} --encryption-config [DIR]/enc.yaml --etcd-servers URL");
    assert_eq!(reencrypt, expected);
    reads_etcd(&sandbox, &reencrypt, "--dry-run");
}

#[test]
fn what_a_configuration_file_says_needs_no_placeholder() {
    let (sandbox, key) = declared();
    let manifest = "spec: {containers: [{command: [kube-apiserver, '--etcd-servers=http://127.0.0.1:1', \
                    '--encryption-provider-config=[DIR]/enc.yaml']}]}\n";
    fs::write(sandbox.path("manifest.yaml"), sandbox.unmask(manifest)).unwrap();
    let config = "apiserver-manifest = '[DIR]/manifest.yaml'\nstate-dir = '[DIR]/state'\n";
    fs::write(sandbox.path("config.toml"), sandbox.unmask(config)).unwrap();
    sandbox.chmod("config.toml", 0o600);
    let promoted = sandbox.run(&format!("key promote {key} --config [DIR]/config.toml --without-backup"));
    let reencrypt = suggested(promoted.ends_with(0), "reencrypt");
    assert_eq!(reencrypt, "claviger reencrypt --config [DIR]/config.toml");
    reads_etcd(&sandbox, &reencrypt, "--dry-run");
}

/// Returns the first line that a command prints on standard error. Then the command is killed.
fn first_line_of(call: &Call<'_>) -> String {
    let mut child = call.start();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    line
}

#[test]
fn a_command_that_waits_for_etcd_says_so() {
    let (sandbox, _) = declared();
    // Connections come about, and nobody answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let expected = format!("waiting for an answer of etcd at {url}\n");
    for line in ["scan", "verify --encryption-config [DIR]/enc.yaml", "decrypt secrets/default/a --show"] {
        assert_eq!(first_line_of(&sandbox.call(&format!("{line} --etcd-servers {url} {STATE}"))), expected, "{line}");
    }
}

#[test]
fn an_identity_that_is_none_is_named() {
    let sandbox = super::backup::with_recovery();
    fs::write(sandbox.path("note.txt"), "call Anna\n").unwrap();
    let backup = format!("backup create [DIR]/b.age {STATE}");
    sandbox.run(&backup).ends_with(0);
    let ours = "--recovery-identity [DIR]/ours.txt";
    let wrong = "--recovery-identity [DIR]/note.txt";
    for line in [
        format!("recovery test {wrong} {STATE}"),
        format!("recovery test {ours} {wrong} {STATE}"),
        format!("backup check [DIR]/b.age {wrong} {STATE}"),
        format!("backup restore [DIR]/b.age {wrong} --state-dir [DIR]/new"),
        format!("decrypt --all --snapshot {SNAPSHOT} --backup [DIR]/b.age {wrong}"),
    ] {
        let refused = sandbox.refused(2, &line).complaint();
        let expected = "error: [DIR]/note.txt: not an age identity file, expected lines of AGE-SECRET-KEY-1…\n";
        assert!(refused.starts_with(expected), "{refused}");
    }
    let piped = sandbox.call(&format!("recovery test --recovery-identity - {STATE}")).stdin("call Anna\n").refused(2);
    assert!(piped.stderr.starts_with("error: standard input: not an age identity file, "), "{piped}");
}

/// A kubeconfig with two contexts.
const KUBECONFIG: &str = "current-context: a
contexts: [{name: a, context: {cluster: c, user: u}}, {name: b, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}]
users: [{name: u, user: {token: t}}]
";

/// Returns what `rotate` says of a kubeconfig in which `from` is replaced by `to`.
#[cfg(feature = "reencrypt")]
fn said_of(sandbox: &Sandbox, (from, to): (&str, &str), more: &str) -> String {
    fs::write(sandbox.path("kubeconfig"), KUBECONFIG.replacen(from, to, 1)).unwrap();
    sandbox.chmod("kubeconfig", 0o600);
    let places = BOTH.replace("URL", "http://127.0.0.1:1").replace("FILE", "[DIR]/enc.yaml");
    sandbox.refused(2, &format!("rotate {STATE} {places} --kubeconfig [DIR]/kubeconfig {more}")).complaint()
}

/// Returns the entry of a kubeconfig that names a program for credentials.
#[cfg(feature = "reencrypt")]
fn exec(more: &str) -> String {
    format!("exec: {{apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never{more}}}")
}

#[test]
#[cfg(feature = "reencrypt")]
fn whatever_is_wrong_with_a_kubeconfig_has_a_hint_of_its_own() {
    let (sandbox, _) = declared();
    let contexts = "the contexts that it has: a, b; name one: --context a\n";
    for (from, to, more, hint) in [
        ("", "", "--context z", contexts),
        ("current-context: a\n", "", "", contexts),
        ("cluster: c,", "cluster: d,", "", "name a context whose cluster is in the file: --context NAME; or take"),
        ("users", "}{", "", "correct this line; or take another"),
    ] {
        let said = said_of(&sandbox, (from, to), more);
        assert!(said.contains(&format!("hint:  {hint}")), "{said}");
    }
    let see = "run the program as the kubeconfig does, and see what it prints: kubectl auth whoami";
    for (program, hint) in [
        (", command: /no/program", "the program is `exec.command` of the user in the kubeconfig: install it"),
        (", command: 'false'", see),
        (", command: 'true'", see),
        (", command: echo, args: ['status: {token: t, expirationTimestamp: soon}']", see),
        ("", "name the program in `exec.command` of the user; or take another"),
    ] {
        let said = said_of(&sandbox, ("token: t", &exec(program)), "");
        assert!(said.contains(&format!("hint:  {hint}")) && said.contains("--kubeconfig FILE"), "{said}");
        let is_no_time =
            said.contains("the expirationTimestamp that the program of the kubeconfig printed is not a time");
        assert_eq!(is_no_time, program.contains("soon"), "{said}");
    }
    fs::remove_file(sandbox.path("kubeconfig")).unwrap();
    let line = format!("rotate {STATE} --etcd-servers http://127.0.0.1:1 --kubeconfig [DIR]/kubeconfig");
    let missing = sandbox.refused(2, &line).complaint();
    assert!(
        missing.ends_with(
            "hint:  to see which files are there: ls -l [DIR]; or take another kubeconfig: --kubeconfig FILE\n"
        ),
        "{missing}"
    );
}
