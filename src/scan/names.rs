//! Names the resource that a key of etcd belongs to, as an EncryptionConfiguration names it: `secrets`,
//! `deployments.apps`.
//!
//! Source: `k8s.io/kubernetes`, `pkg/kubeapiserver/default_storage_factory_builder.go`. A built-in resource is stored
//! below its name without its group, a custom one below `<group>/<resource>`, and a few below older names. A resource
//! that is not in the table is counted under its path, without a group.

use std::fmt;

/// The prefix of kube-apiserver's keys, unless `--etcd-prefix` names another one.
pub const DEFAULT_PREFIX: &str = "/registry";

/// Resources that kube-apiserver uses internally and never encrypts, even if an entry lists `*.*`.
const BOOKKEEPING: [&str; 3] = ["masterleases", "peerserverleases", "ranges"];

/// The paths of resources that differ from their names.
const RENAMED: [(&str, &str); 6] = [
    ("controllers", "replicationcontrollers"),
    ("ingress", "ingresses"),
    ("minions", "nodes"),
    ("podsecuritypolicy", "podsecuritypolicies"),
    ("services/endpoints", "endpoints"),
    ("services/specs", "services"),
];

/// The resources of each group that are stored below their name. A test compares this table with the resources of real
/// API servers.
const GROUPS: [(&str, &[&str]); 19] = [
    (
        "",
        &[
            "configmaps",
            "endpoints",
            "events",
            "limitranges",
            "namespaces",
            "nodes",
            "persistentvolumeclaims",
            "persistentvolumes",
            "pods",
            "podtemplates",
            "replicationcontrollers",
            "resourcequotas",
            "secrets",
            "serviceaccounts",
            "services",
        ],
    ),
    (
        "admissionregistration.k8s.io",
        &[
            "mutatingadmissionpolicies",
            "mutatingadmissionpolicybindings",
            "mutatingwebhookconfigurations",
            "validatingadmissionpolicies",
            "validatingadmissionpolicybindings",
            "validatingwebhookconfigurations",
        ],
    ),
    ("apps", &["controllerrevisions", "daemonsets", "deployments", "replicasets", "statefulsets"]),
    ("autoscaling", &["horizontalpodautoscalers"]),
    ("batch", &["cronjobs", "jobs"]),
    ("certificates.k8s.io", &["certificatesigningrequests", "clustertrustbundles", "podcertificaterequests"]),
    ("coordination.k8s.io", &["leasecandidates", "leases"]),
    ("discovery.k8s.io", &["endpointslices"]),
    ("flowcontrol.apiserver.k8s.io", &["flowschemas", "prioritylevelconfigurations"]),
    ("internal.apiserver.k8s.io", &["storageversions"]),
    ("lifecycle.k8s.io", &["evictionrequests", "evictions"]),
    ("networking.k8s.io", &["ingressclasses", "ingresses", "ipaddresses", "networkpolicies", "servicecidrs"]),
    ("node.k8s.io", &["runtimeclasses"]),
    ("policy", &["poddisruptionbudgets", "podsecuritypolicies"]),
    ("rbac.authorization.k8s.io", &["clusterrolebindings", "clusterroles", "rolebindings", "roles"]),
    (
        "resource.k8s.io",
        &[
            "deviceclasses",
            "devicetaintrules",
            "podschedulingcontexts",
            "resourceclaims",
            "resourceclaimtemplates",
            "resourcepoolstatusrequests",
            "resourceslices",
        ],
    ),
    ("scheduling.k8s.io", &["compositepodgroups", "podgroups", "priorityclasses", "workloads"]),
    (
        "storage.k8s.io",
        &[
            "csidrivers",
            "csinodes",
            "csistoragecapacities",
            "storageclasses",
            "volumeattachments",
            "volumeattributesclasses",
        ],
    ),
    ("storagemigration.k8s.io", &["storageversionmigrations"]),
];

/// The groups of Kubernetes itself whose resources are stored like custom ones, below `<group>/<resource>`. The
/// components of an API server that add other API servers and custom resources store them so.
const STORED_AS_CUSTOM: [&str; 2] = ["apiextensions.k8s.io", "apiregistration.k8s.io"];

/// A resource of the API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// The name of the resource in the plural.
    pub name: String,
    /// The group of the resource, empty for the core group. `None` if the group is not known.
    pub group: Option<String>,
}

impl Resource {
    /// Whether kube-apiserver uses the resource internally, and never encrypts it.
    pub fn is_bookkeeping(&self) -> bool {
        self.group.is_none() && BOOKKEEPING.contains(&self.name.as_str())
    }

    /// Whether API servers have such a resource: a built-in one, or a custom one, whose group contains a dot.
    pub fn is_known(&self) -> bool {
        match self.group.as_deref() {
            None => self.is_bookkeeping(),
            Some(group) => group.contains('.') || GROUPS.iter().any(|(known, _)| *known == group),
        }
    }

    /// Whether the resource is events. They expire, so nobody rewrites them.
    pub fn is_events(&self) -> bool {
        self.group.as_deref() == Some("") && is_titled_events(&self.name)
    }

    /// Whether the resource is a custom resource.
    pub fn is_custom(&self) -> bool {
        let is_own = |group: &str| GROUPS.iter().any(|(other, _)| *other == group) || STORED_AS_CUSTOM.contains(&group);
        self.group.as_deref().is_some_and(|group| group.contains('.') && !is_own(group))
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group.as_deref() {
            None | Some("") => f.write_str(&self.name),
            Some(group) => write!(f, "{}.{group}", self.name),
        }
    }
}

/// Finds the part of a key that names its resource.
#[derive(Debug, Clone)]
pub struct Names {
    prefix: Vec<u8>,
}

impl Names {
    /// Handles the keys below `prefix`, which is written as in `--etcd-prefix`.
    pub fn new(prefix: &str) -> Self {
        let trimmed = prefix.trim_matches('/');
        let prefix = if trimmed.is_empty() { "/".to_owned() } else { format!("/{trimmed}/") };
        Self { prefix: prefix.into_bytes() }
    }

    /// Returns the prefix, with which every key begins.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// Whether `key` is below the prefix.
    pub fn contain(&self, key: &[u8]) -> bool {
        key.starts_with(&self.prefix)
    }

    /// Returns the part of `key` that names its resource: the first segment after the prefix, or the first two. Returns
    /// `None` if the key is not below the prefix.
    pub fn path<'a>(&self, key: &'a [u8]) -> Option<&'a [u8]> {
        let rest = key.strip_prefix(self.prefix.as_slice())?;
        let first = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        if rest[..first] != *b"services" && !rest[..first].contains(&b'.') {
            return Some(&rest[..first]);
        }
        let second = rest.iter().skip(first + 1).position(|byte| *byte == b'/');
        Some(second.map_or(rest, |length| &rest[..first + 1 + length]))
    }
}

/// Whether the resource with this title is events. The title of a custom resource contains its group.
pub fn is_titled_events(title: &str) -> bool {
    title == "events"
}

/// Whether API servers store a built-in resource below this path.
pub fn is_built_in(path: &str) -> bool {
    let is_stored_elsewhere = || RENAMED.iter().any(|(_, name)| *name == path);
    let is_listed = || GROUPS.iter().any(|(_, names)| names.contains(&path));
    RENAMED.iter().any(|(old, _)| *old == path) || BOOKKEEPING.contains(&path) || is_listed() && !is_stored_elsewhere()
}

/// Returns the resource that is stored below `path`.
pub fn resource(path: &str) -> Resource {
    let name = RENAMED.iter().find(|(old, _)| *old == path).map_or(path, |(_, name)| name);
    if let Some((group, name)) = name.split_once('/') {
        return Resource { name: name.to_owned(), group: Some(group.to_owned()) };
    }
    let group = GROUPS.iter().find(|(_, names)| names.contains(&name)).map(|(group, _)| (*group).to_owned());
    Resource { name: name.to_owned(), group }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn title(prefix: &str, key: &str) -> Option<String> {
        let path = Names::new(prefix).path(key.as_bytes()).map(|path| String::from_utf8(path.to_vec()).unwrap());
        path.map(|path| resource(&path).to_string())
    }

    #[test]
    fn keys_belong_to_resources_named_as_in_an_encryption_configuration() {
        for (key, expected) in [
            ("/registry/secrets/default/a.b/c", "secrets"),
            ("/registry/deployments/default/a", "deployments.apps"),
            ("/registry/minions/node.example.com", "nodes"),
            ("/registry/controllers/default/a", "replicationcontrollers"),
            ("/registry/ingress/default/a", "ingresses.networking.k8s.io"),
            ("/registry/services/specs/default/a", "services"),
            ("/registry/services/endpoints/default/a", "endpoints"),
            ("/registry/example.com/widgets/default/a", "widgets.example.com"),
            ("/registry/apiregistration.k8s.io/apiservices/v1.apps", "apiservices.apiregistration.k8s.io"),
            ("/registry/ranges/serviceips", "ranges"),
            ("/registry/somethingnew/a", "somethingnew"),
            ("/registry/lonely", "lonely"),
            ("/registry/", ""),
        ] {
            assert_eq!(title("/registry", key).as_deref(), Some(expected), "{key}");
        }
        assert_eq!(title("/registry", "/registrys/secrets/a"), None);
        assert_eq!(title("/registry", "compact_rev_key"), None);
    }

    #[test]
    fn prefixes_are_read_as_kube_apiserver_reads_them() {
        for prefix in ["/registry", "registry", "/registry/", "//registry//"] {
            assert_eq!(title(prefix, "/registry/secrets/a").as_deref(), Some("secrets"), "{prefix}");
        }
        assert_eq!(title("/a/b", "/a/b/secrets/a").as_deref(), Some("secrets"));
        assert_eq!(title("/", "/secrets/a").as_deref(), Some("secrets"));
    }

    #[test]
    fn resources_that_api_servers_have_are_known() {
        for path in ["secrets", "deployments", "services/specs", "minions", "ranges", "example.com/widgets"] {
            assert!(resource(path).is_known(), "{path}");
        }
        for path in ["default", "services/default", "node.example.com", "", "apps"] {
            assert!(!resource(path).is_known(), "{path}");
        }
        for path in ["secrets", "minions", "masterleases", "services/endpoints", "ingress"] {
            assert!(is_built_in(path), "{path}");
        }
        for path in ["nodes", "endpoints", "services", "default", "example.com/widgets"] {
            assert!(!is_built_in(path), "{path}");
        }
    }

    #[test]
    fn events_are_recognised_by_their_path_and_by_their_title() {
        for (path, is_events) in
            [("events", true), ("example.com/events", false), ("services/events", false), ("secrets", false)]
        {
            let resource = resource(path);
            assert_eq!(
                (resource.is_events(), is_titled_events(&resource.to_string())),
                (is_events, is_events),
                "{path}"
            );
        }
    }

    #[test]
    fn internal_and_custom_resources_are_recognised() {
        assert!(resource("masterleases").is_bookkeeping() && !resource("leases").is_bookkeeping());
        assert!(resource("example.com/widgets").is_custom());
        assert!(!resource("secrets").is_custom() && !resource("leases").is_custom());
    }
}
