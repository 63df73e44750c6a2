//! Kills the daemon and starts it again, while clients call it as a kube-apiserver does.
//!
//! No client ever gets a wrong plaintext, loses a wrapped value, or gets a wrong error code. If systemd holds the
//! socket, no connection is refused.

use std::{
    collections::BTreeMap,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt, rngs::SmallRng};

use super::{
    load::{Kms, Load},
    random, size,
};
use crate::harness::{binaries::Program, plugin::Plugin, processes::Run};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

/// A plugin with two clients. One has the back-off of a kube-apiserver, which is at least 1 s after a failed attempt to
/// connect. The other one connects again within milliseconds, so that every new process has load.
struct Rig {
    plugin: Plugin,
    clients: [Load; 2],
}

impl Rig {
    fn start(activated: bool) -> Self {
        let run = Run::new().unwrap();
        let mut plugin = Plugin::init(&run, BINARY, "claviger").unwrap();
        let socket = run.socket("kms.sock").unwrap();
        serve(&mut plugin, &socket, activated);
        let client = |arguments: &[&str]| {
            let arguments = [&["--socket", socket.to_str().unwrap()], arguments].concat();
            Load::start(&run, Program::KmsClient, &arguments)
        };
        let mut clients =
            [client(&["--callers=4"]), client(&["--callers=4", "--connections=2", "--reconnect-within=8ms"])];
        // From here on, the patient client may find no running process. Each client has a wrapped seed that could be
        // lost.
        clients.iter_mut().for_each(Load::wait_until_wrapping);
        Self { plugin, clients }
    }

    /// Waits until the plugin is well, ends the clients, and checks the properties that must always hold.
    fn finish(self) -> [Kms; 2] {
        let Self { mut plugin, clients } = self;
        plugin.wait_until_serving().unwrap();
        let reports = clients.map(Load::finish::<Kms>);
        let log = plugin.process().unwrap().log();
        println!("{} processes unsealed", log.lines().filter(|line| line.contains("unsealed")).count());
        assert!(!log.contains("panicked"), "{log}");
        for report in &reports {
            report.assert_nothing_is_wrong_or_lost();
            report.assert_failures_are_honest();
        }
        reports
    }

    /// Finishes in the same way, and checks that no call of a client failed.
    fn finish_unfelt(self, rounds: u64) {
        for report in self.finish() {
            assert_eq!(report.failures, BTreeMap::new());
            assert_eq!(report.refused(), 0);
            assert!(report.calls() > rounds, "there was no load");
        }
    }
}

fn serve(plugin: &mut Plugin, socket: &Path, activated: bool) {
    if activated {
        plugin.serve_activated(socket).unwrap();
    } else {
        plugin.serve(socket.display().to_string()).unwrap();
    }
}

/// Returns how long a process lives. Every fourth process is killed within the milliseconds of its start.
fn life(random: &mut SmallRng) -> Duration {
    let milliseconds = if random.random_ratio(1, 4) { 0.0..6.0 } else { 6.0..60.0 };
    Duration::from_secs_f64(random.random_range(milliseconds) / 1000.0)
}

/// Kills one process after the other, at random moments.
fn kill_again_and_again(name: &str, activated: bool) -> [Kms; 2] {
    let (mut random, kills) = (random(name), size(200));
    let mut rig = Rig::start(activated);
    let start = Instant::now();
    for _ in 0..kills {
        rig.plugin.kill().unwrap();
        rig.plugin.launch().unwrap();
        thread::sleep(life(&mut random));
    }
    let elapsed = start.elapsed();
    let reports = rig.finish();
    let sum = |count: fn(&Kms) -> u64| reports.iter().map(count).sum::<u64>();
    println!(
        "{name}: {kills} kills in {elapsed:.1?}, {} calls answered, {} failed, {} dials refused",
        sum(Kms::calls),
        sum(|report| report.failures.values().sum()),
        sum(Kms::refused),
    );
    reports
}

#[test]
#[ignore = "campaign"]
fn sigkill_again_and_again_loses_nothing() {
    let [_, eager] = kill_again_and_again("kill -9", false);
    assert!(eager.calls() > size(200), "there was no load");
}

#[test]
#[ignore = "campaign"]
fn sigkill_again_and_again_refuses_nothing_on_a_socket_that_systemd_holds() {
    let reports = kill_again_and_again("kill -9, activated", true);
    assert!(reports[1].calls() > size(200), "there was no load");
    assert_eq!(reports.map(|report| report.refused()), [0, 0]);
}

/// A new process lets calls wait until it is unsealed, and the old one answers what is in flight.
#[test]
#[ignore = "campaign"]
fn a_restart_on_a_socket_that_systemd_holds_fails_no_call() {
    let (mut random, restarts) = (random("restart, activated"), size(200) / 4);
    let mut rig = Rig::start(true);
    for _ in 0..restarts {
        rig.plugin.terminate().unwrap();
        rig.plugin.launch().unwrap();
        rig.plugin.wait_until_serving().unwrap();
        thread::sleep(life(&mut random));
    }
    rig.finish_unfelt(restarts);
}

#[test]
#[ignore = "campaign"]
fn a_plugin_that_takes_over_fails_no_call() {
    let (mut random, successions) = (random("take-over"), size(10));
    let mut rig = Rig::start(false);
    for _ in 0..successions {
        rig.plugin.take_over().unwrap();
        thread::sleep(life(&mut random));
    }
    rig.finish_unfelt(successions);
}
