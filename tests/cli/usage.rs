//! Tests the help, the version, and words that are not commands.

use std::fs;

use super::sandbox::{Sandbox, snapshot};

/// Returns the commands by the names of their manual pages: `claviger`, `claviger-key-add`.
fn pages(sandbox: &Sandbox) -> Vec<String> {
    sandbox.make_dir("man", 0o755);
    sandbox.run("man --directory [DIR]/man --quiet").ends_with(0);
    let files = fs::read_dir(sandbox.path("man")).unwrap().map(|file| file.unwrap().file_name());
    let mut pages: Vec<String> =
        files.map(|file| file.to_str().unwrap().strip_suffix(".1").unwrap().to_owned()).collect();
    pages.sort();
    pages
}

/// Returns the command that a manual page describes. A hyphen in the name of a page separates two verbs, or belongs to
/// one verb.
fn verb(page: &str, pages: &[String]) -> String {
    let rest = |other: &String| page.strip_prefix(other.as_str())?.strip_prefix('-').map(|rest| (other.clone(), rest));
    let parent = pages.iter().filter_map(rest).max_by_key(|(other, _)| other.len());
    parent.map_or_else(String::new, |(parent, rest)| format!("{} {rest}", verb(&parent, pages)))
}

#[test]
fn every_verb_explains_itself_by_an_example() {
    let sandbox = Sandbox::new();
    let pages = pages(&sandbox);
    assert!(pages.contains(&"claviger-key-promote".to_owned()), "{pages:?}");
    for page in &pages {
        let answer = sandbox.run(format!("{} --help", verb(page, &pages)).trim_start());
        answer.ends_with(0).matches(&format!("usage/help{}", page.trim_start_matches("claviger")));
        let has_verbs = pages.iter().any(|other| other.starts_with(&format!("{page}-")));
        assert!(has_verbs || answer.stdout.contains("\nExample"), "{page} has no example");
    }
}

#[test]
fn an_example_can_be_pasted_at_any_width() {
    let sandbox = Sandbox::new();
    let example = "  claviger key promote k2 --wait && claviger reencrypt";
    for width in ["40", "60", "80", "100", "200"] {
        let columns = ["env".to_owned(), format!("COLUMNS={width}")];
        let answer = sandbox.call("key promote --help").under(columns, "").run();
        assert!(answer.ends_with(0).stdout.lines().any(|line| line == example), "{width}: {}", answer.stdout);
    }
    let asked = sandbox.run("help key promote");
    assert_eq!(asked.ends_with(0).stdout, sandbox.run("key promote --help").stdout);
}

#[test]
fn shells_and_man_know_every_verb() {
    let sandbox = Sandbox::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = sandbox.run(&format!("completions {shell}"));
        assert!(script.ends_with(0).stdout.contains("promote"), "{shell}");
    }
    let page = sandbox.run("man key promote");
    assert!(page.ends_with(0).stdout.contains("Make a pending key primary"), "{}", page.stdout);
    assert!(sandbox.run("man").ends_with(0).stdout.contains("claviger\\-key(1)"));
    sandbox.run("man key demote").ends_with(2);
}

#[test]
fn a_page_is_found_by_every_name_that_people_and_other_pages_use() {
    let sandbox = Sandbox::new();
    let page = sandbox.run("man key promote").ends_with(0).stdout.clone();
    assert_eq!(sandbox.run("man claviger-key-promote").ends_with(0).stdout, page);
    let in_one_word = ["sh".to_owned(), "-c".to_owned(), "exec \"$0\" man 'key promote'".to_owned()];
    assert_eq!(sandbox.call("").under(in_one_word, "man 'key promote'").run().ends_with(0).stdout, page);
    // Each page that a page names exists, and `man` finds it.
    let pages = pages(&sandbox);
    for page in &pages {
        let text = fs::read_to_string(sandbox.path("man").join(format!("{page}.1"))).unwrap().replace("\\-", "-");
        let named = text.lines().filter_map(|line| line.strip_suffix("(1)"));
        for name in named {
            assert!(pages.iter().any(|page| page == name), "{page} refers to {name}");
        }
    }
}

#[test]
fn a_command_that_lacks_its_first_word_is_answered_with_all_of_it() {
    let sandbox = Sandbox::new();
    for (line, tip) in [
        ("promote k2", "claviger key promote"),
        ("destroy k1", "claviger key destroy"),
        ("restore backup.age", "claviger backup restore"),
        ("create backup.age", "claviger backup create"),
        ("split", "claviger recovery split"),
        ("remove", "claviger slot remove, or claviger recovery remove"),
        ("key restore", "claviger backup restore"),
    ] {
        let answer = sandbox.refused(2, line);
        assert!(answer.stderr.contains(&format!("\n  tip: did you mean: {tip}\n")), "{answer}");
        let json = sandbox.run(&format!("--output=json {line}"));
        let report: serde_json::Value = serde_json::from_str(&json.ends_with(2).stderr).unwrap();
        assert!(report["hint"].as_str().unwrap().starts_with(&format!("did you mean: {tip}; Usage: ")), "{json}");
    }
}

#[test]
fn a_file_that_is_missing_is_answered_with_where_it_was_looked_for() {
    let sandbox = Sandbox::initialised();
    let beside = "hint:  to see which files are there: ls -l [DIR]\n";
    let above = "hint:  there is no [DIR]/usb: if it is on another disk, mount that disk\n";
    let relative = "hint:  it was looked for at [DIR]/absent; to see which files are there: ls -l [DIR]\n";
    for (line, hint) in [
        ("backup check [DIR]/absent --recovery-identity x --state-dir [DIR]/state", beside),
        ("backup check [DIR]/usb/new/absent --recovery-identity x --state-dir [DIR]/state", above),
        ("backup check absent --recovery-identity x --state-dir [DIR]/state", relative),
        ("recovery test --recovery-identity [DIR]/absent --state-dir [DIR]/state", beside),
        ("slot add passphrase --new-passphrase-file [DIR]/absent --state-dir [DIR]/state", beside),
        ("status --config [DIR]/absent", beside),
        ("scan --snapshot [DIR]/absent", beside),
        ("scan --snapshot x --keyring [DIR]/usb/keyring", above),
        ("scan --snapshot x --encryption-config absent", relative),
        ("scan --apiserver-manifest [DIR]/absent", beside),
    ] {
        assert!(sandbox.refused(2, line).complaint().ends_with(hint), "{line}: {}", sandbox.run(line));
    }
    let credential = sandbox.refused(3, "slot add credential --credential-file [DIR]/absent --state-dir [DIR]/state");
    assert!(credential.complaint().ends_with(beside), "{credential}");
    let cafile = sandbox.refused(2, "scan --etcd-servers https://127.0.0.1:1 --etcd-cafile [DIR]/usb/ca.crt");
    assert!(cafile.complaint().ends_with(above), "{cafile}");
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
        ("unknown-verb", &["rotate-everything", "help me", "key lisst"][..]),
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
fn a_rotation_is_a_command_of_its_own() {
    let answer = Sandbox::new().refused(2, "key rotate");
    let tip = "\n  tip: to rotate the key: claviger rotate";
    assert!(answer.stderr.contains(tip) && !answer.stderr.contains("did you mean"), "{answer}");
}

#[test]
fn pages_that_cannot_be_written_are_answered_with_another_directory() {
    let sandbox = Sandbox::new();
    std::fs::write(sandbox.path("file"), "").unwrap();
    for directory in ["file", "file/man"] {
        let answer = sandbox.refused(5, &format!("man --directory [DIR]/{directory}"));
        assert!(answer.stderr.contains("hint:  a file is in the way: name a directory"), "{answer}");
    }
}

#[test]
fn a_wrong_configuration_of_encryption_is_said_even_if_etcd_is_not_known() {
    let sandbox = Sandbox::initialised();
    std::fs::write(sandbox.path("wrong.yaml"), "kind: Pod\n").unwrap();
    for (file, said) in [("missing.yaml", "No such file"), ("wrong.yaml", "wrong.yaml: ")] {
        for verb in ["scan", "verify"] {
            let answer = sandbox.run(&format!("{verb} --state-dir [DIR]/state --encryption-config [DIR]/{file}"));
            assert!(answer.code != 0 && answer.stderr.contains(said), "{answer}");
            assert!(answer.stderr.contains(file) && !answer.stderr.contains("where etcd is"), "{answer}");
        }
    }
}

/// A short name resolves where a keyring is opened and a mistake does no harm. Anywhere else it is refused.
#[test]
fn a_short_name_of_a_key_is_resolved_or_refused() {
    let sandbox = Sandbox::initialised();
    let restore = "backup restore file --recovery-identity identity --state-dir [DIR]/state";
    for line in [
        "key destroy k6 --state-dir [DIR]/state",
        "scan --snapshot file --primary k6",
        &format!("{restore} --compromised k6"),
        &format!("{restore} --keep-destroyed k6"),
        &format!("{restore} --lost k6"),
    ] {
        let answer = sandbox.refused(2, line);
        let says = |text: &str| answer.stderr.contains(text);
        assert!(says("k<number>-<32 hex digits>") && says("`claviger key list"), "{answer}");
    }
    for verb in ["promote", "enable", "disable"] {
        let answer = sandbox.refused(3, &format!("key {verb} k6 --state-dir [DIR]/state"));
        assert!(answer.complaint().starts_with("error: there is no key k6\n"), "{answer}");
        let answer = sandbox.refused(3, &format!("key {verb} K1 --state-dir [DIR]/state"));
        let meant =
            "error: there is no key K1\nhint:  a key is named by k and its number, or by its whole key_id: k1 or k1-";
        assert!(answer.complaint().starts_with(meant), "{answer}");
    }
}

#[test]
fn a_wrong_command_line_is_an_object_where_json_was_asked_for() {
    let sandbox = Sandbox::new();
    for (line, error, hint) in [
        (
            "status --sokcet @kms --output json",
            "unexpected argument '--sokcet' found",
            "a similar argument exists: '--socket'",
        ),
        ("--output=json key lisst", "unrecognized subcommand 'lisst'", "a similar subcommand exists: 'list'"),
        ("init --output json", "the following required arguments were not provided: ", "Usage: claviger init"),
        (
            "status --output json --watch=1",
            "unexpected value '1' for '--watch' found; no more were expected",
            "Usage: ",
        ),
        ("key --output json", "'claviger key' requires a subcommand", "Usage: "),
    ] {
        let answer = sandbox.run(line);
        assert_eq!((answer.code, &*answer.stdout, answer.stderr.lines().count()), (2, "", 1), "{answer}");
        let report: serde_json::Value = serde_json::from_str(&answer.stderr).unwrap();
        assert_eq!((&report["format"], &report["exit"]), (&"claviger/error/v1".into(), &2.into()));
        assert!(report["error"].as_str().unwrap().starts_with(error), "{answer}");
        assert!(report["hint"].as_str().unwrap().contains(hint), "{answer}");
    }
    // Asking for help is no error.
    assert!(sandbox.run("status --help --output json").ends_with(0).stdout.contains("Usage: claviger status"));
}

#[test]
fn a_name_that_the_api_server_does_not_know_is_no_resource() {
    let sandbox = Sandbox::new();
    let generate = "generate encryption-configuration --resource";
    for (wrong, right) in [
        ("secret", "secrets"),
        ("cm", "configmaps"),
        ("deployment.apps", "deployments.apps"),
        ("ingress", "ingresses.networking.k8s.io"),
        ("deployments", "deployments.apps"),
        ("networkpolicies", "networkpolicies.networking.k8s.io"),
    ] {
        let answer = sandbox.refused(2, &format!("{generate} {wrong}"));
        let said = format!(
            "error: invalid value '{wrong}' for '--resource <RESOURCE>': expected {right}: kube-apiserver knows no other name of \
             this resource, and would encrypt nothing\n"
        );
        assert!(answer.stderr.starts_with(&said), "{answer}");
        assert!(sandbox.run(&format!("{generate} {right}")).ends_with(0).stdout.contains(right));
    }
    let several = sandbox.refused(2, &format!("{generate} secrets,configmaps"));
    let said = "'--resource <RESOURCE>': expected one resource: give --resource once for each\n";
    assert!(several.stderr.contains(said), "{several}");
}

#[test]
fn a_wrong_name_of_a_command_is_answered_with_those_that_exist() {
    let sandbox = Sandbox::new();
    let man = sandbox.refused(2, "man key prom");
    let hint = man.stderr.lines().find_map(|line| line.strip_prefix("hint:  the commands are: ")).unwrap();
    let commands: Vec<&str> = hint.split(", ").collect();
    assert!(commands.contains(&"slot add credential") && commands.contains(&"key promote"), "{man}");
    for command in commands {
        assert!(sandbox.run(&format!("man {command}")).ends_with(0).stdout.contains("NAME"), "{command}");
    }
    let help = sandbox.refused(2, "help keys");
    assert!(help.stderr.contains("tip: a similar subcommand exists: 'key'"), "{help}");
    assert_eq!(sandbox.run("help key").ends_with(0).stdout, sandbox.run("key --help").stdout);
}

#[test]
fn a_mistake_is_answered_with_what_was_probably_meant() {
    let sandbox = Sandbox::initialised();
    fs::write(sandbox.path("binary"), [0xff, 0xfe, 0x00]).unwrap();
    fs::write(sandbox.path("latin"), b"# caf\xe9\n").unwrap();
    sandbox.make_dir("backups", 0o700);
    for (exit, line, said) in [
        (
            2,
            "status --socket kms",
            "error: socket address \"kms\": expected an absolute path, or @ and a name\n\
             hint:  for a file, give its whole path: --socket /run/claviger/kms; for an abstract socket: --socket @kms\n",
        ),
        (
            3,
            "key promote 2 --state-dir [DIR]/state",
            "error: there is no key 2\n\
             hint:  a key is named by k and its number, as in k2, or by its key_id; `claviger key list --state-dir [DIR]/state` shows \
             the keys\n",
        ),
        (
            3,
            "backup create [DIR]/backups --state-dir [DIR]/state --recipient \
             age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
            "error: [DIR]/backups already exists\nhint:  it is a directory: name a file in it\n",
        ),
        (
            2,
            "scan --snapshot x --keyring [DIR]/state",
            "error: reading [DIR]/state: Is a directory (os error 21)\nhint:  name the file in it: [DIR]/state/keyring\n",
        ),
        (
            7,
            "scan --snapshot x --keyring [DIR]/latin",
            "error: reading [DIR]/latin: it is neither UTF-8 nor UTF-16\n\
             hint:  give the file `keyring` of a state directory, or a copy of it\n",
        ),
        (
            2,
            "recovery test --recovery-identity [DIR]/binary --state-dir [DIR]/state",
            "error: reading the recovery identity from [DIR]/binary: it is not UTF-8\n\
             hint:  give a file that `age-keygen` wrote, or shares of it: these are text\n",
        ),
    ] {
        assert_eq!(sandbox.refused(exit, line).complaint(), said, "{line}");
    }
    let group = sandbox.refused(2, "serve --socket-group kms");
    assert!(group.stderr.contains("expected a group's number, as `getent group NAME` prints it"), "{group}");
}

#[test]
fn an_empty_value_is_none() {
    let sandbox = Sandbox::new();
    let answers = ["status --state-dir=", "status --config=", "status --socket="].map(|line| sandbox.refused(2, line));
    snapshot("usage/empty-value", &answers.each_ref());
}
