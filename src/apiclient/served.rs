//! The resources that the API server serves, as its discovery documents list them, and the path of one object in the
//! API.

use std::sync::Arc;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde::Deserialize;

/// The characters that have to be escaped in a segment of a path. Names of objects may contain colons and other
/// characters.
const ESCAPED: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// A resource that the API server serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedResource {
    /// The path of the resource's group and version: `/api/v1`, `/apis/apps/v1`.
    pub base: String,
    /// The name of the resource in the plural.
    pub name: String,
    /// Whether the objects of the resource are in namespaces.
    pub is_namespaced: bool,
}

/// An object, as the API identifies it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRef {
    /// The resource of the object.
    pub resource: Arc<ServedResource>,
    /// The namespace of the object, if its resource has namespaces.
    pub namespace: Option<String>,
    /// The name of the object.
    pub name: String,
}

impl ObjectRef {
    /// Returns the path of the object in the API.
    pub fn path(&self) -> String {
        let ServedResource { base, name: resource, .. } = &*self.resource;
        let name = utf8_percent_encode(&self.name, ESCAPED);
        match &self.namespace {
            None => format!("{base}/{resource}/{name}"),
            Some(namespace) => {
                format!("{base}/namespaces/{}/{resource}/{name}", utf8_percent_encode(namespace, ESCAPED))
            }
        }
    }
}

/// Returns the path of the list of a group's versions. The core group has one version.
pub(super) fn group_path(group: &str) -> String {
    format!("/apis/{}", utf8_percent_encode(group, ESCAPED))
}

/// All groups but the core group, as `/apis` shows them.
#[derive(Deserialize)]
pub(super) struct GroupList {
    groups: Vec<NamedGroup>,
}

#[derive(Deserialize)]
struct NamedGroup {
    name: String,
}

impl GroupList {
    /// Returns the names of the groups.
    pub(super) fn names(self) -> impl Iterator<Item = String> {
        self.groups.into_iter().map(|group| group.name)
    }
}

/// A group, as `/apis/GROUP` shows it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServedGroup {
    pub(super) preferred_version: ServedVersion,
    #[serde(default)]
    pub(super) versions: Vec<ServedVersion>,
}

/// A version of an API group.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServedVersion {
    pub(super) group_version: String,
}

impl ServedGroup {
    /// Returns the paths of all versions of the group, the preferred version first.
    pub(super) fn paths(&self) -> Vec<String> {
        let preferred = &self.preferred_version.group_version;
        let others = self.versions.iter().map(|version| &version.group_version).filter(|one| *one != preferred);
        std::iter::once(preferred).chain(others).map(|version| format!("/apis/{version}")).collect()
    }
}

/// The resources of one version, as `/api/v1` and `/apis/GROUP/VERSION` show them.
#[derive(Deserialize)]
pub(super) struct ServedList {
    resources: Vec<ListedResource>,
}

#[derive(Deserialize)]
struct ListedResource {
    name: String,
    namespaced: bool,
    #[serde(default)]
    verbs: Vec<String>,
}

impl ServedList {
    /// Returns the resources whose objects can be patched. `base` is the path of the list.
    pub(super) fn patchable<'l>(&'l self, base: &'l str) -> impl Iterator<Item = ServedResource> + 'l {
        let is_patchable = |one: &&ListedResource| one.verbs.iter().any(|verb| verb == "patch");
        // A name with a slash is a subresource, such as the status of an object.
        self.resources.iter().filter(|one| !one.name.contains('/')).filter(is_patchable).map(|one| ServedResource {
            base: base.to_owned(),
            name: one.name.clone(),
            is_namespaced: one.namespaced,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_have_the_paths_of_the_api() {
        let resource = |base: &str, name: &str| {
            Arc::new(ServedResource { base: base.to_owned(), name: name.to_owned(), is_namespaced: true })
        };
        for (base, plural, namespace, name, expected) in [
            ("/api/v1", "secrets", Some("default"), "db", "/api/v1/namespaces/default/secrets/db"),
            ("/apis/example.com/v1", "widgets", None, "a", "/apis/example.com/v1/widgets/a"),
            (
                "/apis/rbac/v1",
                "roles",
                Some("x"),
                "system:a/b%?",
                "/apis/rbac/v1/namespaces/x/roles/system:a%2Fb%25%3F",
            ),
        ] {
            let namespace = namespace.map(ToOwned::to_owned);
            let object = ObjectRef { resource: resource(base, plural), namespace, name: name.to_owned() };
            assert_eq!(object.path(), expected);
        }
    }

    #[test]
    fn only_whole_resources_that_can_be_patched_are_served() {
        let list: ServedList = serde_json::from_str(
            r#"{"resources": [
                {"name": "secrets", "namespaced": true, "verbs": ["get", "patch"]},
                {"name": "bindings", "namespaced": true, "verbs": ["create"]},
                {"name": "namespaces/status", "namespaced": false, "verbs": ["patch"]},
                {"name": "nodes", "namespaced": false, "verbs": ["patch"]}]}"#,
        )
        .unwrap();
        let served: Vec<_> = list.patchable("/api/v1").map(|one| (one.name, one.is_namespaced)).collect();
        assert_eq!(served, [("secrets".to_owned(), true), ("nodes".to_owned(), false)]);
    }

    #[test]
    fn the_preferred_version_of_a_group_comes_first() {
        let group: ServedGroup = serde_json::from_str(
            r#"{"preferredVersion": {"groupVersion": "a/v2"}, "versions": [{"groupVersion": "a/v1"}, {"groupVersion": "a/v2"}]}"#,
        )
        .unwrap();
        assert_eq!(group.paths(), ["/apis/a/v2", "/apis/a/v1"]);
    }
}
