//! A node with a plugin and an API server that encrypts Secrets, ConfigMaps and a custom resource.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    cli::sandbox::{Answer, CLAVIGER, Call, Daemon, Sandbox},
    harness::{
        api_server::{ApiServer, Options},
        certificates::ClientCertificate,
        etcd::Etcd,
        processes::Run,
    },
};

pub(crate) const STATE: &str = "--state-dir [DIR]/state";
const SERVE: &str = "--state-dir [DIR]/state --socket [DIR]/run/kms.sock";
const RESOURCES: &str =
    "--resource secrets --resource configmaps --resource widgets.example.com --resource gone.example.com";

const WIDGETS: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
";

/// A Secret as an API server without encryption stores it, and its key in etcd.
pub(crate) const PLAIN: &[u8] = br#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"plain","namespace":"default","uid":"5d2c8c2e-4f5f-4d4f-9b1a-1f0f2f5e0c11"},"type":"Opaque"}"#;
pub(crate) const PLAIN_KEY: &str = "/registry/secrets/default/plain";

/// The time limit for a re-encryption on a busy machine. Objects that cannot be written are tried again for a while.
const LIMIT: Duration = Duration::from_mins(2);

/// A node with one API server.
pub(crate) struct Rig {
    pub(crate) sandbox: Sandbox,
    pub(crate) etcd: Etcd,
    pub(crate) api: ApiServer,
    pub(crate) daemon: Daemon,
    pub(crate) run: Run,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(|api, _| api)
    }

    /// Returns an API server that also accepts a certificate of `user`, who has no rights.
    pub(crate) fn with_certificate(user: &str) -> (Self, ClientCertificate) {
        let mut made = None;
        let rig = Self::with(|api, sandbox| {
            let certificate = ClientCertificate::create(sandbox.root(), user).unwrap();
            let api = api.argument(format!("--client-ca-file={}", certificate.certificate.display()));
            made = Some(certificate);
            api
        });
        (rig, made.unwrap())
    }

    /// Returns an API server with two provider entries for the plugin: it encrypts ConfigMaps by the second one.
    pub(crate) fn with_two_providers() -> Self {
        Self::with(|api, sandbox| {
            let provider = |name: &str| {
                let endpoint = sandbox.path("run/kms.sock");
                format!("{{kms: {{apiVersion: v2, name: {name}, endpoint: 'unix://{}'}}}}", endpoint.display())
            };
            let entry = |resource: &str, name: &str| {
                format!("- {{resources: [{resource}], providers: [{}, {{identity: {{}}}}]}}\n", provider(name))
            };
            let config = sandbox.path("two-providers.yaml");
            let entries = [entry("secrets", "claviger"), entry("configmaps", "claviger-2")].concat();
            let header = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n";
            fs::write(&config, format!("{header}{entries}")).unwrap();
            api.encryption_config(config)
        })
    }

    /// Returns an API server that also encrypts events, and keeps them for five minutes.
    pub(crate) fn with_events() -> Self {
        Self::with(|api, sandbox| {
            let generate =
                "generate encryption-configuration --resource secrets --resource events --socket [DIR]/run/kms.sock";
            let config = sandbox.path("events.yaml");
            fs::write(&config, sandbox.unmask(&sandbox.run(generate).ends_with(0).stdout)).unwrap();
            api.encryption_config(config).argument("--event-ttl=5m")
        })
    }

    fn with(options: impl FnOnce(Options, &Sandbox) -> Options) -> Self {
        let run = Run::new().unwrap();
        let etcd = Etcd::start(&run, 1).unwrap();
        let sandbox = Sandbox::inside(run.directory());
        sandbox.init("state");
        let daemon = sandbox.serve(SERVE);
        let generate = format!("generate encryption-configuration {RESOURCES} --socket [DIR]/run/kms.sock");
        let config = sandbox.path("encryption.yaml");
        fs::write(&config, sandbox.unmask(&sandbox.run(&generate).ends_with(0).stdout)).unwrap();
        let api = options(ApiServer::on(&run, &etcd).encryption_config(config), &sandbox).start().unwrap();
        Self { sandbox, etcd, api, daemon, run }
    }

    /// Applies documents of YAML.
    pub(crate) fn apply(&self, documents: &str) {
        self.api.kubectl_stdin(&["apply", "-f", "-"], documents).unwrap();
    }

    pub(crate) fn create_secrets(&self, prefix: &str, count: usize) {
        let document = |number| {
            format!(
                "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: {prefix}-{number:04}}}\nstringData: {{password: pw-{number}}}\n"
            )
        };
        self.api.kubectl_stdin(&["create", "-f", "-"], &(0..count).map(document).collect::<String>()).unwrap();
    }

    /// Makes three objects each of two other resources.
    pub(crate) fn create_others(&self) {
        self.apply(WIDGETS);
        self.api.kubectl(&["wait", "--for=condition=Established", "crd/widgets.example.com"]).unwrap();
        for number in 0..3 {
            self.apply(&format!(
                "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: c{number}}}, data: {{a: b}}}}\n---\n\
                 {{apiVersion: example.com/v1, kind: Widget, metadata: {{name: w{number}}}, spec: {{a: b}}}}\n"
            ));
        }
    }

    /// Makes another key primary, and does not wait.
    pub(crate) fn promote(&mut self) {
        self.sandbox.run(&format!("key add {STATE}")).ends_with(0);
        self.sandbox.run(&format!("key promote k2 --without-backup {STATE}")).ends_with(0);
    }

    /// Makes another key primary, and restarts the API server, which then writes under it at once.
    pub(crate) fn promote_and_adopt(&mut self) {
        self.promote();
        self.daemon.kill();
        self.daemon = self.sandbox.serve(SERVE);
        self.api.restart().unwrap();
    }

    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.api.kubeconfig()
    }

    /// Returns the command, with the flags of the running API server and the kubeconfig of the administrator.
    pub(crate) fn call(&mut self, more: &str) -> Call<'_> {
        let kubeconfig = self.kubeconfig();
        self.call_as(&kubeconfig.display().to_string(), more)
    }

    /// Returns a command of claviger, with the state directory, the running API server and the kubeconfig of the
    /// administrator.
    pub(crate) fn cluster_call(&mut self, verb: &str, more: &str) -> Call<'_> {
        let kubeconfig = self.kubeconfig().display().to_string();
        let pid = self.api.process().unwrap().id();
        self.sandbox.call(&format!("{verb} {STATE} --apiserver-process {pid} --kubeconfig {kubeconfig} {more}"))
    }

    /// Returns the command with another kubeconfig.
    pub(crate) fn call_as(&mut self, kubeconfig: &str, more: &str) -> Call<'_> {
        let pid = self.api.process().unwrap().id();
        let line = format!("reencrypt {STATE} --apiserver-process {pid} --kubeconfig {kubeconfig} {more}");
        self.sandbox.call(&line).by(Path::new(CLAVIGER), LIMIT)
    }

    /// Runs the command.
    #[track_caller]
    pub(crate) fn reencrypt(&mut self, more: &str, exit: i32, expected: &[&str]) -> Answer {
        let answer = self.call(more).run();
        answer.ends_with(exit);
        has_all(&answer, expected);
        answer
    }

    /// Checks by `claviger verify`, which only reads etcd, that nothing is left over.
    #[track_caller]
    pub(crate) fn is_clean(&mut self) {
        let pid = self.api.process().unwrap().id();
        self.sandbox.run(&format!("verify {STATE} --apiserver-process {pid}")).ends_with(0);
    }

    /// Returns the revision at which a key in etcd was written last.
    pub(crate) fn revision_of(&self, key: &str) -> u64 {
        let answer = self.etcd.run_etcdctl(&["get", key, "--write-out=json"]).unwrap();
        let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
        answer["kvs"][0]["mod_revision"].as_u64().unwrap()
    }
}

#[track_caller]
pub(crate) fn has_all(answer: &Answer, expected: &[&str]) {
    for text in expected {
        assert!(answer.stdout.contains(text) || answer.stderr.contains(text), "{text}: {answer}");
    }
}
