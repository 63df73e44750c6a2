//! Verifies a rotation with a real kube-apiserver: the values that are left over are named until all are rewritten.
//! Then a report proves it, until etcd is restored.

use std::fs;

use crate::{
    cli::sandbox::{Answer, Daemon, Sandbox},
    harness::{api_server::ApiServer, etcd::Etcd, processes::Run},
};

const STATE: &str = "--state-dir [DIR]/state";
const SERVE: &str = "--state-dir [DIR]/state --socket [DIR]/run/kms.sock";

/// A node with one API server, which encrypts Secrets.
struct Node {
    sandbox: Sandbox,
    etcd: Etcd,
    api: ApiServer,
    daemon: Daemon,
}

impl Node {
    fn new() -> Self {
        let run = Run::new().unwrap();
        let etcd = Etcd::start(&run, 1).unwrap();
        let sandbox = Sandbox::inside(run.directory());
        sandbox.init("state");
        let daemon = sandbox.serve(SERVE);
        let generate = "generate encryption-configuration --resource secrets --socket [DIR]/run/kms.sock";
        let config = sandbox.path("encryption.yaml");
        fs::write(&config, sandbox.unmask(&sandbox.run(generate).ends_with(0).stdout)).unwrap();
        let api = ApiServer::on(&run, &etcd).encryption_config(config).start().unwrap();
        Self { sandbox, etcd, api, daemon }
    }

    fn create(&self, name: &str) {
        self.api.kubectl(&["create", "secret", "generic", name, "--from-literal=a=b"]).unwrap();
    }

    /// Makes another key primary. A restarted API server writes under it at once.
    fn promote(&mut self) {
        self.sandbox.run(&format!("key add {STATE}")).ends_with(0);
        self.sandbox.run(&format!("key promote k2 --without-backup {STATE}")).ends_with(0);
        self.daemon.kill();
        self.daemon = self.sandbox.serve(SERVE);
        self.api.restart().unwrap();
    }

    fn rewrite(&self) {
        let secrets = self.api.kubectl(&["get", "secrets", "--all-namespaces", "-o", "json"]).unwrap();
        self.api.kubectl_stdin(&["replace", "-f", "-"], &secrets).unwrap();
    }

    /// Runs `claviger verify` with the flags of the running API server.
    #[track_caller]
    fn verify(&mut self, more: &str, exit: i32, expected: &[&str]) -> Answer {
        let pid = self.api.process().unwrap().id();
        let answer = self.sandbox.run(&format!("verify {STATE} --apiserver-process {pid} {more}"));
        answer.ends_with(exit);
        for text in expected {
            assert!(answer.stdout.contains(text), "{text}: {answer}");
        }
        answer
    }
}

#[test]
fn a_rotation_is_proven_when_all_was_rewritten_and_until_etcd_is_restored() {
    let mut node = Node::new();
    node.create("under-k1");
    node.verify("", 0, &["Clean: 1 value is under the primary key, and nothing is left over\n"]);
    node.promote();
    node.create("under-k2");
    let snapshot = node.sandbox.path("etcd.db");
    node.etcd.snapshot(&snapshot).unwrap();
    let stale = node.verify("", 1, &["Not clean. ", "stale (1): ", "  /registry/secrets/default/under-k1\n"]);
    assert!(!stale.stdout.contains("  /registry/secrets/default/under-k2\n"), "{stale}");
    assert!(
        stale.stdout.contains("re-encrypt them: claviger reencrypt --state-dir [DIR]/state --apiserver-process "),
        "{stale}"
    );

    node.rewrite();
    let clean = "Clean: 2 values are under the primary key, and nothing is left over\n";
    node.verify("--to [DIR]/a.report --html [DIR]/a.html", 0, &[clean]);
    node.etcd.put("/registry/secrets/default/by-hand", b"{\"kind\":\"Secret\"}").unwrap();
    node.verify("", 1, &["Not clean. 1 of 3 Secrets is readable in etcd\n", "  /registry/secrets/default/by-hand\n"]);
    node.etcd.run_etcdctl(&["del", "/registry/secrets/default/by-hand"]).unwrap();
    node.create("later");
    node.verify("--report [DIR]/a.html", 0, &["Clean: 3 values", ": 2, now 3\n"]);

    // An older snapshot brings back the values that were left over.
    node.api.kill().unwrap();
    node.etcd.restore_in_place(&snapshot).unwrap();
    node.api.launch().unwrap();
    node.api.wait_until_ready().unwrap();
    // API servers have written since then, so the revision alone may not show it.
    let voided = node.verify("--report [DIR]/a.report", 1, &["Not clean. ", "default/under-k1\n"]);
    let is_shown = |text: &str| voided.stdout.contains(text);
    assert!(
        is_shown("! etcd was restored: it has values of secrets ") || is_shown(" was restored: it is at revision ")
    );
    node.rewrite();
    node.verify("", 0, &[clean]);
}
