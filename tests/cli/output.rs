//! What the verbs print when all is well, for people and for programs.

use std::{fs, path::Path};

use age::{secrecy::ExposeSecret, x25519::Identity};

use super::sandbox::{Answer, Sandbox, snapshot};

/// Makes a recovery identity, writes it to the file `name` as age-keygen does, and returns its recipient.
pub(crate) fn identity(sandbox: &Sandbox, name: &str) -> String {
    let identity = Identity::generate();
    let recipient = identity.to_public().to_string();
    let secret = identity.to_string();
    let text = format!("# created: 2026-11-23T20:14:48Z\n# public key: {recipient}\n{}\n", secret.expose_secret());
    fs::write(sandbox.path(name), text).unwrap();
    recipient
}

/// Runs `line` with and without `--output json`. Returns the text first, then the JSON. Both end with `exit`, and the
/// JSON names `format`.
fn both(sandbox: &Sandbox, exit: i32, line: &str, format: &str) -> [Answer; 2] {
    let answers = [sandbox.run(line), sandbox.run(&format!("{line} --output json"))];
    for answer in &answers {
        answer.ends_with(exit);
    }
    assert_eq!(answers[1].json()["format"], format);
    answers
}

#[test]
fn init_says_what_it_made_and_what_comes_next() {
    let sandbox = Sandbox::new();
    sandbox.run("init --state-dir [DIR]/state --without-recovery").ends_with(0).matches("output/init");
    let json = sandbox.run("init --state-dir [DIR]/json --without-recovery --output json");
    json.ends_with(0).matches("output/init-json");
    assert_eq!(json.json()["format"], "claviger/init/v1");
    let quiet = sandbox.run("init --state-dir [DIR]/quiet --without-recovery --quiet");
    assert_eq!((quiet.code, &*quiet.stdout, &*quiet.stderr), (0, "", ""));
    let quiet = sandbox.run("init --state-dir [DIR]/both --without-recovery --quiet --output json");
    assert_eq!(quiet.ends_with(0).json()["state_dir"], "[DIR]/both");
}

#[test]
fn init_makes_a_private_directory() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = Sandbox::initialised();
    let mode = |path: &Path| path.symlink_metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&sandbox.path("state")), 0o700);
    for name in ["keyring", "lock", "mark", "root", "slot-file.key"] {
        assert_eq!(mode(&sandbox.path("state").join(name)), 0o600, "{name}");
    }
}

#[test]
fn init_takes_recovery_identities_from_a_file_and_from_standard_input() {
    let sandbox = Sandbox::new();
    let (one, two) = (identity(&sandbox, "identity-1.txt"), identity(&sandbox, "identity-2.txt"));
    let file = |name: &str| fs::read_to_string(sandbox.path(name)).unwrap();
    let answers = [
        sandbox.run(&format!(
            "init --state-dir [DIR]/file --recovery-recipient {one} --recovery-identity [DIR]/identity-1.txt"
        )),
        sandbox
            .call(&format!("init --state-dir [DIR]/stdin --recovery-recipient {one} --recovery-identity -"))
            .stdin(file("identity-1.txt"))
            .run(),
        sandbox
            .call(&format!(
                "init --state-dir [DIR]/two --recovery-recipient {one} --recovery-recipient {two} --recovery-identity -"
            ))
            .stdin(file("identity-2.txt") + &file("identity-1.txt"))
            .run(),
    ];
    for answer in &answers {
        answer.ends_with(0);
    }
    snapshot("output/init-with-recovery", &answers.each_ref());

    let status = sandbox.run("status --state-dir [DIR]/two --socket [DIR]/run/kms.sock --output json").json();
    let mut recipients = [one, two];
    recipients.sort();
    assert_eq!(status["recovery_recipients"], serde_json::json!(recipients));
    for name in ["file", "stdin", "two"] {
        sandbox.run(&format!("key list --state-dir [DIR]/{name}")).ends_with(0);
    }
}

#[test]
fn init_puts_the_slot_key_where_the_flag_says() {
    let sandbox = Sandbox::new();
    fs::create_dir(sandbox.path("disk")).unwrap();
    sandbox.chmod("disk", 0o755);
    let init = "init --state-dir [DIR]/state --without-recovery --slot-file [DIR]/disk/slot.key";
    sandbox.run(init).ends_with(0).matches("output/init-slot-file");
    assert!(!sandbox.path("state/slot-file.key").exists());
    assert_eq!(fs::read(sandbox.path("disk/slot.key")).unwrap().len(), 32);
    sandbox.run("key list --state-dir [DIR]/state").ends_with(0);
    fs::rename(sandbox.path("disk"), sandbox.path("unmounted")).unwrap();
    sandbox.unopened(7, "state").matches("output/slot-file-gone");
}

#[test]
fn key_list_shows_the_keys() {
    let sandbox = Sandbox::initialised();
    let answers = both(&sandbox, 0, "key list --state-dir [DIR]/state", "claviger/key-list/v1");
    snapshot("output/key-list", &answers.each_ref());
    let quiet = sandbox.run("key list --state-dir [DIR]/state --quiet");
    assert_eq!(quiet.stdout, answers[0].stdout, "what was asked for is printed also when quiet");
}

#[test]
fn status_ends_with_0_only_when_the_plugin_answers() {
    let sandbox = Sandbox::initialised();
    let status = "status --state-dir [DIR]/state --socket [DIR]/run/kms.sock --backups none";
    let stopped = both(&sandbox, 1, status, "claviger/status/v1");
    snapshot("output/status-stopped", &stopped.each_ref());
    let mut daemon = sandbox.serve("--state-dir [DIR]/state --socket [DIR]/run/kms.sock");
    let running = both(&sandbox, 0, status, "claviger/status/v1");
    snapshot("output/status-running", &running.each_ref());
    daemon.kill();
    snapshot("output/status-killed", &[&sandbox.run(status)]);
}

#[test]
fn status_recognises_a_plugin_with_other_keys_and_what_is_no_plugin() {
    let sandbox = Sandbox::initialised();
    sandbox.init("other");
    let _daemon = sandbox.serve("--state-dir [DIR]/other --socket [DIR]/run/kms.sock");
    sandbox
        .run("status --state-dir [DIR]/state --socket [DIR]/run/kms.sock --backups none")
        .ends_with(1)
        .matches("output/status-other");
    let listener = std::os::unix::net::UnixListener::bind(sandbox.path("run/none.sock")).unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    // The reason that the system gives for the closed connection depends on timing.
    let none = sandbox.run("status --state-dir [DIR]/state --socket [DIR]/run/none.sock");
    let expected = "! the plugin does not answer: the connection was closed before an answer came: ";
    assert!(none.code == 1 && none.stdout.contains(expected), "{none}");
}

#[test]
fn serve_logs_its_life_and_takes_its_socket_away() {
    let sandbox = Sandbox::initialised();
    let before = sandbox.tree();
    let mut daemon = sandbox.serve("--state-dir [DIR]/state --socket [DIR]/run/kms.sock");
    let (exit, log) = daemon.terminate();
    assert_eq!(exit, Some(0));
    let messages: Vec<String> = log
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|event| event["message"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(messages, ["listening", "protected", "unsealed", "stopping", "stopped"]);
    let audit = sandbox.path("state/audit.jsonl");
    assert_eq!(before.changes(&sandbox.tree()), [format!("{}: other bytes", audit.display())]);
    let line: serde_json::Value =
        serde_json::from_str(std::fs::read_to_string(audit).unwrap().lines().last().unwrap()).unwrap();
    assert_eq!((&line["event"], &line["slot"]), (&"unseal".into(), &"file".into()));
}

#[test]
fn the_encryption_configuration_names_socket_provider_and_resources() {
    let sandbox = Sandbox::new();
    let verb = "generate encryption-configuration";
    sandbox.run(verb).ends_with(0).matches("output/encryption-configuration");
    let resources = "--resource secrets --resource configmaps --resource *.example.com --resource *.*";
    let flags = format!("{resources} --socket @claviger --provider-name claviger-2");
    sandbox.run(&format!("{verb} {flags}")).ends_with(0).matches("output/encryption-configuration-flags");
    let json = sandbox.run(&format!("{verb} {flags} --output json"));
    json.ends_with(0).matches("output/encryption-configuration-json");
    // A Kubernetes document has no field `format`, because the API server refuses fields that it does not know.
    assert_eq!(json.json()["apiVersion"], "apiserver.config.k8s.io/v1");
    let yaml = sandbox.run(&format!("{verb} {flags} --quiet"));
    assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&yaml.stdout).unwrap(), json.json());
}

#[test]
fn the_rights_for_a_re_encryption_are_one_rule_for_each_api_group() {
    let resources = "--resource secrets --resource widgets.example.com --resource configmaps --resource *.apps";
    let sandbox = Sandbox::new();
    let list = sandbox.run(&format!("generate reencrypt-rbac {resources} --output json")).json();
    let role = list["items"].as_array().unwrap().iter().find(|item| item["kind"] == "ClusterRole").unwrap();
    let allowed = |group: &str, resources: &[&str]| serde_json::json!({"apiGroups": [group], "resources": resources, "verbs": ["patch"]});
    let expected =
        [allowed("", &["secrets", "configmaps"]), allowed("apps", &["*"]), allowed("example.com", &["widgets"])];
    assert_eq!(role["rules"], serde_json::Value::from(expected.to_vec()));
    sandbox.refused(2, "generate reencrypt-rbac --resource secret");
}

#[test]
fn the_runbook_is_printed_whole_or_by_chapter() {
    let sandbox = Sandbox::new();
    assert_eq!(sandbox.run("runbook").ends_with(0).stdout, include_str!("../../docs/runbook.md"));
    let chapter = sandbox.run("runbook passphrase is lost").ends_with(0).stdout.clone();
    assert!(chapter.starts_with("## The passphrase is lost\n"), "{chapter}");
    let unknown = sandbox.refused(2, "runbook unicorn");
    assert!(unknown.stderr.contains("The plugin is down"), "{unknown}");
}

#[test]
fn the_deployed_encryption_configuration_is_the_generated_one() {
    let deployed = include_str!("../../deploy/encryption-configuration.yaml");
    let deployed: String =
        deployed.lines().filter(|line| !line.trim_start().starts_with('#')).map(|line| format!("{line}\n")).collect();
    assert_eq!(Sandbox::new().run("generate encryption-configuration").stdout, deployed);
}
