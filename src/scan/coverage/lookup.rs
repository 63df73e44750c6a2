//! Finds the entry of an EncryptionConfiguration that covers a resource.

use std::collections::BTreeMap;

use super::{
    super::{names::Resource, value::IDENTITY},
    config_file::ConfigFile,
    error::{BrokenRule, CoverageError},
    rules::{GroupResource, check},
};

/// The longest file that is read, in bytes.
pub const CONFIG_MAX: usize = 1024 * 1024;

/// The providers for a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryProviders {
    /// The prefixes that they store, such as `kms:v2:claviger` or `identity`, in the order of the entry.
    all: Vec<String>,
}

impl EntryProviders {
    /// Returns the one that writes.
    pub fn first(&self) -> &str {
        self.all.first().map_or(IDENTITY, String::as_str)
    }

    /// Whether one of them reads values that `provider` stored.
    pub fn read(&self, provider: &str) -> bool {
        self.all.iter().any(|one| one == provider)
    }

    /// Whether `provider` is the one that writes.
    pub fn write(&self, provider: &str) -> bool {
        self.first() == provider
    }
}

/// The providers for each resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    entries: BTreeMap<GroupResource, EntryProviders>,
}

impl Coverage {
    /// Reads an EncryptionConfiguration, in YAML or JSON.
    ///
    /// # Errors
    /// When kube-apiserver would not start with it.
    pub fn parse(text: &str) -> Result<Self, CoverageError> {
        let resources = ConfigFile::parse(text)?.resources.unwrap_or_default();
        check(&resources)?;
        let mut entries: BTreeMap<GroupResource, EntryProviders> = BTreeMap::new();
        for (index, entry) in resources.iter().enumerate() {
            let providers = entry.stored();
            for resource in entry.resources() {
                let name = GroupResource::parse(resource);
                let masks = [GroupResource::all_of(&name.group), GroupResource::all_of("*")];
                if let Some(mask) = masks.iter().find(|mask| entries.contains_key(mask)) {
                    let rule = BrokenRule::MaskedBefore { resource: resource.clone(), mask: yaml_name(mask) };
                    return Err(CoverageError::rule(&format!("resources[{index}].resources"), rule));
                }
                // If a later entry lists the same resource, its providers are added.
                entries.entry(name).or_default().all.extend(providers.iter().cloned());
            }
        }
        Ok(Self { entries })
    }

    /// Returns the providers for `resource`: its own, those for all of its group, or those for everything. Returns
    /// `None` if no entry covers it.
    ///
    /// If the group of a resource is not known, an entry is found by the resource's name, or by `*.*`.
    pub fn of(&self, resource: &Resource) -> Option<&EntryProviders> {
        if resource.is_bookkeeping() {
            return None;
        }
        let everything = || self.entries.get(&GroupResource::all_of("*"));
        let Some(group) = &resource.group else {
            let mut named = self.entries.iter().filter(|(name, _)| name.resource == resource.name);
            return named.next().map(|(_, providers)| providers).or_else(everything);
        };
        let own = GroupResource { resource: resource.name.clone(), group: group.clone() };
        self.entries.get(&own).or_else(|| self.entries.get(&GroupResource::all_of(group))).or_else(everything)
    }
}

fn yaml_name(name: &GroupResource) -> String {
    match (&*name.resource, &*name.group) {
        (resource, "") if resource != "*" => resource.to_owned(),
        (resource, group) => format!("{resource}.{group}"),
    }
}
