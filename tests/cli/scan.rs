//! Tests `scan` on a snapshot that a real etcd 3.7 wrote, `tests/vectors/etcd-snapshot.db`: its output, its findings
//! and its refusals.

use std::{collections::BTreeMap, fs};

use serde_json::Value;

use super::sandbox::{Answer, Sandbox};

/// The primary key of the snapshot.
const PRIMARY: &str = "k2-9c01d3bd2f1e4a7788fa0b4cc3e2d1a0";

/// A local key. No error may show it.
const SECRET: &str = "c2VjcmV0IGlzIHNlY3VyZQ==";

const COVERED: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, configmaps]
  providers:
  - kms: {apiVersion: v2, name: claviger, endpoint: unix:///run/claviger/kms.sock}
  - identity: {}
";

fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new();
    let snapshot = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/etcd-snapshot.db");
    fs::copy(snapshot, sandbox.path("etcd.db")).unwrap();
    fs::write(sandbox.path("enc.yaml"), COVERED).unwrap();
    sandbox
}

fn scan(sandbox: &Sandbox, flags: &str) -> Answer {
    sandbox.run(&format!("scan --snapshot [DIR]/etcd.db {flags}"))
}

/// Returns the number of findings of each kind.
fn found(report: &Value) -> BTreeMap<String, u64> {
    serde_json::from_value(report["found"].clone()).unwrap()
}

#[test]
fn a_snapshot_is_shown_with_what_can_be_read() {
    let sandbox = sandbox();
    scan(&sandbox, "").ends_with(1).matches("scan/alone");
    scan(&sandbox, "--encryption-config [DIR]/enc.yaml").ends_with(1).matches("scan/covered");
    let keys = format!("--encryption-config [DIR]/enc.yaml --primary {PRIMARY}");
    scan(&sandbox, &keys).ends_with(1).matches("scan/keys");
    scan(&sandbox, "--all --quiet").ends_with(1).matches("scan/all");
}

#[test]
fn json_names_every_group_and_finding() {
    let sandbox = sandbox();
    let flags = format!("--encryption-config [DIR]/enc.yaml --primary {PRIMARY} --output json");
    let answer = scan(&sandbox, &flags);
    answer.ends_with(1).matches("scan/json");
    let report = answer.json();
    assert_eq!(report["format"], "claviger/scan/v1");
    let expected = [("no-provider", 1), ("plaintext-although-covered", 5), ("stale", 7)];
    assert_eq!(found(&report), expected.map(|(kind, count)| (kind.to_owned(), count)).into());
    assert_eq!(report["findings"].as_array().unwrap().len(), 13);
    let objects: u64 = report["groups"].as_array().unwrap().iter().map(|row| row["objects"].as_u64().unwrap()).sum();
    assert_eq!(report["all"]["objects"], objects);
}

#[test]
fn a_list_has_a_line_for_each_live_object() {
    let sandbox = sandbox();
    let answer = scan(&sandbox, "--list --encryption-config [DIR]/enc.yaml");
    answer.ends_with(1);
    let lines: Vec<Value> = answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 66);
    let of = |finding: &str| lines.iter().filter(|line| line["finding"] == finding).count();
    assert_eq!((of("plaintext-although-covered"), of("no-provider")), (5, 1));
    let one = lines.iter().find(|line| line["key"] == "/registry/secrets/default/app-00").unwrap();
    let names = ["resource", "provider", "key_id", "finding"].map(|name| one[name].as_str());
    assert_eq!(names, [Some("secrets"), Some("kms:v2:claviger"), Some(PRIMARY), None]);
    let sentence = "The API server cannot read 1 of 22 Secrets. 2 of 22 Secrets are readable in etcd. \
                    3 other objects are readable, although they should be encrypted\n";
    assert_eq!(answer.stderr, sentence);
    assert_eq!(scan(&sandbox, "--list --quiet").stderr, "");
}

#[test]
fn a_wrong_prefix_is_not_taken_for_an_etcd_in_which_all_is_well() {
    let sandbox = sandbox();
    scan(&sandbox, "--etcd-prefix /elsewhere").ends_with(7).matches("scan/nothing");
    // Only custom resources are below this prefix.
    scan(&sandbox, "--etcd-prefix /registry/example.com").ends_with(7).matches("scan/inside");
}

#[test]
fn a_keyring_says_which_keys_are_not_its_own() {
    let sandbox = sandbox();
    sandbox.init("state");
    let answer = scan(&sandbox, "--keyring [DIR]/state/keyring --output json");
    assert_eq!(found(&answer.ends_with(1).json())["unknown-key"], 25, "no key of the snapshot is in a new keyring");
    // If no value had the name of the provider, no value would be compared, and all would seem well.
    let misspelt = scan(&sandbox, "--keyring [DIR]/state/keyring --provider-name clavigr");
    misspelt.ends_with(2).matches("scan/misspelt-provider");
    let both = scan(&sandbox, "--encryption-config [DIR]/enc.yaml --provider-name clavigr");
    let expected =
        "error: no value and no provider of the EncryptionConfiguration has the KMS v2 provider name clavigr\n";
    assert!(both.ends_with(2).stderr.starts_with(expected), "{both}");
    scan(&sandbox, "--keyring [DIR]/state/root").ends_with(7).matches("scan/no-keyring");
}

#[test]
fn a_primary_key_is_given_by_its_whole_name() {
    let sandbox = sandbox();
    scan(&sandbox, "--primary k2").ends_with(2).matches("scan/short-primary");
    for name in [&PRIMARY[..PRIMARY.len() - 1], "projects/p/keys/1", &PRIMARY.to_uppercase()] {
        let answer = scan(&sandbox, &format!("--primary {name}"));
        assert!(answer.ends_with(2).stderr.contains("expected k<number>-<32 hex digits>"), "{answer}");
    }
}

#[test]
fn the_page_for_auditors_needs_nothing_else_and_is_never_written_over() {
    let sandbox = sandbox();
    let flags = format!("--encryption-config [DIR]/enc.yaml --primary {PRIMARY} --html [DIR]/report.html --quiet");
    scan(&sandbox, &flags).ends_with(1);
    let page = fs::read_to_string(sandbox.path("report.html")).unwrap();
    for expected in [
        "2 of 22 Secrets are readable in etcd",
        "/registry/secrets/kube-system/bootstrap-token-00",
        "plaintext-although-covered: 5",
        "which matches the digest in the snapshot",
        PRIMARY,
        "<svg",
        "69",
    ] {
        assert!(page.contains(expected), "{expected}");
    }
    for foreign in ["http:", "https:", "<script", "<link", "url(", "@import"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    scan(&sandbox, "--html [DIR]/report.html").ends_with(3).matches("scan/html-exists");
    assert_eq!(fs::read_to_string(sandbox.path("report.html")).unwrap(), page);
}

#[test]
fn a_page_that_would_go_nowhere_is_refused_before_the_scan() {
    let sandbox = sandbox();
    for flag in ["--html", "--prometheus"] {
        let answer = sandbox.refused(2, &format!("scan --snapshot [DIR]/etcd.db {flag} -"));
        let said =
            format!("error: invalid value '-' for '{flag} <FILE>': expected a name: standard output has the report; ");
        assert!(answer.stderr.starts_with(&said), "{answer}");
    }
    let null = sandbox.refused(3, "scan --snapshot [DIR]/etcd.db --html /dev/null").complaint();
    let said = "error: /dev/null already exists\nhint:  it is no file, so nothing can be kept there: name a file that does not exist, or \
                omit the option\n";
    assert_eq!(null, said);
}

#[test]
fn an_entry_that_covers_nothing_is_named() {
    let sandbox = sandbox();
    let note = |resources: &str| {
        fs::write(sandbox.path("enc.yaml"), COVERED.replace("[secrets, configmaps]", resources)).unwrap();
        let answer = scan(&sandbox, "--encryption-config [DIR]/enc.yaml");
        answer.stdout.lines().find(|line| line.contains("the EncryptionConfiguration lists ")).map(ToOwned::to_owned)
    };
    let said = "note:  the EncryptionConfiguration lists *.example.org, configmap, widgets, and etcd has no object of that name: is it \
                written as `kubectl api-resources` shows it, with its group?";
    assert_eq!(note("[secrets, configmap, '*.example.org', widgets]").as_deref(), Some(said));
    for right in ["[secrets, configmaps]", "['*.*']", "['*.', '*.apps']"] {
        assert_eq!(note(right), None);
    }
}

#[test]
fn a_snapshot_is_taken_again_where_the_flags_of_the_api_server_say() {
    let sandbox = sandbox();
    let bytes = fs::read(sandbox.path("etcd.db")).unwrap();
    fs::write(sandbox.path("etcd.db"), [&bytes[..bytes.len() - 1], &[bytes[bytes.len() - 1] ^ 1]].concat()).unwrap();
    let alone = scan(&sandbox, "");
    assert!(
        alone.stdout.contains(": etcdctl --endpoints URL snapshot save FILE && claviger scan --snapshot FILE\n"),
        "{alone}"
    );
    let command = "[kube-apiserver, --etcd-servers=https://etcd-1:2379, --etcd-cafile=/ca.crt, --etcd-certfile=/c.crt, --etcd-keyfile=/c.key]";
    let pod = format!("apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - command: {command}\n");
    fs::write(sandbox.path("pod.yaml"), pod).unwrap();
    let known = scan(&sandbox, "--apiserver-manifest [DIR]/pod.yaml");
    let hint =
        ": etcdctl --endpoints https://etcd-1:2379 --cacert /ca.crt --cert /c.crt --key /c.key snapshot save FILE && ";
    assert!(known.stdout.contains(hint), "{known}");
}

#[test]
fn metrics_are_written_over_what_was_there_for_everybody_to_read() {
    use std::os::unix::fs::PermissionsExt;
    let sandbox = sandbox();
    for _ in 0..2 {
        scan(&sandbox, "--prometheus [DIR]/claviger.prom --quiet").ends_with(1);
    }
    let text = fs::read_to_string(sandbox.path("claviger.prom")).unwrap();
    assert!(text.contains("claviger_scan_found{kind=\"plaintext\"} 2\n"), "{text}");
    assert!(text.contains("claviger_scan_found{kind=\"stale\"} 0\n") && text.contains("claviger_scan_revision 69\n"));
    assert!(!text.contains("bootstrap-token") && !text.contains("EOF"), "names of objects are nobody's business");
    let mode = fs::metadata(sandbox.path("claviger.prom")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
    scan(&sandbox, "--prometheus [DIR]/no/claviger.prom").ends_with(3).matches("scan/prometheus-nowhere");
    // A file never replaces a device or a link.
    std::os::unix::fs::symlink("/dev/null", sandbox.path("link.prom")).unwrap();
    scan(&sandbox, "--prometheus [DIR]/link.prom").ends_with(3).matches("scan/prometheus-to-a-link");
    assert!(sandbox.path("link.prom").is_symlink());
}

#[test]
fn what_is_no_database_is_refused_with_its_reason() {
    let sandbox = sandbox();
    fs::write(sandbox.path("text"), "not a database").unwrap();
    fs::write(sandbox.path("empty"), "").unwrap();
    for (name, exit, file) in
        [("missing", 2, "absent"), ("directory", 2, "run"), ("text", 7, "text"), ("empty", 7, "empty")]
    {
        sandbox.run(&format!("scan --snapshot [DIR]/{file}")).ends_with(exit).matches(&format!("scan/refused-{name}"));
    }
    sandbox.run("scan --snapshot a --etcd-servers http://127.0.0.1:1").ends_with(2);
    sandbox.run("scan --etcd-servers 127.0.0.1:1").ends_with(2).matches("scan/refused-endpoint");
    sandbox.run("scan --etcd-servers https://127.0.0.1:1").ends_with(2).matches("scan/refused-cafile");
    sandbox.run("scan --etcd-servers http://127.0.0.1:1").ends_with(6);
    sandbox.run("scan --apiserver-manifest [DIR]/enc.yaml").ends_with(7).matches("scan/refused-manifest");
}

#[test]
fn a_configuration_that_is_missing_is_named_with_the_place_that_names_it() {
    let sandbox = sandbox();
    let command = "[kube-apiserver, --etcd-servers=http://127.0.0.1:1, --encryption-provider-config=[DIR]/absent.yaml]";
    let pod = format!("apiVersion: v1\nkind: Pod\nspec:\n  containers:\n  - command: {command}\n");
    fs::write(sandbox.path("pod.yaml"), sandbox.unmask(&pod)).unwrap();
    scan(&sandbox, "--apiserver-manifest [DIR]/pod.yaml").ends_with(2).matches("scan/configuration-absent");
    let own = scan(&sandbox, "--apiserver-manifest [DIR]/pod.yaml --encryption-config [DIR]/nowhere.yaml");
    assert!(!own.ends_with(2).stderr.contains("names"), "{own}");
}

#[test]
fn a_damaged_snapshot_is_read_as_far_as_it_goes() {
    let sandbox = sandbox();
    let mut bytes = fs::read(sandbox.path("etcd.db")).unwrap();
    let length = bytes.len() - 32;
    // Each page is overwritten with zeros in turn.
    let mut damaged = 0;
    for page in 0..length / 4096 {
        let whole = bytes[page * 4096..(page + 1) * 4096].to_vec();
        bytes[page * 4096..(page + 1) * 4096].fill(0);
        fs::write(sandbox.path("etcd.db"), &bytes[..length]).unwrap();
        let answer = scan(&sandbox, "--output json");
        damaged += usize::from(answer.code == 7);
        assert!([1, 7].contains(&answer.code), "page {page}");
        bytes[page * 4096..(page + 1) * 4096].copy_from_slice(&whole);
    }
    assert!(damaged >= 4, "only {damaged} of {} pages were missed", length / 4096);
    // The digest covers every byte, also those of a free page.
    bytes[length - 1] ^= 1;
    fs::write(sandbox.path("etcd.db"), &bytes).unwrap();
    scan(&sandbox, "").ends_with(7).matches("scan/digest");
}

#[test]
fn an_encryption_configuration_that_no_api_server_would_take_is_refused_without_its_secrets() {
    let sandbox = sandbox();
    for (name, providers) in [
        ("misplaced", format!("[{{aescbc: {{keys: {SECRET}}}}}]")),
        ("field", format!("[{{aescbc: {{keys: [{{name: k, secret: {SECRET}, sercet: {SECRET}}}]}}}}]")),
        ("length", format!("[{{secretbox: {{keys: [{{name: k, secret: {SECRET}}}]}}}}]")),
        ("two", format!("[{{aescbc: {{keys: [{{name: k, secret: {SECRET}}}]}}, identity: {{}}}}]")),
    ] {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\n";
        let text = format!("{head}resources:\n- resources: [secrets]\n  providers: {providers}\n");
        fs::write(sandbox.path("enc.yaml"), text).unwrap();
        let answer = scan(&sandbox, "--encryption-config [DIR]/enc.yaml");
        answer.ends_with(7).matches(&format!("scan/configuration-{name}"));
        assert!(!answer.stderr.contains("c2VjcmV0"), "{}", answer.stderr);
    }
}

/// A flag that names a file for TLS is refused if nothing would use the file.
#[test]
fn a_snapshot_is_read_without_the_files_for_a_live_etcd() {
    let sandbox = Sandbox::new();
    for flag in ["etcd-servers", "etcd-cafile", "etcd-certfile", "etcd-keyfile"] {
        let answer = sandbox.run(&format!("scan --snapshot [DIR]/etcd.db --{flag} [DIR]/x"));
        let expected = format!("'--snapshot <FILE>' cannot be used with '--{flag} ");
        assert!(answer.ends_with(2).stderr.contains(&expected), "{answer}");
    }
}

#[test]
fn a_file_that_secures_no_connection_is_refused() {
    let sandbox = Sandbox::new();
    let plain = "--etcd-servers http://127.0.0.1:1,unix:///run/kine.sock";
    for flag in ["etcd-certfile", "etcd-keyfile"] {
        let answer = sandbox.refused(2, &format!("scan {plain} --{flag} [DIR]/x"));
        let error = format!(
            "error: --{flag} [DIR]/x: nothing uses this file, because no address of etcd begins with https://\n\
             hint:  if etcd serves TLS, give its https:// address; otherwise omit the file\n"
        );
        assert_eq!(answer.complaint(), error);
    }
    for verb in ["scan", "verify --state-dir [DIR]/state", "decrypt --all --to [DIR]/new"] {
        let plain = sandbox.refused(2, &format!("{verb} --etcd-servers http://127.0.0.1:1 --etcd-cafile [DIR]/x"));
        assert!(plain.complaint().starts_with("error: --etcd-cafile [DIR]/x: nothing uses this file, "), "{plain}");
        let nowhere = sandbox.refused(2, &format!("{verb} --etcd-cafile [DIR]/x"));
        let error = "error: --etcd-cafile [DIR]/x: nothing uses this file, because no address of etcd is given\n\
                     hint:  say where etcd is, too: --etcd-servers URL; ";
        assert!(nowhere.complaint().starts_with(error), "{nowhere}");
    }
    // With a certificate authority, the connection to a socket is secured.
    let socket = sandbox.run("scan --etcd-servers unix:///run/kine.sock --etcd-cafile [DIR]/x");
    assert!(socket.ends_with(2).stderr.starts_with("error: [DIR]/x: No such file"), "{socket}");
    // The configuration may say where etcd is, and may name a file for another etcd than the flags.
    let configured = "etcd-servers = ['https://127.0.0.1:1']\netcd-cafile = '/ca'\n";
    fs::write(sandbox.path("config.toml"), configured).unwrap();
    let config = "scan --config [DIR]/config.toml";
    sandbox.run(&format!("{config} --etcd-cafile [DIR]/x")).ends_with(2);
    sandbox.run(&format!("{config} --etcd-servers http://127.0.0.1:1")).ends_with(2);
}

/// The first error is that etcd is missing. Otherwise an operator would correct the options for the API server in vain.
#[test]
fn every_command_about_a_cluster_says_first_that_nothing_says_where_etcd_is() {
    let sandbox = Sandbox::initialised();
    for verb in ["scan", "verify", "reencrypt", "rotate", "rotate --dry-run"] {
        let answer = sandbox.refused(2, &format!("{verb} --state-dir [DIR]/state"));
        assert!(answer.complaint().starts_with("error: no option says where etcd is, and there is no /"), "{answer}");
    }
}
