//! Asks an API server as a client does. Every answer has its status code, also a refusal. No program is started for a
//! request.

use std::time::Duration;

use super::http::{Answer, request};
use crate::harness::wait::wait_until;
use crate::harness::{
    api_server::ApiServer,
    binaries::{Program, Version},
    commands::isolated,
    processes::{Process, Run},
};

/// The time limit for what an API server does by itself within a minute: a probe, a reload.
pub(crate) const SOON: Duration = Duration::from_secs(100);

/// `kubectl proxy` before an API server. It outlives restarts of the API server, and is killed when dropped.
pub(crate) struct Front {
    port: u16,
    _proxy: Process,
}

impl Front {
    /// Starts the proxy. Waits for the proxy and not for the API server.
    pub(crate) fn of(run: &Run, api: &ApiServer) -> Self {
        let mut command = isolated(&Program::Kubectl(Version::V1_37).path().unwrap(), run.directory());
        command.arg("proxy").arg("--port=0").arg(format!("--kubeconfig={}", api.kubeconfig().display()));
        let name = run.unique_name("kubectl-proxy");
        let mut proxy = run.start(&name, command).unwrap();
        let log = run.log_of(&name);
        let port = || std::fs::read_to_string(&log).unwrap().trim().rsplit_once("127.0.0.1:")?.1.parse().ok();
        proxy.wait_until("listening", SOON, || port().is_some()).unwrap();
        Self { port: port().unwrap(), _proxy: proxy }
    }

    pub(crate) fn try_request(&self, line: &str, headers: &[&str], body: &str) -> std::io::Result<Answer> {
        request(self.port, line, headers, body.as_bytes())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.try_request(&format!("GET {path}"), &[], "").unwrap()
    }

    pub(crate) fn delete(&self, path: &str) -> Answer {
        self.try_request(&format!("DELETE {path}"), &[], "").unwrap()
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.try_request(&format!("POST {path}"), &["Content-Type: application/json"], body).unwrap()
    }

    pub(crate) fn patch(&self, path: &str, kind: &str, body: &str) -> Answer {
        self.try_request(&format!("PATCH {path}"), &[&format!("Content-Type: application/{kind}")], body).unwrap()
    }

    /// Returns the sum of a metric over all series with all of `labels`.
    pub(crate) fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let metrics = self.get("/metrics").body;
        let ours = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        let ours = ours.filter(|line| labels.iter().all(|label| line.contains(label)));
        ours.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Returns the health check of the plugins. The request itself is a probe, if the last probe is old enough.
    pub(crate) fn providers(&self) -> Answer {
        self.get("/readyz/kms-providers")
    }

    /// Waits until the API server answers. A plugin in trouble does not prevent that.
    pub(crate) fn wait_until_alive(&self) {
        let ok = |path| self.get(path).status == 200;
        wait_until("alive", || ok("/livez") && ok("/api/v1/namespaces/default"));
    }

    /// Waits until the health check of the plugins contains `text`, and returns its whole text.
    pub(crate) fn wait_for_providers(&self, text: &str) -> String {
        let mut last = self.providers();
        wait_until(&format!("the health check has {text:?}"), || {
            last = self.providers();
            last.body.contains(text)
        });
        last.body
    }
}
