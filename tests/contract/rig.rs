//! An etcd, a plugin and an API server with one provider entry. The test decides when each is started.

use std::path::PathBuf;

use super::{
    BINARY,
    config::{Provider, SECRETS, write},
    front::Front,
    http::Answer,
};
use crate::harness::wait::wait_until;
use crate::harness::{api_server::ApiServer, etcd::Etcd, plugin::Plugin, processes::Run};

pub(super) struct Rig {
    pub(super) front: Front,
    pub(super) api: ApiServer,
    pub(super) plugin: Plugin,
    pub(super) etcd: Etcd,
    pub(super) run: Run,
    serves: bool,
}

/// Everything that is started before the API server.
pub(super) struct Ground {
    pub(super) plugin: Plugin,
    pub(super) etcd: Etcd,
    pub(super) run: Run,
}

impl Ground {
    /// Starts etcd, but not the plugin.
    pub(super) fn prepare() -> Self {
        let run = Run::new().unwrap();
        let etcd = Etcd::start(&run, 1).unwrap();
        let plugin = Plugin::init(&run, BINARY, "plugin").unwrap();
        Self { plugin, etcd, run }
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.run.socket("kms.sock").unwrap()
    }

    /// Starts the plugin.
    pub(super) fn serve(&mut self) {
        self.plugin.serve(self.socket().display().to_string()).unwrap();
    }

    /// Starts an API server without waiting. The plugin at `socket` encrypts `resources`.
    pub(super) fn launch(self, socket: &std::path::Path, resources: &[&str]) -> Rig {
        let provider = Provider { name: "claviger", resources, socket, timeout: None };
        let config = write(&self.run, "rig.yaml", &[provider]);
        let api = ApiServer::on(&self.run, &self.etcd).encryption_config(config).launch().unwrap();
        let front = Front::of(&self.run, &api);
        let Self { plugin, etcd, run } = self;
        Rig { front, api, plugin, etcd, run, serves: false }
    }
}

impl Rig {
    /// Returns a rig with an API server that is alive, and without a plugin.
    pub(super) fn without_plugin() -> Self {
        let ground = Ground::prepare();
        let socket = ground.socket();
        let rig = ground.launch(&socket, &["secrets"]);
        rig.front.wait_until_alive();
        rig
    }

    pub(super) fn create(&self, name: &str) -> Answer {
        self.front.post(&SECRETS.collection(), &SECRETS.object(name))
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.run.path("kms.sock")
    }

    /// Asserts that nothing works without a plugin. Then starts the plugin, and waits until the API server has found
    /// it.
    pub(super) fn serve_late(&mut self) {
        if self.serves {
            return;
        }
        self.front.providers().expect(500);
        self.create("early").expect(500);
        self.plugin.serve(self.socket().display().to_string()).unwrap();
        wait_until("the plugin is found", || self.create("found").status == 201);
        self.front.wait_for_providers("ok");
        self.api.wait_until_ready().unwrap();
        self.serves = true;
    }
}
