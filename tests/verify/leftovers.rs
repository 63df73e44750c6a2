//! Tests which values are left over, which facts make a report prove nothing, and which values may stay as they are.

use std::fs;

use serde_json::{Value, json};

use super::rig::{CONFIG, PLAINTEXT, Rig, STATE, misnamed, value};
use crate::{cli::sandbox::report_snapshot, harness::etcd::Etcd};

/// Returns the JSON of a verification that ends with `exit`.
#[track_caller]
fn verified(rig: &Rig, more: &str, exit: i32) -> Value {
    rig.verify(&format!("{more} --output json")).ends_with(exit).json()
}

#[test]
fn a_clean_cluster_is_proven_clean_and_one_object_too_many_is_named() {
    let rig = Rig::new();
    let (old, primary) = (rig.key(1), rig.key(2));
    let clean =
        rig.says("", 0, &["Clean: 3 values are under the primary key, and nothing is left over\n", &primary.key_id]);
    let all = format!(
        " in plaintext: claviger scan {STATE} --etcd-servers {} --encryption-config [DIR]/enc.yaml --all\n",
        rig.etcd.endpoints()
    );
    assert!(clean.stdout.contains(&all), "{clean}");
    assert!(clean.stdout.contains("hint:  to keep this as an authenticated report: claviger verify "), "{clean}");
    assert!(
        clean.stdout.contains(&format!("{} is primary since ", primary.key_id)),
        "it was promoted just now: {clean}"
    );
    let json = verified(&rig, "", 0);
    assert_eq!((&json["outcome"], &json["found"], &json["shortfalls"]), (&json!("clean"), &json!({}), &json!([])));
    assert_eq!(json["keyring"]["primary"], json!(primary.key_id));
    assert_eq!(json["etcds"][0]["revision"], json!(rig.etcd.revision().unwrap()));

    let unknown = {
        let another = Rig::new();
        value("claviger", &another.key(2))
    };
    let misnamed = misnamed("claviger", &primary.key_id, &old);
    for (key, bytes, exit, kind) in [
        ("secrets/default/stale", value("claviger", &old), 1, "stale"),
        ("secrets/default/plain", PLAINTEXT.to_vec(), 1, "plaintext-although-covered"),
        ("leases/default/plain", PLAINTEXT.to_vec(), 1, "plaintext-although-covered"),
        ("secrets/default/before", value("older", &primary), 1, "no-provider"),
        ("secrets/default/unknown", unknown, 1, "unknown-key"),
        ("secrets/default/foreign", b"k8s:enc:aescbc:v1:k:0123456789abcdef0123456789abcdef".to_vec(), 1, "no-provider"),
        // A stale value of a resource that no entry encrypts now still needs its key.
        ("configmaps/default/stale", value("claviger", &old), 1, "stale"),
        ("secrets/default/misnamed", misnamed, 7, "damaged"),
        ("secrets/default/cut-off", value("claviger", &primary)[..100].to_vec(), 7, "damaged"),
    ] {
        rig.put(key, &bytes);
        let name = format!("/registry/{key}");
        let said = rig.says("", exit, &[&name, &format!("{kind} (1): ")]);
        assert!(said.stdout.starts_with(if exit == 1 { "Not clean. " } else { "Not proven clean. " }), "{said}");
        let json = verified(&rig, "", exit);
        assert_eq!(json["found"][kind], 1, "{json}");
        assert!(json["samples"].as_array().unwrap().iter().any(|one| one["key"] == name.as_str()), "{json}");
        assert!(!json["report"]["text"].as_str().unwrap().contains("default"), "a report names no object: {json}");
        rig.delete(key);
    }
    rig.says("", 0, &["Clean: 3 values"]);
    // Resources that another provider writes, or that no entry encrypts, are as configured.
    rig.put("configmaps/default/a", PLAINTEXT);
    rig.says("", 0, &["Clean: 3 values"]);
}

#[test]
fn an_older_provider_name_is_left_over_even_under_the_primary_key() {
    let rig = Rig::new();
    let both = "  - kms: {apiVersion: v2, name: older, endpoint: unix:///run/claviger/kms.sock}\n  - identity";
    rig.configure(&CONFIG.replace("  - identity", both));
    rig.says("", 0, &["Clean: 3 values"]);
    rig.put("secrets/default/before", &value("older", &rig.key(2)));
    rig.says(
        "",
        1,
        &["not-first-provider (1): ", "/registry/secrets/default/before", "re-encrypt them: claviger reencrypt"],
    );
}

/// A rewrite would renew the lifetime of events.
#[test]
fn events_are_named_and_waited_for() {
    let rig = Rig::new();
    rig.configure(&CONFIG.replace("[secrets,", "[secrets, events,"));
    rig.put("events/default/a", &value("claviger", &rig.key(1)));
    let expire = "events expire by themselves, an hour after they were written, unless --event-ttl is another\n";
    let alone = rig.says("", 1, &["stale (1): ", "/registry/events/default/a", expire]);
    assert!(!alone.stdout.contains("reencrypt"), "{alone}");
    rig.put("secrets/default/stale", &value("claviger", &rig.key(1)));
    let both = rig.says("", 1, &["re-encrypt them: claviger reencrypt", "; events expire by themselves"]);
    report_snapshot("report/verify-left-over", &both);
}

#[test]
fn a_configuration_that_encrypts_nothing_proves_nothing() {
    let rig = Rig::new();
    rig.says(
        "--provider-name other",
        1,
        &[
            "Not clean. The EncryptionConfiguration writes nothing with the provider other\n",
            "no value and no provider of the EncryptionConfiguration has the KMS v2 provider name other; the names that there are: \
             claviger; give the right one: --provider-name claviger\n",
        ],
    );
    let identity =
        "  - identity: {}\n  - kms: {apiVersion: v2, name: claviger, endpoint: unix:///run/claviger/kms.sock}\n";
    let first = CONFIG.split("  - kms").next().unwrap().to_owned() + identity;
    rig.configure(&first);
    let json = verified(&rig, "", 1);
    assert_eq!(json["shortfalls"], json!(["nothing-written", "plaintext-first"]), "{json}");
    let first = rig.says(
        "",
        1,
        &["New Secrets are written in plaintext", "hint:  identity: new Secrets are written in plaintext"],
    );
    assert!(!first.stdout.contains("hint:  plaintext: "), "one hint says what comes first: {first}");
    // Without a configuration, nobody knows which resources have to be encrypted.
    let line = format!("verify {STATE} --etcd-servers {}", rig.etcd.endpoints());
    let refused = rig.sandbox.refused(2, &line).complaint();
    let expected = "error: no option says where the EncryptionConfiguration is, so it is not known what has to be encrypted\n\
                    hint:  give --encryption-config FILE, --apiserver-manifest FILE, or --apiserver-process\n";
    assert_eq!(refused, expected);
    rig.sandbox.run(&format!("{line} --snapshot [DIR]/db")).ends_with(2);
}

/// kube-apiserver accepts such a file, and reads no Secret with it.
#[test]
fn a_misspelt_name_in_the_configuration_is_named_as_the_reason() {
    let rig = Rig::new();
    let preview = format!("reencrypt --dry-run {}", rig.flags());
    let resource = "no entry of the EncryptionConfiguration covers secrets, so the API server could not read 2 objects under the \
                    provider claviger";
    let provider = "the EncryptionConfiguration lists the provider klaviger, and not claviger, so the API server could not read 2 \
                    objects of secrets";
    for (config, message, remedy) in [
        (
            CONFIG.replace("[secrets,", "[secret,"),
            resource,
            "it lists secret, and etcd has no object of that name: write secrets there",
        ),
        (
            CONFIG.replace("name: claviger", "name: klaviger"),
            provider,
            "if klaviger is misspelt, write claviger there; ",
        ),
        // Without a similar name, the reason is known if no value could be read.
        (
            CONFIG.replace("[secrets, leases.coordination.k8s.io]", "[configmaps]"),
            resource,
            "add secrets to the entry that lists the provider claviger\n",
        ),
    ] {
        rig.configure(&config);
        let said = rig.says("", 1, &[&format!("hint:  no-provider: {message}: {remedy}")]);
        assert!(!said.stdout.contains("put the provider first"), "one hint names the reason: {said}");
        let refused = rig.sandbox.refused(1, &preview);
        assert!(refused.complaint().starts_with(&format!("error: {message}\nhint:  {remedy}")), "{refused}");
    }
    // Other values can be rewritten, so one that cannot be read does not matter.
    rig.configure(CONFIG);
    rig.put("secrets/default/stale", &value("claviger", &rig.key(1)));
    rig.put("configmaps/default/a", &value("claviger", &rig.key(2)));
    let rewritten = rig.sandbox.run(&preview);
    assert!(rewritten.ends_with(1).stdout.starts_with("2 objects would be rewritten\n"), "{rewritten}");
    rig.says("", 1, &["no-provider: no entry of the EncryptionConfiguration covers configmaps, so "]);
}

/// kube-apiserver accepts such a file, and encrypts no Secret with it.
#[test]
fn a_misspelt_resource_is_the_reason_why_secrets_stay_in_plaintext() {
    let rig = Rig::new();
    for key in ["secrets/default/a", "secrets/default/b"] {
        rig.put(key, PLAINTEXT);
    }
    rig.configure(&CONFIG.replace("[secrets,", "[secret,"));
    let message = "no entry of the EncryptionConfiguration covers secrets, so 2 objects would stay in plaintext";
    let remedy = "it lists secret, and etcd has no object of that name: write secrets there";
    let said = rig.says("", 1, &[&format!("hint:  plaintext: {message}: {remedy}")]);
    assert!(!said.stdout.contains("claviger generate encryption-configuration"), "one hint names the reason: {said}");
    let scanned = rig.sandbox.run(&format!("scan {}", rig.flags()));
    assert!(scanned.ends_with(1).stdout.contains(&format!("hint:  plaintext: {message}: {remedy}")), "{scanned}");
    let refused = rig.sandbox.refused(1, &format!("reencrypt --dry-run {}", rig.flags()));
    assert!(refused.complaint().starts_with(&format!("error: {message}\nhint:  {remedy}")), "{refused}");
}

#[test]
fn a_scan_says_that_the_configured_keyring_is_gone() {
    let rig = Rig::new();
    let config = format!("state-dir = '[DIR]/gone'\netcd-servers = ['{}']\n", rig.etcd.endpoints());
    fs::write(rig.sandbox.path("config.toml"), rig.sandbox.unmask(&config)).unwrap();
    let scan = rig.done("scan --config [DIR]/config.toml");
    let expected = "note:  [DIR]/gone contains no keyring, so the scan does not know which keys the values need; if the keyring is lost, \
                    let a plugin that still runs serve it from memory, and restore a backup: claviger backup restore --config \
                    [DIR]/config.toml FILE; see what the plugin serves: claviger status --config [DIR]/config.toml\n";
    assert!(scan.stdout.contains(expected), "{scan}");
}

#[test]
fn what_was_not_read_whole_proves_nothing() {
    let rig = Rig::new();
    let wrong = rig.says("--etcd-prefix /elsewhere", 7, &["Not proven clean. There is no object below /elsewhere"]);
    assert!(wrong.stdout.contains("claviger verify ") && wrong.stdout.contains("--etcd-prefix /registry"), "{wrong}");
    rig.says("--etcd-prefix /registry/secrets", 7, &["is the wrong prefix"]);
    rig.delete("namespaces/default");
    rig.says("", 7, &["Not proven clean. There are no namespaces, which every API server makes\n"]);
    let empty = Etcd::start(&rig.run, 1).unwrap();
    let line = format!("verify {STATE} --etcd-servers {} --encryption-config [DIR]/enc.yaml", empty.endpoints());
    rig.sandbox.run(&line).ends_with(7);
}

#[test]
fn an_api_server_that_may_take_longer_is_waited_for_longer() {
    let rig = Rig::new();
    let (servers, config) = (rig.etcd.endpoints(), rig.sandbox.unmask("[DIR]/enc.yaml"));
    let flags = [format!("--etcd-servers={servers}"), format!("--encryption-provider-config={config}")];
    for (more, time) in [("--request-timeout=1m0s", "4 min 23 s"), ("--request-timeout=10m0s", "13 min 23 s")] {
        pod(&rig, &[&flags[0], &flags[1], more]);
        let clean = rig.done(&format!("verify {STATE} --apiserver-manifest [DIR]/pod.yaml"));
        let warned = format!(
            ", and an API server may write under the previous key for {time} after the plugin began to serve this one"
        );
        assert!(clean.stdout.contains(&warned), "{clean}");
        let json = rig.done(&format!("verify {STATE} --apiserver-manifest [DIR]/pod.yaml --output json")).json();
        let seconds = if time == "4 min 23 s" { 263 } else { 803 };
        assert_eq!(json["quiet_seconds"], seconds, "{json}");
    }
}

#[test]
fn a_wait_for_a_plugin_that_does_not_run_says_so_at_once() {
    let rig = Rig::new();
    let line = format!(
        "key disable {} --wait {STATE} --socket [DIR]/run/kms.sock --etcd-servers {}",
        rig.key(1).key_id,
        rig.etcd.endpoints()
    );
    // The shell sends the signal when the command says that it waits.
    let script = ": > out; env --default-signal=INT \"$0\" \"$@\" >> out 2>&1 & while ! grep -q waiting: out; do sleep 0.05; done; kill -INT $!; \
                  wait $!; code=$?; cat out; exit $code";
    let waits = rig.sandbox.call(&line).under(["bash", "-c", script], "# then Ctrl-C").run();
    waits.ends_with(130);
    let warned = "warning: the wait needs the plugin, and none answers at unix://[DIR]/run/kms.sock: no such socket; ";
    let start = "start it: claviger serve --socket [DIR]/run/kms.sock --state-dir [DIR]/state\n";
    assert!(waits.stdout.contains(warned) && waits.stdout.contains(start), "{waits}");
    assert_eq!(waits.stdout.matches("warning: the wait").count(), 1, "{waits}");
}

/// Writes a static pod with these flags.
fn pod(rig: &Rig, flags: &[&str]) {
    let words: Vec<String> = flags.iter().map(|flag| format!("'{flag}'")).collect();
    let pod = format!("spec: {{containers: [{{command: [kube-apiserver, {}]}}]}}", words.join(", "));
    fs::write(rig.sandbox.path("pod.yaml"), pod).unwrap();
}

#[test]
fn every_etcd_of_the_flags_is_read_and_none_may_be_down() {
    let rig = Rig::new();
    let mut other = Etcd::start(&rig.run, 1).unwrap();
    let (main, second) = (rig.etcd.endpoints(), other.endpoints());
    let servers = format!("--etcd-servers={main}");
    let overrides = format!("--etcd-servers-overrides=coordination.k8s.io/leases#{second}");
    let config = rig.sandbox.unmask("--encryption-provider-config=[DIR]/enc.yaml");
    pod(&rig, &[&servers, &overrides, &config]);
    let line = format!("verify {STATE} --apiserver-manifest [DIR]/pod.yaml");
    let verify = |exit: i32| {
        let answer = rig.sandbox.run(&format!("{line} --output json"));
        answer.ends_with(exit);
        answer
    };
    other.put("/registry/leases/kube-system/other", &value("claviger", &rig.key(2))).unwrap();
    let json = verify(0).json();
    assert_eq!(json["etcds"].as_array().unwrap().len(), 2, "{json}");
    assert_eq!(json["overrides"], json!([{"resource": "coordination.k8s.io/leases", "endpoints": [second]}]));
    assert_eq!(json["notes"], json!([]));
    other.put("/registry/leases/kube-system/stale", &value("claviger", &rig.key(1))).unwrap();
    assert_eq!(verify(1).json()["samples"][0]["key"], "/registry/leases/kube-system/stale");
    other.kill(0).unwrap();
    let down = verify(6);
    assert!(down.stderr.contains("etcd "), "{down}");

    // The value of a variable is not known.
    pod(&rig, &[&servers, "--etcd-servers-overrides=$(OVERRIDES)", &config]);
    let unclear = rig.sandbox.run(&line);
    unclear.ends_with(7);
    let sentence = "Not proven clean. Flags of kube-apiserver that say where its objects are were not understood\n";
    assert!(unclear.stdout.starts_with(sentence), "{unclear}");
    // If a flag names only the etcd, the command prints what it does not know.
    rig.says("", 0, &["note:  the flags of kube-apiserver were not read"]);
}
