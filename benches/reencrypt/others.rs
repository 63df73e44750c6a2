//! How long other clients of the API server wait while claviger rewrites every Secret at its default rate.

use std::{thread, time::Duration};

use anstream::{eprintln, println};
use rustix::process::{Pid, Signal, kill_process};

use super::{Cluster, client};
use crate::harness::error::{Context, Result};

/// The requests of the other client in a second.
const PACE: u32 = 50;

/// How long the client is measured without a rewrite.
const ALONE: Duration = Duration::from_secs(30);

/// The times of one measurement, in milliseconds.
struct Waits {
    median: f64,
    p99: f64,
}

/// Measures the other client alone and beside `claviger reencrypt`, in turn, and prints the medians over the rounds.
pub(super) fn measure(cluster: &mut Cluster, rounds: u16, load: &str) -> Result<()> {
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for round in 1..=rounds {
        eprintln!("round {round} of {rounds}");
        cluster.make_stale()?;
        alone.push(paced(cluster, |_| {
            thread::sleep(ALONE);
            Ok(())
        })?);
        beside.push(paced(cluster, |cluster| cluster.reencrypt(&[]))?);
    }
    println!("{} Secrets, {rounds} rounds, {PACE} requests/s of another client; load before: {load}", cluster.secrets);
    println!("{:38} {:>12} {:>12} {:>12}", "", "median, ms", "p99, ms", "most p99, ms");
    for (name, waits) in [("no rewrite", alone), ("claviger reencrypt, its default rate", beside)] {
        let (median, p99) = (sorted(&waits, |one| one.median), sorted(&waits, |one| one.p99));
        let middle = waits.len() / 2;
        println!("{name:38} {:>12.1} {:>12.1} {:>12.1}", median[middle], p99[middle], p99[p99.len() - 1]);
    }
    Ok(())
}

fn sorted(waits: &[Waits], of: impl Fn(&Waits) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = waits.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values
}

/// Returns how long the requests of a paced client took during `meanwhile`. Every request must succeed.
fn paced(cluster: &Cluster, meanwhile: impl FnOnce(&Cluster) -> Result<()>) -> Result<Waits> {
    let mut command = client(&cluster.api.kubeconfig(), &["--pace", &PACE.to_string()])?;
    command.stdout(std::process::Stdio::piped());
    let pacer = command.spawn().during(|| "starting the client".to_owned())?;
    // The client makes its Secrets first.
    thread::sleep(Duration::from_secs(3));
    let done = meanwhile(cluster);
    let _ = kill_process(Pid::from_child(&pacer), Signal::TERM);
    let answer = pacer.wait_with_output().during(|| "waiting for the client".to_owned())?;
    done?;
    let report: serde_json::Value =
        serde_json::from_slice(&answer.stdout).during(|| "reading the report of the client".to_owned())?;
    assert_eq!(report["failed"], 0, "{report}");
    let time = |name: &str| report[name].as_f64().unwrap_or(f64::NAN);
    Ok(Waits { median: time("p50_ms"), p99: time("p99_ms") })
}
