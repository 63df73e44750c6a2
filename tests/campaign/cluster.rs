//! Restarts the plugin again and again under a real API server with writers, readers and watchers. None of them may
//! notice it.
//!
//! An API server keeps the seeds that it knows, and calls the plugin for all others: at its own start, and when its
//! EncryptionConfiguration has changed, which it checks once a minute. So the test changes the file all the time, and
//! starts a second API server during the restarts.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rand::{RngExt, rngs::SmallRng};

use super::{
    load::{Api, Load},
    random, size,
};
use crate::harness::{api_server::ApiServer, binaries::Program, etcd::Etcd, plugin::Plugin, processes::Run};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

/// The number of lives of the API server before the campaign, each with a seed of its own.
const LIVES: usize = 3;

/// The API server's counters of calls of the plugin and of new configurations.
const METRICS: [&str; 2] = [
    "apiserver_envelope_encryption_kms_operations_latency_seconds_count",
    "apiserver_encryption_config_controller_automatic_reloads_total",
];

/// A control plane with Secrets under the seeds of several lives of the API server.
struct Rig {
    api: ApiServer,
    plugin: Plugin,
    etcd: Etcd,
    config: PathBuf,
    socket: PathBuf,
    run: Run,
}

impl Rig {
    fn start() -> Self {
        let run = Run::new().unwrap();
        let etcd = Etcd::start(&run, 1).unwrap();
        let mut plugin = Plugin::init(&run, BINARY, "claviger").unwrap();
        let socket = run.socket("kms.sock").unwrap();
        plugin.serve(socket.display().to_string()).unwrap();
        let config = plugin.encryption_config(&["secrets"], false).unwrap();
        let mut api = ApiServer::on(&run, &etcd).encryption_config(&config).start().unwrap();
        for life in 0..LIVES {
            let value = format!("--from-literal=value=s-old-{life}");
            api.kubectl(&["create", "secret", "generic", &format!("old-{life}"), &value]).unwrap();
            api.restart().unwrap();
        }
        Self { api, plugin, etcd, config, socket, run }
    }

    /// Restarts the plugin, half of the times on its own socket, and half of the times on a socket that systemd would
    /// hold.
    fn restart_again_and_again(&mut self, random: &mut SmallRng, restarts: u64, pace: f64) {
        for restart in 0..restarts {
            change(&self.config, restart);
            if restart == restarts / 2 {
                self.plugin.serve_activated(&self.socket).unwrap();
            } else if random.random() {
                self.plugin.kill().unwrap();
            } else {
                self.plugin.terminate().unwrap();
            }
            wait(random, 0.3 * pace);
            self.plugin.restart().unwrap();
            wait(random, pace);
        }
    }
}

fn print_metrics(api: &ApiServer) {
    let metrics = api.kubectl(&["get", "--raw", "/metrics"]).unwrap();
    for line in metrics.lines().filter(|line| METRICS.iter().any(|metric| line.starts_with(metric))) {
        println!("{line}");
    }
}

/// Writes a configuration with another comment. For an API server it is a new configuration, whose transformers know no
/// seed.
fn change(config: &Path, number: u64) {
    let text = fs::read_to_string(config).unwrap();
    let text = text.split("\n# change ").next().unwrap();
    let next = config.with_extension("next");
    fs::write(&next, format!("{text}\n# change {number}\n")).unwrap();
    fs::rename(next, config).unwrap();
}

fn wait(random: &mut SmallRng, at_most: f64) {
    thread::sleep(Duration::from_secs_f64(random.random_range(0.0..at_most)));
}

/// Reads through an API server that has just started the Secrets that earlier lives of the first one wrote.
fn read_old(api: &ApiServer) {
    for life in 0..LIVES {
        let template = "go-template={{.data.value | base64decode}}";
        let value = api.kubectl(&["get", "secret", &format!("old-{life}"), "-o", template]).unwrap();
        assert_eq!(value, format!("s-old-{life}"));
    }
}

#[test]
#[ignore = "campaign"]
fn nobody_notices_restarts_of_the_plugin() {
    let (mut random, restarts) = (random("cluster"), size(20));
    let mut rig = Rig::start();
    let kubeconfig = rig.api.kubeconfig();
    let users = Load::start(&rig.run, Program::ApiClient, &["--kubeconfig", kubeconfig.to_str().unwrap()]);
    let other = ApiServer::on(&rig.run, &rig.etcd).encryption_config(&rig.config);
    let other = thread::scope(|scope| {
        let other = scope.spawn(|| other.start().unwrap());
        rig.restart_again_and_again(&mut random, restarts, 0.5);
        other.join().unwrap()
    });
    users.finish::<Api>().assert_nothing_failed();
    read_old(&other);
    print_metrics(&other);
}

mod nightly {
    use super::*;

    #[test]
    #[ignore = "nightly: an API server looks for a new configuration once a minute"]
    fn nobody_notices_restarts_of_the_plugin_while_the_configuration_changes() {
        let (mut random, restarts) = (random("cluster, reloading"), size(100));
        let mut rig = Rig::start();
        let kubeconfig = rig.api.kubeconfig();
        let users = Load::start(&rig.run, Program::ApiClient, &["--kubeconfig", kubeconfig.to_str().unwrap()]);
        rig.restart_again_and_again(&mut random, restarts, 2.5);
        users.finish::<Api>().assert_nothing_failed();
        print_metrics(&rig.api);
    }
}
