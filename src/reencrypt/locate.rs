//! Finds an object in the API by its key in etcd.

use std::{collections::HashMap, sync::Arc};

use crate::{
    apiclient::{ApiError, ObjectApi, ObjectRef, ServedResource},
    scan::names::{Names, Resource, resource},
};

use super::failures::FailureKind;

/// Finds objects in the API by their keys in etcd. It asks for each API group once.
pub(super) struct ObjectFinder {
    names: Names,
    /// The resources that were looked up, by the part of a key that names the resource. `None` if no group serves it.
    served: HashMap<Vec<u8>, Option<Arc<ServedResource>>>,
    groups: HashMap<String, Vec<ServedResource>>,
}

/// The place of an object in the API.
pub(super) enum Located {
    /// The API has the object at this place.
    Object(ObjectRef),
    /// The API has no such object.
    Nowhere(NotInApi),
}

/// Why an object is not in the API.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotInApi {
    pub(super) kind: FailureKind,
    pub(super) reason: String,
}

impl ObjectFinder {
    pub(super) fn new(names: Names) -> Self {
        Self { names, served: HashMap::new(), groups: HashMap::new() }
    }

    /// Finds the object with this key in etcd.
    ///
    /// # Errors
    /// When the API server does not say what it serves.
    pub(super) async fn find(&mut self, key: &[u8], api: &impl ObjectApi) -> Result<Located, ApiError> {
        let path = self.names.path(key).unwrap_or_default();
        let resource = resource(&String::from_utf8_lossy(path));
        if !self.served.contains_key(path) {
            let served = self.serving(&resource, api).await?;
            self.served.insert(path.to_vec(), served);
        }
        let served = self.served[path].clone();
        let Some(served) = served else {
            let reason = format!("the API server serves no resource {resource} that can be patched");
            return Ok(Located::Nowhere(NotInApi { kind: FailureKind::NotServed, reason }));
        };
        let name = key.get(self.names.prefix().len() + path.len() + 1..).unwrap_or_default();
        Ok(object(served, name).map_or_else(
            || {
                let reason = format!("this key is not that of an object of the resource {resource}");
                Located::Nowhere(NotInApi { kind: FailureKind::NoObject, reason })
            },
            Located::Object,
        ))
    }

    /// Finds `resource` in the API. If its group is unknown, searches the groups of Kubernetes itself, which store
    /// resources by name alone.
    async fn serving(
        &mut self,
        resource: &Resource,
        api: &impl ObjectApi,
    ) -> Result<Option<Arc<ServedResource>>, ApiError> {
        let groups = match &resource.group {
            Some(group) => vec![group.clone()],
            None => api.groups().await?.into_iter().filter(|group| is_built_in(group)).collect(),
        };
        for group in groups {
            if !self.groups.contains_key(&group) {
                let served = api.served(&group).await?;
                self.groups.insert(group.clone(), served);
            }
            let found = self.groups[&group].iter().find(|served| served.name == resource.name);
            if let Some(found) = found {
                return Ok(Some(Arc::new(found.clone())));
            }
        }
        Ok(None)
    }
}

/// Whether the name of a group is that of a group of Kubernetes itself.
fn is_built_in(group: &str) -> bool {
    !group.contains('.') || group.ends_with(".k8s.io")
}

/// Returns the object with the name `NAMESPACE/NAME` or `NAME`.
fn object(resource: Arc<ServedResource>, name: &[u8]) -> Option<ObjectRef> {
    let name = std::str::from_utf8(name).ok()?;
    let (namespace, name) = match (resource.is_namespaced, name.split_once('/')) {
        (true, Some((namespace, name))) => (Some(namespace.to_owned()), name),
        (false, None) => (None, name),
        _ => return None,
    };
    let is_whole = |part: &str| !part.is_empty() && !part.contains('/') && part != "." && part != "..";
    let is_object = is_whole(name) && namespace.as_deref().is_none_or(is_whole);
    is_object.then(|| ObjectRef { resource, namespace, name: name.to_owned() })
}

/// Whether the API server serves the resource of the object with this key in etcd.
///
/// # Errors
/// When the API server does not say what it serves.
pub async fn is_served(key: &[u8], names: &Names, api: &impl ObjectApi) -> Result<bool, ApiError> {
    let located = ObjectFinder::new(names.clone()).find(key, api).await?;
    Ok(!matches!(located, Located::Nowhere(NotInApi { kind: FailureKind::NotServed, .. })))
}
