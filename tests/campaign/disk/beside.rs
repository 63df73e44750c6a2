//! Runs commands at the same time, beside each other and beside a daemon. Each succeeds or is refused, and no command
//! undoes the change of another one.

use std::{
    fs,
    sync::{Mutex, atomic::AtomicU64, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::SmallRng};

use super::case::{Base, is_temporary};
use crate::{
    campaign::{random, size},
    cli::{kms::Kms, sandbox::Sandbox},
};

const STATE: &str = "--state-dir [DIR]/state";

/// The commands, which may be run at any time. `N` becomes a number that no other command has.
const COMMANDS: [&str; 9] = [
    "key add",
    "key add",
    "key promote kN --without-backup",
    "key enable kN",
    "rekey",
    "backup check [DIR]/backup.age --recovery-identity [DIR]/ours.txt",
    "backup create [DIR]/outN.age",
    "slot add file --name slot-N",
    "backup restore [DIR]/backup.age --recovery-identity [DIR]/ours.txt --accept",
];

/// The outcomes of the commands.
#[derive(Debug, Default)]
struct Tally {
    done: AtomicU64,
    refused: AtomicU64,
    /// The generations that commands said they made.
    made: Mutex<Vec<u64>>,
}

fn command(sandbox: &Sandbox, random: &mut SmallRng, number: u64, tally: &Tally) {
    let line = COMMANDS[random.random_range(0..COMMANDS.len())];
    // The number is that of a key that may exist, or makes a name that nobody else takes.
    let number = if line.starts_with("key") { random.random_range(3..40) } else { number };
    let answer = sandbox.run(&format!("{} {STATE} --output json", line.replace('N', &number.to_string())));
    let is_refused = answer.code == 3 || answer.code == 1 || answer.code == 5 && answer.stderr.contains("locked");
    match answer.code {
        0 => _ = tally.done.fetch_add(1, Ordering::Relaxed),
        _ if is_refused => _ = tally.refused.fetch_add(1, Ordering::Relaxed),
        _ => panic!("{answer}"),
    }
    if answer.code == 0 && line.starts_with("key") {
        tally.made.lock().unwrap().push(answer.json()["generation"].as_u64().unwrap());
    }
}

fn keys(sandbox: &Sandbox) -> (u64, Vec<String>) {
    let list = sandbox.run(&format!("key list {STATE} --output json"));
    let json = list.ends_with(0).json();
    let ids = json["keys"].as_array().unwrap().iter().map(|key| key["key_id"].as_str().unwrap().to_owned());
    (json["generation"].as_u64().unwrap(), ids.collect())
}

#[test]
#[ignore = "campaign"]
fn commands_beside_each_other_and_a_daemon_lose_nothing() {
    let mut random = random("beside");
    let (total, mut pairs) = (size(60), 0);
    let (mut done, mut refused) = (0, 0);
    while pairs < total {
        let sandbox = Base::new().sandbox;
        let (before, old) = keys(&sandbox);
        let mut daemon = sandbox.serve(&format!("{STATE} --socket [DIR]/run/kms.sock"));
        let kms = Kms::connect(&sandbox.path("run/kms.sock"));
        let (key_id, wrapped) = kms.encrypt(&[7; 32]);
        let tally = Tally::default();
        // Each part of the rounds has its own keyring. Otherwise the keyring would grow without end.
        let rounds = 30.min(total - pairs);
        for round in 0..rounds {
            let seeds: [u64; 2] = random.random();
            thread::scope(|scope| {
                for (place, seed) in seeds.into_iter().enumerate() {
                    let (sandbox, tally) = (&sandbox, &tally);
                    scope.spawn(move || {
                        let mut random = SmallRng::seed_from_u64(seed);
                        thread::sleep(Duration::from_micros(random.random_range(0..12_000)));
                        command(sandbox, &mut random, round * 2 + place as u64, tally);
                    });
                }
            });
            assert_eq!(kms.decrypt(&key_id, &wrapped).unwrap(), [7; 32]);
        }
        pairs += rounds;
        let (after, ids) = keys(&sandbox);
        assert!(old.iter().all(|key_id| ids.contains(key_id)), "{old:?} in {ids:?}");
        let mut made = tally.made.into_inner().unwrap();
        made.sort_unstable();
        let count = made.len();
        made.dedup();
        assert_eq!(made.len(), count, "two commands made the same generation: {made:?}");
        assert!(made.iter().all(|generation| *generation > before && *generation <= after), "{made:?} up to {after}");
        follows(&sandbox, after);
        daemon.kill();
        let leftover = fs::read_dir(sandbox.path("state")).unwrap().map(|entry| entry.unwrap().file_name());
        assert!(leftover.into_iter().all(|name| !is_temporary(&name.to_string_lossy())));
        done += tally.done.into_inner();
        refused += tally.refused.into_inner();
    }
    println!(
        "{pairs} pairs of commands beside a daemon: {done} done, {refused} refused, no key lost, no generation made twice"
    );
    assert!(done > 0 && refused > 0, "{done} done, {refused} refused");
}

/// Waits until the daemon serves this generation of the keyring.
fn follows(sandbox: &Sandbox, generation: u64) {
    let start = Instant::now();
    loop {
        let status = sandbox.run(&format!("status {STATE} --socket [DIR]/run/kms.sock --output json"));
        let plugin = match status.code {
            0 | 1 => status.json()["plugin"].clone(),
            _ => serde_json::Value::Null,
        };
        // `status` exits with 1 after a merge, as it asks for a rotation.
        if plugin["generation"] == generation && plugin["degraded"].is_null() {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{status}");
        thread::sleep(Duration::from_millis(100));
    }
}
