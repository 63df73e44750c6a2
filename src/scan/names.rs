//! Which resource a key of etcd belongs to, in the words of an EncryptionConfiguration: `secrets`, `deployments.apps`.
//!
//! Source: `k8s.io/kubernetes`, `pkg/kubeapiserver/default_storage_factory_builder.go`: a built-in resource lies at its own name
//! without its group, a custom one at `<group>/<resource>`, and some at older names. Nothing is left out that is not in the
//! table: it is counted under its path, and without a group.

use std::fmt;

/// Where kube-apiserver keeps its objects, unless `--etcd-prefix` says otherwise.
pub const DEFAULT_PREFIX: &str = "/registry";

/// What kube-apiserver keeps for itself and never encrypts, even under `*.*`.
const BOOKKEEPING: [&str; 3] = ["masterleases", "peerserverleases", "ranges"];

/// Where a path has another name than its resource.
const RENAMED: [(&str, &str); 6] = [
    ("controllers", "replicationcontrollers"),
    ("ingress", "ingresses"),
    ("minions", "nodes"),
    ("podsecuritypolicy", "podsecuritypolicies"),
    ("services/endpoints", "endpoints"),
    ("services/specs", "services"),
];

/// The resources of each group that lie at their own name; a test holds this against what real API servers serve.
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

/// A resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// Its name, in the plural.
    pub name: String,
    /// Its group, empty for the core group; none if nobody knows.
    pub group: Option<String>,
}

impl Resource {
    /// Whether kube-apiserver never encrypts it, whatever is configured.
    pub fn is_bookkeeping(&self) -> bool {
        self.group.is_none() && BOOKKEEPING.contains(&self.name.as_str())
    }

    /// Whether it is one that people define.
    pub fn is_custom(&self) -> bool {
        self.group
            .as_deref()
            .is_some_and(|group| group.contains('.') && GROUPS.iter().all(|(other, _)| *other != group))
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

/// Which part of a key says what it is of.
#[derive(Debug, Clone)]
pub struct Names {
    prefix: Vec<u8>,
}

impl Names {
    /// For the keys below `prefix`, as `--etcd-prefix` has it.
    pub fn new(prefix: &str) -> Self {
        let trimmed = prefix.trim_matches('/');
        let prefix = if trimmed.is_empty() { "/".to_owned() } else { format!("/{trimmed}/") };
        Self { prefix: prefix.into_bytes() }
    }

    /// What every key begins with.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// The part of `key` that names its resource: the first segment below the prefix, or the first two. None elsewhere.
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

/// The resource that lies at `path`.
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
    fn keys_are_of_the_resource_that_an_encryption_configuration_calls_so() {
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
    fn what_kube_apiserver_keeps_for_itself_and_what_people_define_is_known() {
        assert!(resource("masterleases").is_bookkeeping() && !resource("leases").is_bookkeeping());
        assert!(resource("example.com/widgets").is_custom());
        assert!(!resource("secrets").is_custom() && !resource("leases").is_custom());
    }
}
