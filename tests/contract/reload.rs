//! Changes the configuration under a running API server, while clients write and read without a pause.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use super::{
    config::{CONFIG_MAPS, Kind, Provider, SECRETS, write},
    rig::{Ground, Rig},
};
use crate::harness::wait::wait_until;

/// The pause between two rounds of the writer.
const PAUSE: Duration = Duration::from_millis(150);

/// Writes and reads both kinds of objects until `stop` is set. Returns the number of right answers, and the wrong ones.
fn write_and_read(rig: &Rig, stop: &AtomicBool, rounds: &AtomicUsize) -> (usize, Vec<String>) {
    let (mut right, mut wrong) = (0, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        let round = rounds.fetch_add(1, Ordering::Relaxed);
        for kind in [SECRETS, CONFIG_MAPS] {
            let name = format!("round-{round}");
            let json = ["Content-Type: application/json"];
            let created = rig.front.try_request(&format!("POST {}", kind.collection()), &json, &kind.object(&name));
            let oldest = rig.front.try_request(&format!("GET {}", kind.path("round-0")), &[], "");
            let read = rig.front.try_request(&format!("GET {}", kind.path(&name)), &[], "");
            for (answer, status) in [(created, 201), (read, 200), (oldest, 200)] {
                match answer {
                    Ok(answer) if answer.status == status => right += 1,
                    answer => wrong.push(format!("{answer:?}")),
                }
            }
        }
        thread::sleep(PAUSE);
    }
    (right, wrong)
}

/// Whether a new object of this kind is under the provider.
fn is_encrypted(rig: &Rig, kind: Kind, round: usize) -> bool {
    let stored = rig.etcd.get(&kind.etcd_key(&format!("round-{round}"))).unwrap();
    stored.is_some_and(|value| value.starts_with(b"k8s:enc:kms:v2:claviger:"))
}

#[test]
fn a_resource_added_to_the_configuration_is_encrypted_within_a_minute_and_no_request_fails() {
    let mut ground = Ground::prepare();
    ground.serve();
    let socket = ground.socket();
    let mut rig = ground.launch(&socket, &["secrets"]);
    rig.api.wait_until_ready().unwrap();
    let (stop, rounds) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (right, wrong) = thread::scope(|scope| {
        let writer = scope.spawn(|| write_and_read(&rig, &stop, &rounds));
        wait_until("a round is done", || rounds.load(Ordering::Relaxed) > 2);
        assert!(is_encrypted(&rig, SECRETS, 1) && !is_encrypted(&rig, CONFIG_MAPS, 1));
        let resources = &["secrets", "configmaps"];
        write(&rig.run, "rig.yaml", &[Provider { name: "claviger", resources, socket: &socket, timeout: None }]);
        let changed = Instant::now();
        wait_until("the added resource is encrypted", || {
            is_encrypted(&rig, CONFIG_MAPS, rounds.load(Ordering::Relaxed).saturating_sub(2))
        });
        println!("a changed configuration was taken up after {:?}", changed.elapsed());
        // The old connections are closed 6 s later. Nobody may notice that either.
        thread::sleep(Duration::from_secs(7));
        stop.store(true, Ordering::Relaxed);
        writer.join().unwrap()
    });
    println!("{right} requests answered, {} not", wrong.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(!is_encrypted(&rig, CONFIG_MAPS, 0), "what is there is not rewritten by a reload");
    let reloads = "apiserver_encryption_config_controller_automatic_reloads_total";
    assert!(rig.front.metric(reloads, &["status=\"success\""]) >= 1.0);
}
