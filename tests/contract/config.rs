//! Writes `EncryptionConfiguration` files of several entries, for several kinds of objects.

use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use crate::harness::processes::Run;

/// A kind of object that API servers do not create themselves, so that only the test has such objects.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// The name of the resource in the configuration.
    pub(super) resource: &'static str,
    /// The group and version in a URL, and the plural.
    path: (&'static str, &'static str),
    api_version: &'static str,
    name: &'static str,
    /// The JSON fields that such an object must have.
    fields: &'static str,
}

impl Kind {
    const fn new(
        resource: &'static str,
        path: (&'static str, &'static str),
        (api_version, name): (&'static str, &'static str),
        fields: &'static str,
    ) -> Self {
        Self { resource, path, api_version, name, fields }
    }

    pub(super) fn collection(&self) -> String {
        format!("/{}/namespaces/default/{}", self.path.0, self.path.1)
    }

    pub(super) fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.collection())
    }

    pub(super) fn etcd_key(&self, name: &str) -> String {
        format!("/registry/{}/default/{name}", self.path.1)
    }

    /// Returns the object `name`, as JSON.
    pub(super) fn object(&self, name: &str) -> String {
        let (version, kind, fields) = (self.api_version, self.name, self.fields);
        let metadata = format!(r#"{{"name":"{name}","namespace":"default"}}"#);
        format!(r#"{{"apiVersion":"{version}","kind":"{kind}","metadata":{metadata}{fields}}}"#)
    }
}

/// The fields of an object that runs pods.
macro_rules! with_pods {
    () => {
        concat!(
            r#","spec":{"selector":{"matchLabels":{"a":"b"}},"#,
            r#""template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"a","image":"b"}]}}}"#
        )
    };
}

const CORE: &str = "api/v1";
const APPS: &str = "apis/apps/v1";
const BATCH: &str = "apis/batch/v1";

pub(super) const SECRETS: Kind =
    Kind::new("secrets", (CORE, "secrets"), ("v1", "Secret"), r#","data":{"a":"cy1zZWNyZXQ="}"#);
pub(super) const CONFIG_MAPS: Kind =
    Kind::new("configmaps", (CORE, "configmaps"), ("v1", "ConfigMap"), r#","data":{"a":"s-configured"}"#);
pub(super) const LIMIT_RANGES: Kind =
    Kind::new("limitranges", (CORE, "limitranges"), ("v1", "LimitRange"), r#","spec":{"limits":[]}"#);
pub(super) const RESOURCE_QUOTAS: Kind =
    Kind::new("resourcequotas", (CORE, "resourcequotas"), ("v1", "ResourceQuota"), r#","spec":{}"#);
pub(super) const SERVICE_ACCOUNTS: Kind =
    Kind::new("serviceaccounts", (CORE, "serviceaccounts"), ("v1", "ServiceAccount"), "");
pub(super) const ENDPOINTS: Kind = Kind::new("endpoints", (CORE, "endpoints"), ("v1", "Endpoints"), "");
pub(super) const VOLUME_CLAIMS: Kind = Kind::new(
    "persistentvolumeclaims",
    (CORE, "persistentvolumeclaims"),
    ("v1", "PersistentVolumeClaim"),
    r#","spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}"#,
);
pub(super) const POD_TEMPLATES: Kind = Kind::new(
    "podtemplates",
    (CORE, "podtemplates"),
    ("v1", "PodTemplate"),
    r#","template":{"spec":{"containers":[{"name":"a","image":"b"}]}}"#,
);
pub(super) const NETWORK_POLICIES: Kind = Kind::new(
    "networkpolicies.networking.k8s.io",
    ("apis/networking.k8s.io/v1", "networkpolicies"),
    ("networking.k8s.io/v1", "NetworkPolicy"),
    r#","spec":{"podSelector":{}}"#,
);
pub(super) const INGRESSES: Kind = Kind::new(
    "ingresses.networking.k8s.io",
    ("apis/networking.k8s.io/v1", "ingresses"),
    ("networking.k8s.io/v1", "Ingress"),
    r#","spec":{"defaultBackend":{"service":{"name":"a","port":{"number":1}}}}"#,
);
pub(super) const CLAIM_TEMPLATES: Kind = Kind::new(
    "resourceclaimtemplates.resource.k8s.io",
    ("apis/resource.k8s.io/v1", "resourceclaimtemplates"),
    ("resource.k8s.io/v1", "ResourceClaimTemplate"),
    r#","spec":{"spec":{}}"#,
);
pub(super) const DISRUPTION_BUDGETS: Kind = Kind::new(
    "poddisruptionbudgets.policy",
    ("apis/policy/v1", "poddisruptionbudgets"),
    ("policy/v1", "PodDisruptionBudget"),
    r#","spec":{"selector":{}}"#,
);
pub(super) const AUTOSCALERS: Kind = Kind::new(
    "horizontalpodautoscalers.autoscaling",
    ("apis/autoscaling/v1", "horizontalpodautoscalers"),
    ("autoscaling/v1", "HorizontalPodAutoscaler"),
    r#","spec":{"maxReplicas":1,"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"b"}}"#,
);
pub(super) const ENDPOINT_SLICES: Kind = Kind::new(
    "endpointslices.discovery.k8s.io",
    ("apis/discovery.k8s.io/v1", "endpointslices"),
    ("discovery.k8s.io/v1", "EndpointSlice"),
    r#","addressType":"IPv4","endpoints":[]"#,
);
pub(super) const STORAGE_CAPACITIES: Kind = Kind::new(
    "csistoragecapacities.storage.k8s.io",
    ("apis/storage.k8s.io/v1", "csistoragecapacities"),
    ("storage.k8s.io/v1", "CSIStorageCapacity"),
    r#","storageClassName":"a""#,
);
pub(super) const REVISIONS: Kind = Kind::new(
    "controllerrevisions.apps",
    (APPS, "controllerrevisions"),
    ("apps/v1", "ControllerRevision"),
    r#","revision":1,"data":{}"#,
);
pub(super) const DEPLOYMENTS: Kind =
    Kind::new("deployments.apps", (APPS, "deployments"), ("apps/v1", "Deployment"), with_pods!());
pub(super) const STATEFUL_SETS: Kind =
    Kind::new("statefulsets.apps", (APPS, "statefulsets"), ("apps/v1", "StatefulSet"), with_pods!());
pub(super) const DAEMON_SETS: Kind =
    Kind::new("daemonsets.apps", (APPS, "daemonsets"), ("apps/v1", "DaemonSet"), with_pods!());
pub(super) const REPLICA_SETS: Kind =
    Kind::new("replicasets.apps", (APPS, "replicasets"), ("apps/v1", "ReplicaSet"), with_pods!());
pub(super) const JOBS: Kind =
    Kind::new("jobs.batch", (BATCH, "jobs"), ("batch/v1", "Job"), r#","spec":{"template":{}}"#);
pub(super) const CRON_JOBS: Kind =
    Kind::new("cronjobs.batch", (BATCH, "cronjobs"), ("batch/v1", "CronJob"), r#","spec":{"schedule":"@daily"}"#);

/// One entry of a configuration: the plugin on this socket encrypts these resources. Objects in plaintext are read,
/// too.
pub(super) struct Provider<'a> {
    pub(super) name: &'a str,
    pub(super) resources: &'a [&'a str],
    pub(super) socket: &'a Path,
    /// The timeout. `None` leaves it to the API server's default.
    pub(super) timeout: Option<&'a str>,
}

/// Writes a configuration under `name` in the directory of the run. It replaces the file by a rename, because an API
/// server may be following it.
pub(super) fn write(run: &Run, name: &str, providers: &[Provider]) -> PathBuf {
    let mut text = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n".to_owned();
    for provider in providers {
        let (resources, endpoint) = (provider.resources.join(", "), provider.socket.display());
        let timeout = provider.timeout.map_or_else(String::new, |timeout| format!(", timeout: {timeout}"));
        writeln!(text, "- resources: [{resources}]\n  providers:").unwrap();
        let name = provider.name;
        writeln!(text, "  - kms: {{apiVersion: v2, name: {name}, endpoint: \"unix://{endpoint}\"{timeout}}}").unwrap();
        writeln!(text, "  - identity: {{}}").unwrap();
    }
    write_text(run, name, &text)
}

/// Writes a file under `name` in the directory of the run, by a rename.
pub(super) fn write_text(run: &Run, name: &str, text: &str) -> PathBuf {
    let (path, draft) = (run.path(name), run.path(format!("{name}.draft")));
    fs::write(&draft, text).unwrap();
    fs::rename(&draft, &path).unwrap();
    path
}
