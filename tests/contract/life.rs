//! Adds, promotes, disables and destroys keys by the command line, under a running plugin, an API server, writers and
//! readers.

use std::{
    collections::BTreeSet,
    env,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::{
    config::SECRETS,
    rig::{Ground, Rig},
    seal::Seed,
};
use crate::harness::wait::wait_until;
use crate::oracle::EncryptedObject;

/// The variable with the number of promotions. A nightly run sets a larger number.
const PROMOTIONS: &str = "CLAVIGER_PROMOTIONS";

/// The pause between two rounds of the writer.
const PAUSE: Duration = Duration::from_millis(50);

/// Every key that was ever primary, the newest last. A name is added before the command that promotes the key.
struct Announced(Mutex<Vec<String>>);

impl Announced {
    fn newest(&self) -> String {
        self.0.lock().unwrap().last().unwrap().clone()
    }

    fn all(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().iter().cloned().collect()
    }

    /// Makes a key and promotes it.
    fn promote(&self, rig: &Rig) {
        let added = key_id(&rig.plugin.claviger(&["key", "add", "--output", "json"]).unwrap());
        self.0.lock().unwrap().push(added.clone());
        rig.plugin.claviger(&["key", "promote", &added, "--without-backup"]).unwrap();
    }
}

/// Promotes a new key. Returns when the command says that the API server has adopted it.
fn promote_and_wait<'scope>(rig: &'scope Rig, announced: &Announced, scope: &'scope thread::Scope<'scope, '_>) {
    let added = key_id(&rig.plugin.claviger(&["key", "add", "--output", "json"]).unwrap());
    announced.0.lock().unwrap().push(added.clone());
    let socket = rig.socket().display().to_string();
    let mut promote =
        rig.plugin.command(&["key", "promote", &added, "--without-backup", "--wait", "--socket", &socket]);
    let waiting = scope.spawn(move || promote.output().unwrap());
    // The command ends by itself, after at most ten minutes.
    let mut seen = BTreeSet::new();
    while !waiting.is_finished() {
        rig.front.providers();
        seen.extend(told(rig, &added));
        thread::sleep(PAUSE);
    }
    // The API server writes under the key before it has adopted it.
    assert!(seen.contains(&(true, false)) && !seen.contains(&(false, true)), "{seen:?}");
    let said = waiting.join().unwrap();
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.status.success() && text.contains("0 of 1") && text.contains("1 of 1 connection has"), "{said:?}");
}

/// Returns whether the key is in use and whether it is adopted, on the connection to which it was announced.
fn told(rig: &Rig, key_id: &str) -> Option<(bool, bool)> {
    let socket = rig.socket().display().to_string();
    let status = rig.plugin.command(&["status", "--output", "json", "--socket", &socket]).output().unwrap();
    let report: serde_json::Value = serde_json::from_slice(&status.stdout).unwrap();
    let connections = report["plugin"]["connections"].as_array().unwrap();
    let told = connections.iter().find(|connection| connection["key_id"] == key_id)?;
    Some((told["in_use_s"].is_u64(), told["adopted_s"].is_u64()))
}

fn key_id(report: &str) -> String {
    let report: serde_json::Value = serde_json::from_str(report).unwrap();
    report["key"]["key_id"].as_str().unwrap().to_owned()
}

fn primary(rig: &Rig) -> String {
    let list = rig.plugin.claviger(&["key", "list", "--output", "json"]).unwrap();
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    let keys = list["keys"].as_array().unwrap();
    keys.iter().find(|key| key["state"] == "primary").unwrap()["key_id"].as_str().unwrap().to_owned()
}

/// Returns the number of a key: `k3-…` has 3.
fn number(key_id: &str) -> u32 {
    key_id[1..].split('-').next().unwrap().parse().unwrap()
}

/// Returns the key that a Secret in etcd is under.
fn stored_under(rig: &Rig, name: &str) -> String {
    let stored = rig.etcd.get(&SECRETS.etcd_key(name)).unwrap().unwrap();
    EncryptedObject::parse("claviger", &stored).key_id
}

/// Writes and reads until `stop` is set. Returns the key of each Secret, and the errors.
fn write_and_read(
    rig: &Rig,
    announced: &Announced,
    stop: &AtomicBool,
    rounds: &AtomicUsize,
) -> (Vec<String>, Vec<String>) {
    let (mut under, mut wrong) = (Vec::new(), Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let round = rounds.load(Ordering::Relaxed);
        let name = format!("round-{round}");
        let before = announced.all();
        let json = ["Content-Type: application/json"];
        let created = rig.front.try_request(&format!("POST {}", SECRETS.collection()), &json, &SECRETS.object(&name));
        let read = rig.front.try_request(&format!("GET {}", SECRETS.path(&name)), &[], "");
        let oldest = rig.front.try_request(&format!("GET {}", SECRETS.path("round-0")), &[], "");
        for (answer, status) in [(created, 201), (read, 200), (oldest, 200)] {
            if !matches!(&answer, Ok(answer) if answer.status == status) {
                wrong.push(format!("{answer:?}"));
            }
        }
        let key = stored_under(rig, &name);
        let after = announced.all();
        if !before.union(&after).any(|known| *known == key) {
            wrong.push(format!("{name} is under {key}, which was never announced"));
        }
        under.push(key);
        rounds.fetch_add(1, Ordering::Relaxed);
        thread::sleep(PAUSE);
    }
    (under, wrong)
}

#[test]
fn keys_are_promoted_under_writers_and_readers_and_no_request_fails() {
    let promotions = env::var(PROMOTIONS).map_or(3, |promotions| promotions.parse().unwrap());
    let mut ground = Ground::prepare();
    ground.serve();
    let socket = ground.socket();
    let mut rig = ground.launch(&socket, &["secrets"]);
    rig.api.wait_until_ready().unwrap();
    let announced = Announced(Mutex::new(vec![primary(&rig)]));
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (under, wrong) = thread::scope(|scope| {
        let writer = scope.spawn(|| write_and_read(&rig, &announced, &stop, &rounds));
        wait_until("a round is done", || rounds.load(Ordering::Relaxed) > 2);
        for _ in 0..promotions {
            // Two promotions follow at once, so the API server may never see the first key.
            announced.promote(&rig);
            announced.promote(&rig);
            let newest = announced.newest();
            wait_until("new writes are under the newest key", || {
                rig.front.providers();
                let done = rounds.load(Ordering::Relaxed);
                stored_under(&rig, &format!("round-{}", done.saturating_sub(1))) == newest
            });
        }
        promote_and_wait(&rig, &announced, scope);
        let newest = announced.newest();
        let next = rounds.load(Ordering::Relaxed) + 1;
        wait_until("one more round is done", || rounds.load(Ordering::Relaxed) > next);
        assert_eq!(stored_under(&rig, &format!("round-{next}")), newest, "all had adopted it");
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    println!("{} Secrets written under {} keys", under.len(), under.iter().collect::<BTreeSet<_>>().len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(under.is_sorted_by_key(|key| number(key)), "no write went back to an older key: {under:?}");
    // An API server that remembers no seed reads everything, too.
    rig.api.restart().unwrap();
    rig.api.wait_until_ready().unwrap();
    for round in 0..under.len() {
        rig.front.get(&SECRETS.path(&format!("round-{round}"))).expect(200);
    }
}

#[test]
fn a_disabled_key_is_refused_by_name_and_reads_again_once_it_is_enabled() {
    let mut ground = Ground::prepare();
    ground.serve();
    let socket = ground.socket();
    let mut rig = ground.launch(&socket, &["secrets"]);
    rig.api.wait_until_ready().unwrap();
    let first = primary(&rig);
    // The API server does not have this seed in its memory, so it has to ask.
    let seed = Seed::one_wrapped_by(&socket);
    Announced(Mutex::default()).promote(&rig);
    let disable = ["key", "disable", &first];
    let etcd = format!("--etcd-servers={}", rig.etcd.endpoints());
    rig.plugin.wait_until_serving().unwrap();
    // No value in etcd is under the key, but the API server may still write under it.
    let socket_flag = format!("--socket={}", socket.display());
    let writing = rig.plugin.claviger(&[&disable[..], &[&etcd, &socket_flag]].concat()).unwrap_err().to_string();
    assert!(
        writing.contains("an API server that is not connected now may still write under another key, for "),
        "{writing}"
    );
    // Without the socket, the command does not conclude that no API server is connected.
    let elsewhere = rig.plugin.claviger(&[&disable[..], &[&etcd]].concat()).unwrap_err().to_string();
    let expected = "which may still be in use: a plugin serves from this state directory, and not at unix:///run/claviger/kms.sock";
    assert!(elsewhere.contains(expected), "{elsewhere}");
    rig.plugin.claviger(&[&disable[..], &["--risk-unreadable-secrets"]].concat()).unwrap();
    // After one more promotion, `status` shows when the plugin has followed.
    Announced(Mutex::default()).promote(&rig);
    rig.plugin.wait_until_serving().unwrap();
    let etcd_key = SECRETS.etcd_key("before");
    rig.etcd.put(&etcd_key, &seed.seal("claviger", &etcd_key, SECRETS.object("before").as_bytes())).unwrap();
    let read = || rig.front.get(&SECRETS.path("before"));
    let answer = read().expect(500);
    assert!(answer.contains(&format!("key {first} is disabled")), "{answer}");
    rig.plugin.claviger(&["key", "enable", &first]).unwrap();
    wait_until("it reads again", || read().status == 200);
    rig.plugin.kill().unwrap();
    let needed = rig.plugin.claviger(&[&disable[..], &[&etcd]].concat()).unwrap_err().to_string();
    assert!(needed.contains("1 object needs it, for example /registry/secrets/"), "{needed}");
}
