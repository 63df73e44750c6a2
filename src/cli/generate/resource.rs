//! Parses the name of a resource, and refuses names that kube-apiserver does not know in an EncryptionConfiguration.

/// Why a resource is refused.
#[derive(Debug, thiserror::Error)]
pub(super) enum ResourceError {
    /// The name has characters that no resource has.
    #[error("expected a resource such as secrets, configmaps or widgets.example.com")]
    Form,
    /// The text names several resources.
    #[error("expected one resource: give --resource once for each")]
    Several,
    /// kube-apiserver would start with this name, and encrypt nothing.
    #[error("expected {0}: kube-apiserver knows no other name of this resource, and would encrypt nothing")]
    OtherName(String),
}

/// Kubernetes' own resources with their groups, and their other names. kubectl takes the other names; kube-apiserver
/// does not.
const OTHER_NAMES: [(&str, &[&str]); 28] = [
    ("secrets", &["secret"]),
    ("configmaps", &["configmap", "cm"]),
    ("pods", &["pod", "po"]),
    ("services", &["service", "svc"]),
    ("serviceaccounts", &["serviceaccount", "sa"]),
    ("events", &["event", "ev"]),
    ("endpoints", &["endpoint", "ep"]),
    ("endpointslices.discovery.k8s.io", &["endpointslice"]),
    ("namespaces", &["namespace", "ns"]),
    ("nodes", &["node", "no"]),
    ("leases.coordination.k8s.io", &["lease"]),
    ("limitranges", &["limitrange", "limits"]),
    ("resourcequotas", &["resourcequota", "quota"]),
    ("persistentvolumes", &["persistentvolume", "pv"]),
    ("persistentvolumeclaims", &["persistentvolumeclaim", "pvc"]),
    ("replicationcontrollers", &["replicationcontroller", "rc"]),
    ("deployments.apps", &["deployment", "deploy"]),
    ("daemonsets.apps", &["daemonset", "ds"]),
    ("statefulsets.apps", &["statefulset", "sts"]),
    ("replicasets.apps", &["replicaset", "rs"]),
    ("jobs.batch", &["job"]),
    ("cronjobs.batch", &["cronjob", "cj"]),
    ("ingresses.networking.k8s.io", &["ingress", "ing"]),
    ("roles.rbac.authorization.k8s.io", &["role"]),
    ("rolebindings.rbac.authorization.k8s.io", &["rolebinding"]),
    ("clusterroles.rbac.authorization.k8s.io", &["clusterrole"]),
    ("clusterrolebindings.rbac.authorization.k8s.io", &["clusterrolebinding"]),
    ("customresourcedefinitions.apiextensions.k8s.io", &["customresourcedefinition", "crd", "crds"]),
];

/// Parses a resource: `resource`, `resource.group`, `*.group` or `*.*`.
pub(super) fn resource(text: &str) -> Result<String, ResourceError> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-*".contains(&byte);
    if text.contains([',', ' ']) {
        return Err(ResourceError::Several);
    }
    if text.is_empty() || !text.bytes().all(plain) {
        return Err(ResourceError::Form);
    }
    let (name, group) = text.split_at(text.find('.').unwrap_or(text.len()));
    let bare = |right: &str| right.split('.').next().map(str::to_owned);
    let known = OTHER_NAMES
        .iter()
        .find(|(right, others)| others.contains(&name) || group.is_empty() && bare(right).as_deref() == Some(name));
    match known {
        // A name without a group is a resource of the core group.
        Some((right, _)) if group.is_empty() && *right != name => Err(ResourceError::OtherName((*right).to_owned())),
        Some((right, _)) if *right != name => {
            Err(ResourceError::OtherName(format!("{}{group}", bare(right).unwrap_or_default())))
        }
        None if group.is_empty() => {
            grouped(name).map_or_else(|| Ok(text.to_owned()), |right| Err(ResourceError::OtherName(right)))
        }
        _ => Ok(text.to_owned()),
    }
}

/// Returns the name with the group, if the name is a resource of Kubernetes outside the core group.
#[cfg(feature = "scan")]
fn grouped(name: &str) -> Option<String> {
    let resource = crate::scan::names::resource(name);
    resource.group.as_deref().is_some_and(|group| !group.is_empty()).then(|| resource.to_string())
}

/// Returns `None`: without the scanner, only the resources in [`OTHER_NAMES`] are known.
#[cfg(not(feature = "scan"))]
fn grouped(_: &str) -> Option<String> {
    None
}
