//! Disables and destroys the old key after a rotation.

use std::{thread::sleep, time::Duration};

use super::{LIMIT, hurried, keys, rotate};
use crate::{
    cli::sandbox::Answer,
    reencrypt::rig::{Rig, has_all},
};

/// Returns a call of `key disable` or `key destroy` for the first key, with the clock of the tests.
fn give_up(rig: &mut Rig, verb: &str, more: &str) -> Answer {
    let kubeconfig = rig.kubeconfig().display().to_string();
    give_up_as(rig, &kubeconfig, verb, more)
}

/// Returns the same call with another kubeconfig.
fn give_up_as(rig: &mut Rig, kubeconfig: &str, verb: &str, more: &str) -> Answer {
    let (pid, key) = (rig.api.process().unwrap().id(), first(rig));
    let line = format!(
        "key {verb} {key} --state-dir [DIR]/state --socket [DIR]/run/kms.sock --apiserver-process {pid} --kubeconfig {kubeconfig} {more}"
    );
    rig.sandbox.call(&line).by(&hurried(), LIMIT).run()
}

fn first(rig: &Rig) -> String {
    let list = rig.sandbox.run("key list --state-dir [DIR]/state --output json").json();
    list["keys"][0]["key_id"].as_str().unwrap().to_owned()
}

/// Makes the API server ask the plugin for its key, and waits for a time that is long by the clock of the tests.
fn settle(rig: &Rig) {
    for _ in 0..2 {
        // The API server keeps an answer of its health check for 20 s.
        sleep(Duration::from_secs(21));
        rig.api.kubectl(&["get", "--raw", "/readyz/kms-providers"]).unwrap();
    }
}

/// Compacts etcd with the command in the hint.
fn compact(rig: &Rig, refused: &Answer) {
    let revision =
        refused.stderr.split("etcdctl --endpoints URL compact ").nth(1).unwrap().split([';', '\n']).next().unwrap();
    rig.etcd.run_etcdctl(&["compact", revision]).unwrap();
}

const BROKEN: &str = "/registry/secrets/default/broken";
const READABLE: &str = "/registry/secrets/default/old-0001";

/// Checks that only a value that no key opens is left by name. `old` is a value of [`READABLE`] under the first key.
fn leaves_what_nobody_can_read(rig: &mut Rig, old: &[u8]) {
    let new = rig.etcd.get(READABLE).unwrap().unwrap();
    let mut broken = old.to_vec();
    *broken.last_chunk_mut::<40>().unwrap() = [0; 40];
    // The last bytes are the type of the seed and the seed itself.
    broken[old.len() - 2..].copy_from_slice(&old[old.len() - 2..]);
    rig.etcd.put(BROKEN, &broken).unwrap();
    rig.etcd.put(READABLE, old).unwrap();
    let needed = give_up(rig, "disable", "");
    needed.ends_with(3);
    has_all(&needed, &["2 objects need it, for example /registry/secrets/default/broken", "--leave ETCD_KEY"]);
    let leave = format!("--leave {BROKEN} --leave {READABLE}");
    let readable = give_up(rig, "disable", &leave);
    readable.ends_with(3);
    has_all(&readable, &[&format!("error: --leave {READABLE}: this object can be read, so it still needs its key")]);
    rig.etcd.put(READABLE, &new).unwrap();
    let unneeded = give_up(rig, "disable", &leave);
    unneeded.ends_with(2);
    has_all(&unneeded, &[&format!("error: --leave {READABLE}: no scanned object with this key needs k1-")]);
    let without_scan = give_up(rig, "disable", &format!("--leave {BROKEN} --risk-unreadable-secrets"));
    without_scan.ends_with(2);
    assert_eq!(keys(rig)[0], (1, "decrypt-only".to_owned()));

    let disabled = give_up(rig, "disable", &format!("--wait --leave {BROKEN}"));
    disabled.ends_with(0);
    has_all(
        &disabled,
        &[&format!("warning: {BROKEN} stays in etcd as it is, and no key of this keyring opens it there")],
    );
    assert_eq!(keys(rig)[0], (1, "disabled".to_owned()));
    let needed = give_up(rig, "destroy", "");
    needed.ends_with(3);
    has_all(&needed, &["not destroying key k1-", &format!("1 object needs it, for example {BROKEN}")]);
    rig.etcd.run_etcdctl(&["del", BROKEN]).unwrap();
}

/// Checks that the disabled key is destroyed only after etcd has compacted the revisions at which values needed it.
fn destroys_after_compaction(rig: &mut Rig) {
    // Clients can still list objects at a revision at which values needed the key. The plugin has not followed the
    // earlier change yet, and the command waits for it.
    let early = give_up(rig, "destroy", "--api-servers 1");
    early.ends_with(3);
    has_all(&early, &["not destroying key k1-", " still has revisions before ", "--wait; if none runs"]);
    assert!(!early.stdout.contains("noted"), "`key disable` has noted the revision: {early}");
    compact(rig, &early);
    // Without a scan the ledger notes nothing, so the next command notes its own scan.
    let key = first(rig);
    rig.sandbox.run(&format!("key enable {key} --state-dir [DIR]/state")).ends_with(0);
    rig.sandbox.run(&format!("key disable {key} --risk-unreadable-secrets --state-dir [DIR]/state")).ends_with(0);
    let noted = give_up(rig, "destroy", "--api-servers 1");
    noted.ends_with(3);
    has_all(&noted, &["noted in the ledger that no value needs k1-", " still has revisions before "]);
    // Something has to be written, so that there is a newer revision to compact.
    rig.create_secrets("later", 1);
    compact(rig, &noted);
    let destroyed = give_up(rig, "destroy", "--wait --api-servers 1");
    destroyed.ends_with(0);
    assert_eq!(keys(rig)[0], (1, "destroyed".to_owned()));
}

#[test]
fn the_old_key_is_disabled_and_destroyed_when_no_api_server_can_write_under_it() {
    let mut rig = Rig::new();
    rig.create_secrets("old", 3);
    let old = rig.etcd.get(READABLE).unwrap().unwrap();
    // While values are under the key, no wait helps.
    let next = rig.sandbox.run("key add --state-dir [DIR]/state --output json").json();
    let next = next["key"]["key_id"].as_str().unwrap().to_owned();
    rig.sandbox.run(&format!("key promote {next} --without-backup --state-dir [DIR]/state")).ends_with(0);
    let needed = give_up(&mut rig, "disable", "--wait");
    needed.ends_with(3);
    has_all(&needed, &[" objects need it, for example /registry/"]);

    rotate(&mut rig, "--without-backup --api-servers 1 --quiet", 0);
    settle(&rig);
    let (pid, key) = (rig.api.process().unwrap().id(), first(&rig));
    // By the clock of the kernel, it is too early.
    let line =
        format!("key disable {key} --state-dir [DIR]/state --socket [DIR]/run/kms.sock --apiserver-process {pid}");
    let early = rig.sandbox.refused(3, &line);
    has_all(&early, &["may still write under another key, for ", " s more", "claviger key disable", "--wait"]);
    // The shell sends the signal when the command says that it waits.
    let script = ": > out; env --default-signal=INT \"$0\" \"$@\" >> out & while ! grep -q waiting: out; do sleep 0.05; done; kill -INT $!; wait $!";
    let waits = rig.sandbox.call(&format!("{line} --wait")).under(["bash", "-c", script], "# then Ctrl-C").run();
    waits.ends_with(130);
    has_all(
        &waits,
        &["you interrupted the wait, and nothing was changed: an API server that is not connected now", "--wait"],
    );
    // etcd shows another API server.
    for address in ["10.9.8.7", "10.9.8.8"] {
        rig.etcd.put(&format!("/registry/masterleases/{address}"), b"{}").unwrap();
    }
    let several = give_up(&mut rig, "disable", "");
    several.ends_with(3);
    has_all(&several, &["2 API servers use this etcd, expected at most 1"]);
    rig.etcd.run_etcdctl(&["del", "--prefix", "/registry/masterleases/10.9.8."]).unwrap();
    // A connected API server contradicts the flag that none runs.
    let refuted = give_up(&mut rig, "disable", "--api-servers 0");
    refuted.ends_with(3);
    has_all(
        &refuted,
        &[
            "1 API server is connected to the plugin, but the operator says that none runs",
            "run it without --api-servers 0",
        ],
    );
    assert_eq!(keys(&rig)[0], (1, "decrypt-only".to_owned()));

    leaves_what_nobody_can_read(&mut rig, &old);
    destroys_after_compaction(&mut rig);
    // An API server that knows no seed from before reads everything.
    rig.api.restart().unwrap();
    rig.api.wait_until_ready().unwrap();
    let value = rig.api.kubectl(&["get", "secret", "old-0002", "-o", "jsonpath={.data.password}"]).unwrap();
    assert_eq!(value, "cHctMg==", "pw-2");
}

const WIDGET: &str = "/registry/example.com/widgets/default/w0";

#[test]
fn an_object_whose_kind_is_not_served_is_left_knowingly() {
    let mut rig = Rig::new();
    rig.create_others();
    rig.create_secrets("old", 1);
    let value = rig.etcd.get(WIDGET).unwrap().unwrap();
    rig.api.kubectl(&["delete", "crd", "widgets.example.com"]).unwrap();
    // The definition is gone, and one of its objects is still in etcd.
    rig.etcd.put(WIDGET, &value).unwrap();
    let held = rotate(&mut rig, "--without-backup --api-servers 1", 1);
    let named = format!("{WIDGET} (the API server serves no resource widgets.example.com that can be patched)");
    has_all(&held, &["error: the rotation is unfinished: 1 object was not re-encrypted: ", &named, "--leave "]);
    let left = rotate(&mut rig, &format!("--without-backup --api-servers 1 --leave {WIDGET}"), 1);
    has_all(&left, &["is finished, but for 1 object that you left as it is"]);

    let needed = give_up(&mut rig, "disable", "");
    needed.ends_with(3);
    has_all(
        &needed,
        &[
            &format!("1 object needs it, for example {WIDGET}"),
            "or whose kind the API server does not serve: claviger key disable ",
        ],
    );
    let leave = format!("--leave {WIDGET}");
    let alone = give_up_as(&mut rig, "[DIR]/none", "disable", &leave);
    alone.ends_with(3);
    let unknown =
        format!("error: --leave {WIDGET}: this object can be read, and it is not known whether its kind is served: ");
    has_all(&alone, &[&unknown]);
    settle(&rig);
    let disabled = give_up(&mut rig, "disable", &format!("--wait --output json {leave}"));
    disabled.ends_with(0);
    assert_eq!(disabled.json()["left"], serde_json::json!([WIDGET]), "{disabled}");
    has_all(
        &disabled,
        &[&format!("{WIDGET} stays in etcd under this key, and the API server does not serve its kind")],
    );
    let audited = |event: &str| {
        let log = std::fs::read_to_string(rig.sandbox.path("state/audit.jsonl")).unwrap();
        let mut lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.rfind(|line| line["event"] == event).unwrap()["left"].clone()
    };
    assert_eq!(audited("disable"), serde_json::json!([WIDGET]));
    destroys_its_key(&mut rig, &leave);
}

/// Destroys the key of the widget that is left.
fn destroys_its_key(rig: &mut Rig, leave: &str) {
    let needed = give_up(rig, "destroy", "");
    needed.ends_with(3);
    has_all(&needed, &["not destroying key k1-", &format!("1 object needs it, for example {WIDGET}")]);
    let early = give_up(rig, "destroy", &format!("--api-servers 1 {leave}"));
    early.ends_with(3);
    compact(rig, &early);
    let destroyed = give_up(rig, "destroy", &format!("--wait --api-servers 1 --output json {leave}"));
    destroyed.ends_with(0);
    assert_eq!(destroyed.json()["left"], serde_json::json!([WIDGET]), "{destroyed}");
    let log = std::fs::read_to_string(rig.sandbox.path("state/audit.jsonl")).unwrap();
    assert!(log.lines().last().unwrap().contains("\"event\":\"destroy\""), "{log}");
    assert!(log.lines().last().unwrap().contains(&format!("\"left\":[\"{WIDGET}\"]")), "{log}");
}
