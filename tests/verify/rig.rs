//! A keyring, an etcd with values that the test makes itself, and an EncryptionConfiguration.

use std::fs;

use crate::{
    cli::sandbox::{Answer, Sandbox},
    harness::{etcd::Etcd, processes::Run},
};

pub(super) const STATE: &str = "--state-dir [DIR]/state";

pub(crate) const CONFIG: &str = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets, leases.coordination.k8s.io]
  providers:
  - kms: {apiVersion: v2, name: claviger, endpoint: unix:///run/claviger/kms.sock}
  - identity: {}
";

/// The bytes that an API server stores for an object that is not encrypted.
pub(super) const PLAINTEXT: &[u8] = b"k8s\0\x0a\x0c\x0a\x02v1\x12\x06Secret\x12\x00";

/// A key: its name in values, and the key itself.
#[derive(Clone)]
pub(super) struct Named {
    pub(super) key_id: String,
    commitment: Vec<u8>,
}

pub(super) struct Rig {
    pub(super) run: Run,
    pub(super) sandbox: Sandbox,
    pub(super) etcd: Etcd,
}

impl Rig {
    /// Returns a clean cluster: k1 is old, k2 is primary, and all values are under k2.
    pub(super) fn new() -> Self {
        let run = Run::new().unwrap();
        let sandbox = Sandbox::inside(run.directory());
        let etcd = Etcd::start(&run, 1).unwrap();
        sandbox.init("state");
        let rig = Self { run, sandbox, etcd };
        rig.done(&format!("key add {STATE}"));
        rig.done(&format!("key promote k2 --without-backup {STATE}"));
        rig.configure(CONFIG);
        rig.fill(&rig.etcd);
        rig
    }

    /// Writes namespaces, and two Secrets and a Lease under the primary key.
    pub(super) fn fill(&self, etcd: &Etcd) {
        etcd.put("/registry/namespaces/default", PLAINTEXT).unwrap();
        etcd.put("/registry/ranges/serviceips", PLAINTEXT).unwrap();
        let primary = value("claviger", &self.key(2));
        for key in ["secrets/default/a", "secrets/default/b", "leases/kube-system/c"] {
            etcd.put(&format!("/registry/{key}"), &primary).unwrap();
        }
    }

    pub(super) fn done(&self, line: &str) -> Answer {
        let answer = self.sandbox.run(line);
        assert_eq!(answer.code, 0, "{answer}");
        answer
    }

    pub(super) fn configure(&self, config: &str) {
        fs::write(self.sandbox.path("enc.yaml"), config).unwrap();
    }

    /// Returns the key with this number.
    pub(super) fn key(&self, number: u32) -> Named {
        let record = fs::read_to_string(self.sandbox.path("state/keyring")).unwrap();
        let line = record.lines().find(|line| line.starts_with(&format!("-> key {number} "))).unwrap();
        let commitment = base64(line.split(' ').nth(4).unwrap());
        Named { key_id: format!("k{number}-{}", hex(&commitment[..16])), commitment }
    }

    /// Returns all flags of the command.
    pub(super) fn flags(&self) -> String {
        format!("{STATE} --etcd-servers {} --encryption-config [DIR]/enc.yaml", self.etcd.endpoints())
    }

    pub(super) fn verify(&self, more: &str) -> Answer {
        self.sandbox.run(&format!("verify {} {more}", self.flags()))
    }

    /// Runs the command, and checks its exit code and its output.
    #[track_caller]
    pub(super) fn says(&self, more: &str, exit: i32, expected: &[&str]) -> Answer {
        let answer = self.verify(more);
        answer.ends_with(exit);
        for text in expected {
            assert!(answer.stdout.contains(text) || answer.stderr.contains(text), "{text}: {answer}");
        }
        answer
    }

    pub(super) fn put(&self, key: &str, value: &[u8]) {
        self.etcd.put(&format!("/registry/{key}"), value).unwrap();
    }

    pub(super) fn delete(&self, key: &str) {
        self.etcd.run_etcdctl(&["del", &format!("/registry/{key}")]).unwrap();
    }
}

/// Returns a value of KMS v2 whose seed is under `key`. Nobody can decrypt it.
pub(super) fn value(provider: &str, key: &Named) -> Vec<u8> {
    misnamed(provider, &key.key_id, key)
}

/// Returns a value that names a key, and whose seed may be under another one.
pub(super) fn misnamed(provider: &str, key_id: &str, key: &Named) -> Vec<u8> {
    let wrapped = [b"KW\x01\x01", &key.commitment[..], &[7; 24 + 32 + 16]].concat();
    let (id, seed) = (u8::try_from(key_id.len()).unwrap(), u8::try_from(wrapped.len()).unwrap());
    let prefix = format!("k8s:enc:kms:v2:{provider}:");
    [prefix.as_bytes(), b"\x0a\x3c", &[7; 60], &[0x12, id], key_id.as_bytes(), &[0x1a, seed], &wrapped, b"\x28\x01"]
        .concat()
}

fn base64(text: &str) -> Vec<u8> {
    use base64ct::{Base64, Encoding};
    Base64::decode_vec(text).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
