//! Objects that tests write: one of each kind, in the namespace `default`.

use crate::contract::front::Front;
use crate::harness::wait::wait_until;

const MERGE: &str = "merge-patch+json";

/// A kind of object.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    /// The name of the resource in an EncryptionConfiguration.
    pub(super) resource: &'static str,
    /// The path in etcd, below the prefix.
    path: &'static str,
    /// The group and version in a URL, and the plural.
    url: (&'static str, &'static str),
    name: &'static str,
    /// The JSON fields that such an object must have.
    fields: &'static str,
}

/// Secrets, configmaps and a custom resource.
pub(super) const ENCRYPTED: [Kind; 3] = [SECRETS, CONFIG_MAPS, WIDGETS];

/// Some kinds of every sort: of the core group and other groups, at their own path and at an older one, and a custom
/// resource.
pub(super) const ALL: [Kind; 10] = [
    SECRETS,
    CONFIG_MAPS,
    Kind::new("services", "services/specs", ("api/v1", "services"), "Service", r#","spec":{"ports":[{"port":1}]}"#),
    Kind::new("endpoints", "services/endpoints", ("api/v1", "endpoints"), "Endpoints", ""),
    Kind::new(
        "replicationcontrollers",
        "controllers",
        ("api/v1", "replicationcontrollers"),
        "ReplicationController",
        concat!(
            r#","spec":{"selector":{"a":"b"},"template":{"metadata":{"labels":{"a":"b"}},"#,
            r#""spec":{"containers":[{"name":"a","image":"b"}]}}}"#
        ),
    ),
    Kind::new(
        "deployments.apps",
        "deployments",
        ("apis/apps/v1", "deployments"),
        "Deployment",
        concat!(
            r#","spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"#,
            r#""spec":{"containers":[{"name":"a","image":"b"}]}}}"#
        ),
    ),
    Kind::new("leases.coordination.k8s.io", "leases", ("apis/coordination.k8s.io/v1", "leases"), "Lease", ""),
    Kind::new(
        "ingresses.networking.k8s.io",
        "ingress",
        ("apis/networking.k8s.io/v1", "ingresses"),
        "Ingress",
        r#","spec":{"defaultBackend":{"service":{"name":"a","port":{"number":1}}}}"#,
    ),
    Kind::new("roles.rbac.authorization.k8s.io", "roles", ("apis/rbac.authorization.k8s.io/v1", "roles"), "Role", ""),
    WIDGETS,
];

pub(super) const SECRETS: Kind =
    Kind::new("secrets", "secrets", ("api/v1", "secrets"), "Secret", r#","data":{"a":"cy1zZWNyZXQ="}"#);
pub(super) const CONFIG_MAPS: Kind =
    Kind::new("configmaps", "configmaps", ("api/v1", "configmaps"), "ConfigMap", r#","data":{"a":"s-configured"}"#);
pub(super) const WIDGETS: Kind = Kind::new(
    "widgets.example.com",
    "example.com/widgets",
    ("apis/example.com/v1", "widgets"),
    "Widget",
    r#","spec":{"pin":"s-custom"}"#,
);

const WIDGETS_CRD: &str = r#"{
    "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
    "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "object", "properties": {"pin": {"type": "string"}}}}
        }}}]
    }
}"#;

impl Kind {
    const fn new(
        resource: &'static str,
        path: &'static str,
        url: (&'static str, &'static str),
        name: &'static str,
        fields: &'static str,
    ) -> Self {
        Self { resource, path, url, name, fields }
    }

    pub(super) fn etcd_key(&self, name: &str) -> String {
        format!("/registry/{}/default/{name}", self.path)
    }

    fn collection(&self) -> String {
        format!("/{}/namespaces/default/{}", self.url.0, self.url.1)
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.collection())
    }

    pub(super) fn create(&self, front: &Front, name: &str) {
        let (version, kind, fields) = (self.url.0.split_once('/').unwrap().1, self.name, self.fields);
        let object = format!(r#"{{"apiVersion":"{version}","kind":"{kind}","metadata":{{"name":"{name}"}}{fields}}}"#);
        front.post(&self.collection(), &object).expect(201);
    }

    /// Changes an object, so that it is written again.
    pub(super) fn update(&self, front: &Front, name: &str, label: &str) {
        let patch = format!(r#"{{"metadata":{{"labels":{{"changed":"{label}"}}}}}}"#);
        front.patch(&self.path(name), MERGE, &patch).expect(200);
    }

    pub(super) fn delete(&self, front: &Front, name: &str) {
        front.delete(&self.path(name)).expect(200);
    }
}

/// Returns the URL at which an API server serves the object at a key of etcd, if its kind is in [`ENCRYPTED`].
pub(super) fn url_of(etcd_key: &str) -> Option<String> {
    ENCRYPTED.iter().find_map(|kind| {
        let (namespace, name) = etcd_key.strip_prefix(&format!("/registry/{}/", kind.path))?.split_once('/')?;
        Some(format!("/{}/namespaces/{namespace}/{}/{name}", kind.url.0, kind.url.1))
    })
}

/// Sends a patch that changes nothing, and returns the revision at which the object was written last.
pub(super) fn patch_nothing(front: &Front, url: &str) -> u64 {
    let object: serde_json::Value = serde_json::from_str(&front.patch(url, MERGE, "{}").expect(200)).unwrap();
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

/// Makes an API server serve widgets.
pub(super) fn define_widgets(front: &Front) {
    front.post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", WIDGETS_CRD).expect(201);
    wait_until("widgets are served", || front.get(&WIDGETS.collection()).status == 200);
}
