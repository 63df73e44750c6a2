//! Tests Pods before, during and after a rotation. During it, some of the Secrets are under the new key and others are
//! not.

use std::time::Duration;

use super::{POD, assert_pod_read_the_secrets, create_pod, create_secrets, rig::Rig};
use crate::harness::wait::wait_until;

/// The number of Secrets that no Pod uses and that the sweep writes.
const OTHERS: usize = 40;

/// The time limit for a rotation, which mostly waits until the API server has adopted the key.
const LIMIT: Duration = Duration::from_mins(3);

/// Returns a Pod that runs during the whole rotation, and prints a file of a Secret again whenever it has changed.
fn watching_pod() -> String {
    let sources = "      - secret: {name: from-yaml,";
    assert!(POD.contains(sources));
    POD.replace("POD_NAME", "watching").replace("[show,", "[watch,").replace(
        sources,
        &format!("      - secret: {{name: changing, items: [{{key: token, path: changing}}]}}\n{sources}"),
    )
}

fn create_all(rig: &Rig) {
    create_secrets(rig);
    let secret = |name: &str| {
        format!("---\n{{apiVersion: v1, kind: Secret, metadata: {{name: {name}}}, stringData: {{token: s-pod-old}}}}\n")
    };
    let others = (0..OTHERS).map(|number| secret(&format!("from-the-past-{number:02}")));
    let all: String = others.chain([secret("changing")]).collect();
    rig.api.kubectl_stdin(&["create", "-f", "-"], &all).unwrap();
    rig.api.kubectl_stdin(&["create", "-f", "-"], &watching_pod()).unwrap();
    create_pod(rig, "before");
}

/// Whether a Secret is under the key with this number.
fn is_under(rig: &Rig, name: &str, key: &str) -> bool {
    let value = rig.etcd.get(&format!("/registry/secrets/default/{name}")).unwrap().expect("the Secret is in etcd");
    value.windows(key.len()).any(|bytes| bytes == key.as_bytes())
}

/// Whether the sweep has written a Secret.
fn is_sweeping(rig: &Rig) -> bool {
    rig.etcd.run_etcdctl(&["get", "--prefix", "/registry/secrets/"]).unwrap().contains("k2-")
}

/// Returns the contents that the Pod has seen in its files, in the order of time.
fn seen(rig: &Rig) -> Vec<String> {
    let log = rig.api.kubectl(&["logs", "watching"]).unwrap();
    log.lines().filter(|line| !line.starts_with("variable ")).map(ToOwned::to_owned).collect()
}

/// Returns the full key_ids of the keyring, the first key first.
fn keys(rig: &Rig) -> Vec<String> {
    let list: serde_json::Value = serde_json::from_str(&rig.claviger(&["key", "list", "--output", "json"])).unwrap();
    let keys = list["keys"].as_array().unwrap().iter().map(|key| key["key_id"].as_str().unwrap().to_owned());
    keys.collect()
}

/// Returns the keys that Secrets are under, as a scan names them. The scan must find nothing that is left over.
fn keys_of_secrets(rig: &Rig) -> Vec<String> {
    let [places, config] = rig.places();
    let report = rig.claviger(&["scan", &places, &config, "--output", "json"]);
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    let secrets = report["groups"].as_array().unwrap().iter().filter(|group| group["resource"] == "secrets");
    secrets.map(|group| group["key_id"].as_str().unwrap_or("none").to_owned()).collect()
}

#[test]
fn pods_read_secrets_before_during_and_after_a_rotation() {
    let Some(mut rig) = Rig::after_a_power_cut(create_all) else { return };
    rig.start_node();
    rig.add_plugin();
    rig.wait_for_plugin();
    rig.etcd.launch(0).unwrap();
    rig.etcd.wait_until_healthy(0).unwrap();
    rig.api.launch().unwrap();
    rig.api.wait_until_ready().unwrap();
    assert_pod_read_the_secrets(&mut rig, "before");
    rig.wait_for_phase("default", "watching", "Running");

    let mut rotation = rig.rotate(&["--without-backup", "--api-servers", "1", "--rate", "8", "--output", "json"]);
    rotation.wait_until("writing Secrets", LIMIT, || is_sweeping(&rig)).unwrap();
    rotation.pause().unwrap();
    // The user of the Secret writes it, so each of the Pods has a Secret under each key.
    rig.api.kubectl(&["annotate", "secret", "from-file", "written-by=its-user"]).unwrap();
    let under = ["from-file", "from-yaml"].map(|name| ["k1-", "k2-"].map(|key| is_under(&rig, name, key)));
    assert_eq!(under, [[false, true], [true, false]]);
    // The restarted API server knows no seed, and asks for seeds under both keys.
    rig.api.restart().unwrap();
    create_pod(&rig, "during");
    assert_pod_read_the_secrets(&mut rig, "during");
    let change = r#"{"stringData": {"token": "s-pod-new"}}"#;
    rig.api.kubectl(&["patch", "secret", "changing", "--patch", change]).unwrap();
    let new = r#"file /etc/credentials/changing "s-pod-new""#.to_owned();
    wait_until("the Pod has seen the change", || seen(&rig).contains(&new));
    assert!(is_under(&rig, "from-yaml", "k1-"));
    rotation.resume().unwrap();
    let status = rotation.wait_for_end("the API server was back", LIMIT).unwrap();
    assert!(status.success(), "{}", rotation.log());

    let [old, new_key] = keys(&rig).try_into().unwrap();
    assert_eq!(keys_of_secrets(&rig), [new_key], "{}", rotation.log());
    // The old key is not needed any more, also not by an API server that starts.
    rig.claviger(&["key", "disable", &old, "--risk-unreadable-secrets"]);
    rig.api.restart().unwrap();
    create_pod(&rig, "after");
    assert_pod_read_the_secrets(&mut rig, "after");
    let throughout = [
        r#"file /etc/credentials/changing "s-pod-old""#.to_owned(),
        r#"file /etc/credentials/file/username "s-pod-from-file\n\x00\xff""#.to_owned(),
        r#"file /etc/credentials/token "s-pod-from-yaml""#.to_owned(),
        new,
    ];
    assert_eq!(seen(&rig), throughout);
}
