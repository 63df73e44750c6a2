//! The arguments of `claviger decrypt` that choose the objects: keys, prefixes, resources, or everything.

use clap::Args;

use super::super::tables::all_of;
use crate::{recover::Selection, scan::names::Names};

/// The flags that choose objects: exactly one kind of them.
#[derive(Args)]
#[group(id = "chosen", required = true, multiple = true)]
pub(super) struct ChosenArgs {
    /// Objects, each by its key in etcd, with or without the prefix of all keys, such as secrets/default/user
    #[arg(value_name = "OBJECT", conflicts_with_all = ["below", "resource", "all"])]
    objects: Vec<String>,
    /// Every object whose key in etcd begins with this, such as secrets/default/; may be given several times
    #[arg(long, value_name = "PREFIX", conflicts_with_all = ["resource", "all"])]
    below: Vec<String>,
    /// Every object of this resource, as an EncryptionConfiguration names it, such as secrets or widgets.example.com;
    /// may be given several times
    #[arg(long, value_name = "RESOURCE", conflicts_with = "all")]
    resource: Vec<String>,
    /// Every object that there is
    #[arg(long)]
    all: bool,
}

impl ChosenArgs {
    /// Returns the chosen objects, as an audit event names them.
    pub(super) fn described(&self) -> Vec<String> {
        if self.all {
            return vec!["everything".to_owned()];
        }
        let below = self.below.iter().map(|prefix| format!("everything below {prefix}"));
        let resources = self.resource.iter().map(|resource| format!("all {resource}"));
        self.objects.iter().cloned().chain(below).chain(resources).collect()
    }

    /// Returns a hint about the names of resources, if resources are chosen.
    pub(super) fn resource_hint(&self) -> Option<String> {
        let named = all_of(&self.resource);
        (!named.is_empty()).then(|| {
            format!(
                "nothing is stored of {named}: a resource has the name that `kubectl api-resources` shows, in the plural, such as \
                 secrets, and with its group, such as widgets.example.com"
            )
        })
    }

    /// Whether exactly one object is named.
    pub(super) fn is_one(&self) -> bool {
        self.objects.len() == 1
    }

    /// Returns the selection of objects below the prefix of `names`.
    pub(super) fn selection(&self, names: &Names) -> Selection {
        let key = |text: &String| match text.strip_prefix('/') {
            Some(_) => text.clone().into_bytes(),
            None => [names.prefix(), text.as_bytes()].concat(),
        };
        if self.all {
            Selection::All
        } else if !self.objects.is_empty() {
            Selection::Keys(self.objects.iter().map(key).collect())
        } else if !self.below.is_empty() {
            Selection::Prefixes(self.below.iter().map(key).collect())
        } else {
            Selection::Resources(self.resource.iter().cloned().collect())
        }
    }
}
