//! Tests the configuration file: an error names the line, and a flag overrides a setting.

use std::fs;

use super::sandbox::{Answer, NOBODY, Sandbox, root_for, snapshot};

const STATUS: &str = "status --config [DIR]/config.toml";

/// Runs `status` with `text` as the configuration. Checks that the command refuses it.
fn refused(sandbox: &Sandbox, text: impl AsRef<[u8]>) -> Answer {
    fs::write(sandbox.path("config.toml"), text).unwrap();
    sandbox.refused(2, STATUS)
}

#[test]
fn what_it_says_is_used_and_a_flag_goes_over_it() {
    let sandbox = Sandbox::initialised();
    sandbox.init("other");
    let text = format!(
        "# of a node\nstate-dir = '{}'\nsocket = '@claviger'\nprovider-name = 'kms-2'\nlog-level = 'debug'\nallow-uid = [1000]\n",
        sandbox.path("state").display()
    );
    fs::write(sandbox.path("config.toml"), text).unwrap();
    let generated = sandbox.run("generate encryption-configuration --config [DIR]/config.toml");
    generated.ends_with(0).matches("configuration/generate");
    let listed = |line: &str| sandbox.run(line).ends_with(0).stdout.clone();
    let by_file = listed("key list --config [DIR]/config.toml");
    assert_eq!(by_file, listed("key list --state-dir [DIR]/state"));
    let over_it = listed("key list --config [DIR]/config.toml --state-dir [DIR]/other");
    assert_eq!(over_it, listed("key list --state-dir [DIR]/other"));
    assert_ne!(by_file, over_it);
    let daemon = sandbox.serve("--config [DIR]/config.toml --socket [DIR]/run/kms.sock");
    sandbox.run("status --config [DIR]/config.toml --socket [DIR]/run/kms.sock --backups none").ends_with(0);
    daemon.wait_for("\"DEBUG\"");
}

#[test]
fn a_file_that_cannot_be_read() {
    let sandbox = Sandbox::new();
    let missing = sandbox.refused(2, STATUS);
    let binary = refused(&sandbox, [0xff, 0xfe]);
    fs::remove_file(sandbox.path("config.toml")).unwrap();
    fs::create_dir(sandbox.path("config.toml")).unwrap();
    snapshot("configuration/unreadable", &[&missing, &binary, &sandbox.refused(2, STATUS)]);
}

#[test]
fn a_directory_in_which_others_can_replace_it_is_refused() {
    let sandbox = Sandbox::initialised();
    sandbox.make_dir("shared", 0o755);
    fs::write(sandbox.path("shared/config.toml"), "backups = 'none'\n").unwrap();
    let line = "status --config [DIR]/shared/config.toml --state-dir [DIR]/state --socket [DIR]/run/kms.sock";
    sandbox.run(line).ends_with(1);
    for mode in [0o775, 0o777] {
        sandbox.chmod("shared", mode);
        let refused = sandbox.refused(2, line);
        let said = format!(
            "error: configuration [DIR]/shared/config.toml: [DIR]/shared is writable by others (mode {mode:04o}), and is above \
             [DIR]/shared/config.toml\nhint:  read the file first, because others may have changed it; then keep it where only root can replace \
             it, as in /etc/claviger; or, if only its owner should write there: chmod go-w [DIR]/shared\n"
        );
        assert_eq!(refused.complaint(), said);
    }
    if root_for("a directory of another user's") {
        sandbox.chmod("shared", 0o755);
        std::os::unix::fs::chown(sandbox.path("shared"), Some(NOBODY), None).unwrap();
        let refused = sandbox.refused(2, line);
        assert!(refused.stderr.contains("[DIR]/shared is owned by uid 65534, and is above"), "{refused}");
        assert!(
            refused.stderr.contains("; then keep it where only root can replace it, as in /etc/claviger"),
            "{refused}"
        );
    }
}

#[test]
fn what_is_no_toml() {
    let sandbox = Sandbox::new();
    let texts =
        ["socket = @claviger\n", "# of a node\n\nstate-dir '/var/lib/claviger'\n", "socket = '@a'\nsocket = '@b'\n"];
    let answers = texts.map(|text| refused(&sandbox, text));
    snapshot("configuration/syntax", &answers.each_ref());
}

#[test]
fn a_key_that_is_none() {
    let sandbox = Sandbox::new();
    let answers = ["sokcet = '@a'\n", "socket = '@a'\n\n[log]\nlevel = 'debug'\n", "socket = '@a'\nstate_dir = '/a'\n"]
        .map(|text| refused(&sandbox, text));
    snapshot("configuration/unknown-key", &answers.each_ref());
}

#[test]
fn a_value_that_is_none() {
    let sandbox = Sandbox::new();
    let answers = [
        "log-level = 'loud'\n",
        "socket = '@a'\nallow-uid = ['kube']\n",
        "allow-uid = [-1]\n",
        "state-dir = 7\n",
        "socket = 'kms.sock'\n",
        "provider-name = 'kms:v2'\n",
        "etcd-servers = \"\"\"\nhttps://a\"\"\"\n",
    ]
    .map(|text| refused(&sandbox, text));
    snapshot("configuration/bad-value", &answers.each_ref());
}

#[test]
fn a_value_of_another_kind_is_answered_with_one_that_is_right() {
    let sandbox = Sandbox::new();
    for (found, line, expected, hint) in [
        ("log-level = info", 1, "one of \"debug\", \"error\", \"warn\", \"info\", in quotes", "log-level = \"info\""),
        ("log-level = 'loud'", 1, "one of \"debug\", \"error\", \"warn\", \"info\", in quotes", "log-level = \"info\""),
        ("backups = none", 1, "one of \"none\", \"listed\", in quotes", "backups = \"none\""),
        ("state-dir = /srv/keys", 1, "text in quotes", "state-dir = \"/srv/keys\""),
        ("state-dir = 7", 1, "text in quotes", "state-dir = \"/var/lib/claviger\""),
        ("socket = @kms", 1, "text in quotes", "socket = \"@kms\""),
        ("provider-name = true", 1, "text in quotes", "provider-name = \"true\""),
        (
            "socket-group = \"kube\"",
            1,
            "a number that is not negative, without quotes",
            "socket-group = 1001; `getent group NAME` prints a group's number",
        ),
        (
            "socket-group = -1",
            1,
            "a number that is not negative, without quotes",
            "socket-group = 1001; `getent group NAME` prints a group's number",
        ),
        ("allow-uid = ['kube']", 1, "a list such as [1001]", "allow-uid = [1001]"),
        (
            "etcd-servers = https://a",
            1,
            "a list such as [\"https://127.0.0.1:2379\"]",
            "etcd-servers = [\"https://127.0.0.1:2379\"]",
        ),
    ] {
        let said = format!(
            "error: configuration [DIR]/config.toml, line {line}: {found}: expected {expected}\nhint:  {hint}\n"
        );
        assert_eq!(refused(&sandbox, format!("{found}\n")).complaint(), said);
        // The hint shows a valid line.
        let right = hint.split(';').next().unwrap();
        fs::write(sandbox.path("config.toml"), format!("{right}\n")).unwrap();
        sandbox.run("generate encryption-configuration --config [DIR]/config.toml").ends_with(0);
    }
    let commented = refused(&sandbox, "# of a node\n\nlog-level = debug # for now\n");
    assert!(commented.stderr.contains(", line 3: log-level = debug: expected one of"), "{commented}");
}

#[test]
fn a_value_in_the_place_of_a_list_is_answered_with_the_list() {
    let sandbox = Sandbox::new();
    for (text, line, found, hint) in [
        (
            "socket = '@a'\netcd-servers = \"https://a:1\"\n",
            2,
            "etcd-servers = \"https://a:1\"",
            "etcd-servers = [\"https://a:1\"]",
        ),
        (
            "etcd-servers = 'http://a, http://b'\n",
            1,
            "etcd-servers = 'http://a, http://b'",
            "etcd-servers = ['http://a', 'http://b']",
        ),
        ("allow-uid = 1000\n", 1, "allow-uid = 1000", "allow-uid = [1000]"),
        ("without = 'landlock'\n", 1, "without = 'landlock'", "without = ['landlock']"),
    ] {
        let said =
            format!("error: configuration [DIR]/config.toml, line {line}: {found}: expected a list\nhint:  {hint}\n");
        assert_eq!(refused(&sandbox, text).complaint(), said);
        // The hint shows a valid line.
        fs::write(sandbox.path("config.toml"), format!("{hint}\n")).unwrap();
        sandbox.run("generate encryption-configuration --config [DIR]/config.toml").ends_with(0);
    }
}

#[test]
fn metrics_where_others_could_read_them() {
    let sandbox = Sandbox::new();
    let mut answers: Vec<Answer> = ["0.0.0.0:9808", "[::]:9808", "localhost:9808", "@claviger", "/@claviger", "/run/"]
        .map(|address| sandbox.refused(2, &format!("serve --metrics-listen {address}")))
        .into();
    answers.push(sandbox.refused(2, "serve --metrics-listen [DIR]/kms.sock --socket [DIR]/kms.sock"));
    answers.push(refused(&sandbox, "metrics-listen = '192.168.7.1:9808'\n"));
    snapshot("configuration/metrics-address", &answers.iter().collect::<Vec<_>>());
}

#[test]
fn a_state_directory_without_a_name() {
    refused(&Sandbox::new(), "state-dir = ''\n").matches("configuration/empty-state-dir");
}

#[test]
fn every_verb_refuses_it() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("config.toml"), "sokcet = '@a'\n").unwrap();
    let said = sandbox.refused(2, STATUS).complaint();
    for verb in ["init --without-recovery", "serve", "key list", "generate encryption-configuration"] {
        assert_eq!(sandbox.refused(2, &format!("{verb} --config [DIR]/config.toml")).complaint(), said, "{verb}");
    }
}
