//! Tests objects that cannot be rewritten: they are named, do not end the sweep, and do not count as written. Tests
//! that the command needs only the rights in the file in deploy/.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{Duration, Instant},
};

use super::rig::{PLAIN, PLAIN_KEY, Rig, STATE, has_all};
use crate::{
    cli::sandbox::{Sandbox, report_snapshot},
    harness::certificates::ClientCertificate,
};

/// A policy that refuses any change of the Secret `refused`.
pub(super) const POLICY: &str = r#"
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: refuse}
spec:
  failurePolicy: Fail
  matchConstraints:
    resourceRules:
    - {apiGroups: [""], apiVersions: [v1], operations: [UPDATE], resources: [secrets]}
  validations:
  - {expression: "!object.metadata.name.startsWith('refused')", message: this one stays as it is}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: refuse}
spec: {policyName: refuse, validationActions: [Deny]}
"#;

/// The key of an object whose kind the API server does not serve.
const GONE: &str = "/registry/example.com/gone/default/a";

#[test]
fn an_object_that_cannot_be_written_is_named_and_the_others_are_written() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 5);
    for name in ["refused", "refused-too", "moved"] {
        rig.api.kubectl(&["create", "secret", "generic", name, "--from-literal=a=b"]).unwrap();
    }
    rig.promote_and_adopt();
    // This Secret is under the new key, whether or not the first attempt of `wait_for_policy` is refused.
    rig.api.kubectl(&["label", "secret", "refused-too", "a=first"]).unwrap();
    rig.apply(POLICY);
    // A value is bound to its key in etcd, so nobody can decrypt this copy.
    let value = rig.etcd.get("/registry/secrets/default/old-0000").unwrap().unwrap();
    rig.etcd.put("/registry/secrets/default/moved", &value).unwrap();
    rig.etcd
        .put(GONE, br#"{"kind":"Gone","apiVersion":"example.com/v1","metadata":{"name":"a","namespace":"default"}}"#)
        .unwrap();
    wait_for_policy(&rig, true);

    rig.reencrypt(
        "--provider-name clavigr",
        2,
        &["has the KMS v2 provider name clavigr", "--provider-name claviger\n"],
    );
    let answer = rig.reencrypt(
        "",
        1,
        &[
            "objects were rewritten, 3 objects are left\n",
            "refused (2): ",
            "  /registry/secrets/default/refused: ",
            "this one stays as it is",
            "  /registry/secrets/default/moved: ",
            "not-served (1): ",
            &format!("  {GONE}: the API server serves no resource gone.example.com that can be patched\n"),
        ],
    );
    report_snapshot("report/reencrypt-left-over", &answer);
    let report = rig.reencrypt("--output json", 1, &[]).json();
    assert_eq!((&report["written"], &report["end"]), (&0.into(), &"left-over".into()), "{report}");
    assert_eq!(report["failures"], serde_json::json!({"refused": 2, "not-served": 1}), "{report}");

    // Objects that are left by name are not tried. They are listed, and the command does not succeed.
    let left = format!("--leave {GONE} --leave secrets/default/moved --leave /registry/secrets/default/refused");
    let answer =
        rig.reencrypt(&left, 1, &["left by name (3):\n", "Nothing was rewritten; something else is left over\n"]);
    assert!(!answer.stdout.contains("refused ("), "{answer}");
    rig.reencrypt("--leave /registry/secrets/default/old-0001", 2, &["no scanned object with this key is stale"]);

    rig.api.kubectl(&["delete", "validatingadmissionpolicybinding", "refuse"]).unwrap();
    wait_for_policy(&rig, false);
    rig.etcd.run_etcdctl(&["del", GONE]).unwrap();
    rig.etcd.run_etcdctl(&["del", "/registry/secrets/default/moved"]).unwrap();
    rig.reencrypt("", 0, &["All re-encrypted: "]);
    rig.is_clean();
}

/// Waits until the API server refuses as the policy says, or does not refuse any more.
pub(super) fn wait_for_policy(rig: &Rig, refuses: bool) {
    for number in 0..100 {
        let label = format!("a={refuses}-{number}");
        if rig.api.kubectl(&["label", "secret", "refused-too", &label, "--overwrite"]).is_err() == refuses {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
    panic!("the policy was not taken up");
}

/// Writes a kubeconfig with a token of a service account. Returns its path.
pub(super) fn account(rig: &Rig, name: &str) -> String {
    let token = rig.api.kubectl(&["create", "token", "--namespace", "kube-system", name]).unwrap();
    let whole = fs::read_to_string(rig.kubeconfig()).unwrap();
    let begin = whole.find("    token: ").unwrap();
    let end = begin + whole[begin..].find('\n').unwrap();
    let config = rig.sandbox.path("account.yaml");
    fs::write(&config, format!("{}    token: {}{}", &whole[..begin], token.trim(), &whole[end..])).unwrap();
    config.display().to_string()
}

#[test]
fn the_rights_in_deploy_suffice_and_less_does_not() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 30);
    rig.promote_and_adopt();
    let rights = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/reencrypt-rbac.yaml")).unwrap();
    let generated = rig.sandbox.run("generate reencrypt-rbac").ends_with(0).stdout.clone();
    assert_eq!(rights, generated, "the file in deploy is the generated one");
    let with_others = "generate reencrypt-rbac --resource secrets --resource configmaps";
    let rights = rig.sandbox.run(with_others).ends_with(0).stdout.clone();
    assert_eq!(rights.matches("  - patch\n").count(), 1);
    rig.apply(&rights.replace("  - patch\n", "  - get\n  - list\n  - update\n"));
    let config = account(&rig, "claviger-reencrypt");

    let answer = rig.call_as(&config, "").run();
    answer.ends_with(3);
    has_all(
        &answer,
        &[
            "This user lacks a right: nothing was rewritten, 31 objects are left\n",
            "cannot patch resource \"secrets\"",
            "reencrypt-rbac | kubectl apply -f -",
        ],
    );
    rig.apply(&rights);
    rig.call_as(&config, "").run().ends_with(0);
    rig.is_clean();
    // What these rights do not show is said to be not known, and stops nothing.
    let pid = rig.api.process().unwrap().id();
    let line = format!(
        "rotate --dry-run {STATE} --socket [DIR]/run/kms.sock --apiserver-process {pid} --kubeconfig {config} \
         --without-backup --api-servers 1"
    );
    let dry = rig.sandbox.run(&line);
    dry.ends_with(0);
    has_all(&dry, &["  unknown: whether a webhook may refuse: the API server at ", " answered HTTP 403 to /apis/"]);
}

#[test]
fn whatever_is_wrong_with_the_way_to_the_api_server_is_said() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 2);
    rig.promote_and_adopt();
    let whole = fs::read_to_string(rig.kubeconfig()).unwrap();
    let config = rig.sandbox.path("other.yaml");
    let other = config.display().to_string();
    for (text, exit, expected) in [
        (
            whole.replacen("token: ", "token: x", 1),
            3,
            "The API server does not accept the credentials: 3 objects are left\n",
        ),
        (
            whole.replacen("current-context: test", "current-context: x", 1),
            2,
            "other.yaml: it has no context x\nhint:  the contexts that it has: test; name one: --context test\n",
        ),
        ("}{".to_owned(), 2, "other.yaml: it is not the YAML of a kubeconfig (line 1, column 1)"),
        (whole.replacen("server: https", "server: http", 1), 2, "answered HTTP 400 to /api/v1"),
    ] {
        fs::write(&config, text).unwrap();
        let answer = rig.call_as(&other, "").run();
        answer.ends_with(exit);
        has_all(&answer, &[expected]);
    }
    // Another attempt would not make the certificate better, so the command does not wait.
    let authority = whole.lines().find(|line| line.contains("certificate-authority-data: ")).unwrap();
    let stranger = ClientCertificate::create(rig.sandbox.root(), "stranger").unwrap();
    fs::write(
        &config,
        whole.replace(authority, &format!("    certificate-authority: {}", stranger.certificate.display())),
    )
    .unwrap();
    let begin = Instant::now();
    let answer = rig.call_as(&other, "").run();
    answer.ends_with(6);
    has_all(
        &answer,
        &[
            "The API server does not answer: nothing was rewritten, 3 objects are left\n",
            "invalid peer certificate: UnknownIssuer",
            "hint:  something listens there, and its certificate is not signed by the `certificate-authority` of the kubeconfig: ",
        ],
    );
    assert!(begin.elapsed() < Duration::from_secs(30), "{answer}");
    refuses_a_kubeconfig_that_others_may_write_and_one_that_is_gone(&mut rig, &config);
}

fn refuses_a_kubeconfig_that_others_may_write_and_one_that_is_gone(rig: &mut Rig, config: &Path) {
    let other = config.display().to_string();
    fs::set_permissions(config, fs::Permissions::from_mode(0o666)).unwrap();
    let answer = rig.call_as(&other, "").run();
    answer.ends_with(2);
    has_all(
        &answer,
        &[
            "other.yaml: its mode is 0666, so other users may write it",
            "hint:  read the file first, because others may have changed it; then: chmod go-w ",
        ],
    );
    fs::remove_file(config).unwrap();
    let answer = rig.call_as(&other, "").run();
    answer.ends_with(2);
    has_all(&answer, &["other.yaml: reading it: No such file"]);
    assert!(!answer.stderr.contains('"'), "{answer}");
}

/// An API server may be starting, so the command waits for it, but not in silence.
#[test]
fn an_api_server_that_does_not_answer_is_named_while_the_command_waits() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 2);
    rig.promote_and_adopt();
    let whole = fs::read_to_string(rig.kubeconfig()).unwrap();
    let server = whole.lines().find(|line| line.contains("server: ")).unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let config = rig.sandbox.path("other.yaml");
    let other = config.display().to_string();
    for (url, expected) in [
        (
            "https://127.0.0.1:1".to_owned(),
            "the API server at https://127.0.0.1:1 does not answer, waiting for up to 2 min: ",
        ),
        (format!("https://{address}"), "waiting for an answer of the API server at https://127.0.0.1:"),
    ] {
        fs::write(&config, whole.replace(server, &format!("    server: {url}"))).unwrap();
        let mut child = rig.call_as(&other, "").start();
        let mut line = String::new();
        BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with(expected), "{line}");
        assert_eq!(line.contains("Connection refused"), url.ends_with(":1"), "{line}");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn nothing_of_a_credential_is_shown_whatever_is_wrong_with_it() {
    let mut rig = Rig::new();
    let whole = fs::read_to_string(rig.kubeconfig()).unwrap();
    let config = rig.sandbox.path("other.yaml");
    let other = config.display().to_string();
    let no_token = whole.lines().find(|line| line.contains("token: ")).unwrap();
    let program = |script: &str| {
        let exec =
            "exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sh, args: [-c,";
        whole.replace(no_token, &format!("    {exec} {script:?}]}}"))
    };
    for (text, expected) in [
        (whole.replace(no_token, "    token: s3cr3t\n   x: [y"), "it is not the YAML of a kubeconfig (line "),
        (whole.replace(no_token, "    token: [s3cr3t]"), "it is not the YAML of a kubeconfig (line "),
        (
            whole.replace(no_token, "    token: \"s3cr3t\\nx\""),
            "other.yaml: the token has a character that cannot be sent, such as a line break",
        ),
        (program("echo s3cr3t; echo s3cr3t >&2; exit 3"), "names for credentials ended with exit status: 3"),
        (
            program("printf '%s' '{\"status\":{\"token\":\"s3cr3t\\nx\"}}'"),
            "the credentials for the API server: the token has a character that cannot be sent, such as a line break",
        ),
        (
            program("echo '{s3cr3t'"),
            "the program that the kubeconfig names printed something other than an ExecCredential",
        ),
        (
            program("echo '{\"status\":{\"token\":\"\"},\"other\":\"s3cr3t\"}'"),
            "the program that the kubeconfig names printed no credentials",
        ),
    ] {
        fs::write(&config, text).unwrap();
        let answer = rig.call_as(&other, "").run();
        answer.ends_with(2);
        has_all(&answer, &[expected]);
        assert!(!answer.stdout.contains("s3cr3t") && !answer.stderr.contains("s3cr3t"), "{answer}");
    }
    let starting = whole.replace(
        no_token,
        "    exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: /nonexistent/program}",
    );
    fs::write(&config, starting).unwrap();
    let answer = rig.call_as(&other, "").run();
    answer.ends_with(2);
    has_all(&answer, &["starting the program that the kubeconfig names for credentials: "]);

    fs::write(&config, whole.replace(no_token, "    client-certificate-data: eA==\n    client-key-data: eA=="))
        .unwrap();
    let answer = rig.call_as(&other, "").run();
    answer.ends_with(2);
    has_all(&answer, &["the credentials for the API server: ", "have to be a pair"]);
}

#[test]
fn certificates_and_programs_work_as_credentials() {
    let (mut rig, by) = Rig::with_certificate("certified");
    let whole = fs::read_to_string(rig.kubeconfig()).unwrap();
    let line = whole.lines().find(|line| line.contains("token: ")).unwrap();
    let token = line.rsplit(' ').next().unwrap();
    let (file, key) = (by.certificate.display(), by.key.display());
    let certificate = format!("    client-certificate: {file}\n    client-key: {key}");
    let script = rig.sandbox.path("credentials.sh");
    let credential = format!(
        r#"{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{{"token":"{token}"}}}}"#
    );
    fs::write(&script, format!("echo '{credential}'\n")).unwrap();
    let exec = "exec: {apiVersion: client.authentication.k8s.io/v1, interactiveMode: Never, command: sh, args:";
    let program = format!("    {exec} [{}]}}", script.display());
    let binding = ["create", "clusterrolebinding", "certified", "--clusterrole=cluster-admin", "--user=certified"];
    rig.api.kubectl(&binding).unwrap();
    let config = rig.sandbox.path("other.yaml");
    // The program fails when the client needs the next token.
    let count = rig.sandbox.path("count");
    let expiring = credential
        .replace(&format!("\"{token}\""), &format!("\"{token}\",\"expirationTimestamp\":\"2020-01-01T00:00:00Z\""));
    let failing = rig.sandbox.path("failing.sh");
    let (count, script) = (count.display(), format!("echo '{expiring}'\n"));
    fs::write(&failing, format!("echo . >> {count}\n[ $(wc -l < {count}) -le 2 ] || exit 4\n{script}")).unwrap();
    fs::write(&config, whole.replace(line, &format!("    {exec} [{}]}}", failing.display()))).unwrap();
    rig.etcd.put(PLAIN_KEY, PLAIN).unwrap();
    let begin = Instant::now();
    let answer = rig.call_as(&config.display().to_string(), "").run();
    answer.ends_with(3);
    let because = "the program that the kubeconfig names for credentials ended with exit status: 4\n";
    has_all(&answer, &["There are no credentials for the API server: nothing was rewritten, ", because]);
    assert!(begin.elapsed() < Duration::from_secs(30) && !answer.stdout.contains(token), "{answer}");
    for user in [certificate, program] {
        rig.reencrypt("", 0, &[]);
        rig.etcd.put(PLAIN_KEY, PLAIN).unwrap();
        fs::write(&config, whole.replace(line, &user)).unwrap();
        let answer = rig.call_as(&config.display().to_string(), "").run();
        answer.ends_with(0);
        has_all(&answer, &["All re-encrypted: 1 object was rewritten"]);
        rig.is_clean();
    }
}

/// The other API server has Secrets with the same names, in another etcd.
#[test]
fn the_api_server_of_another_cluster_is_recognised() {
    let (mut rig, other) = (Rig::new(), Rig::new());
    // Without these Secrets, both clusters may have the same objects at the same revisions.
    other.create_secrets("earlier", 5);
    for rig in [&rig, &other] {
        rig.create_secrets("old", 3);
    }
    rig.promote_and_adopt();
    let answer = rig.call_as(&other.kubeconfig().display().to_string(), "").run();
    answer.ends_with(2);
    has_all(
        &answer,
        &["The API server is another cluster's: it does not use this etcd; 4 objects are left\n", "--kubeconfig FILE"],
    );

    // Objects are written in plaintext only with the flag.
    let generate = "generate encryption-configuration --identity-first --socket [DIR]/run/kms.sock";
    fs::write(rig.sandbox.path("plain.yaml"), rig.sandbox.unmask(&rig.sandbox.run(generate).stdout)).unwrap();
    let refused = rig.call("--encryption-config [DIR]/plain.yaml").run();
    refused.ends_with(3);
    has_all(
        &refused,
        &[
            "the EncryptionConfiguration puts identity first for secrets: its encrypted values would be written in plaintext",
        ],
    );

    // The audit log names the user before the first request, which this token cannot make.
    let whole = fs::read_to_string(rig.kubeconfig()).unwrap();
    let config = rig.sandbox.path("no-token.yaml");
    fs::write(&config, whole.replacen("token: ", "token: x", 1)).unwrap();
    let wanted = "--risk-plaintext --encryption-config [DIR]/plain.yaml";
    rig.call_as(&config.display().to_string(), wanted).run().ends_with(3);
    let audit = fs::read_to_string(rig.sandbox.path("state/audit.jsonl")).unwrap();
    let last: serde_json::Value = serde_json::from_str(audit.lines().last().unwrap()).unwrap();
    assert_eq!(last["event"], "reencrypt-to-plaintext", "{last}");
    assert_eq!(last["resources"], serde_json::json!(["secrets"]), "{last}");
    assert!(last["api_server"].as_str().unwrap().starts_with("https://"), "{last}");

    // A damaged value does not keep other objects from being written.
    rig.etcd.put("/registry/secrets/default/damaged", b"k8s:enc:kms:v2:claviger:\x0a\xff").unwrap();
    let named = "damaged (1): the API server cannot decrypt these values\n  /registry/secrets/default/damaged\n";
    rig.reencrypt("", 7, &["4 objects were rewritten; ", named, "damaged: rewriting these changes nothing"]);
}

/// Without a kubeconfig, the environment says what is missing.
#[test]
fn without_a_kubeconfig_the_command_says_so_before_it_scans() {
    let sandbox = Sandbox::initialised();
    fs::write(sandbox.path("enc.yaml"), sandbox.run("generate encryption-configuration").stdout).unwrap();
    let line = "reencrypt --state-dir [DIR]/state --etcd-servers http://127.0.0.1:1 --encryption-config [DIR]/enc.yaml";
    let none = ["env", "-u", "KUBECONFIG", "-u", "KUBERNETES_SERVICE_HOST", "HOME=/nonexistent"];
    let pod = [
        "env",
        "-u",
        "KUBECONFIG",
        "KUBERNETES_SERVICE_HOST=127.0.0.1",
        "KUBERNETES_SERVICE_PORT=1",
        "HOME=/nonexistent",
    ];
    let is_node = std::path::Path::new("/etc/kubernetes/admin.conf").exists();
    let expected =
        "there is no kubeconfig: no option names one, and neither ~/.kube/config nor /etc/kubernetes/admin.conf exists";
    for (environment, expected) in [(&none[..], expected), (&pod, "the service account of this Pod: ")] {
        let answer = sandbox.call(line).under(environment.iter().copied(), "").run();
        assert!(is_node || answer.code == 2 && answer.stderr.contains(expected), "{answer}");
    }
    let answer = sandbox.refused(2, "reencrypt --state-dir [DIR]/state --etcd-servers http://127.0.0.1:1");
    assert!(answer.stderr.contains("no option says where the EncryptionConfiguration is"), "{answer}");
    let answer = sandbox.refused(2, &line.replace("/state ", "/nowhere "));
    assert!(answer.stderr.contains("/nowhere/keyring: "), "{answer}");
    assert!(answer.stderr.contains("name the primary key: --primary KEY_ID\n"), "{answer}");
    // A preview asks no API server. Here it fails at etcd.
    let answer = sandbox.call(&format!("{line} --dry-run")).under(none, "").run();
    assert!(answer.code == 6 && !answer.stderr.contains("kubeconfig"), "{answer}");
}
