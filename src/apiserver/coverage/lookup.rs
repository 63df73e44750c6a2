//! Finds the entry of an EncryptionConfiguration that covers a resource, and the providers in it. Of the matching
//! entries, the one with the resource itself comes first, then `*.<group>`, then `*.*`.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::super::duration::positive_duration;
use super::{
    config_file::{ConfigEntry, ConfigFile, IDENTITY},
    error::{BrokenRule, CoverageError},
    rules::{GroupResource, KmsV1, check},
};

/// The greatest length of a file that is read, in bytes.
pub const CONFIG_MAX: usize = 1024 * 1024;

/// The providers of one entry.
#[derive(Debug, PartialEq, Eq)]
struct Providers {
    /// The prefix of the provider that writes.
    first: String,
    /// The prefixes of all providers, such as `kms:v2:claviger` or `identity`.
    all: BTreeSet<String>,
}

/// The providers for a resource: those of all entries that list it, in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryProviders {
    entries: Vec<Arc<Providers>>,
}

impl EntryProviders {
    /// Returns the prefix of the provider that writes.
    pub fn first(&self) -> &str {
        self.entries.first().map_or(IDENTITY, |entry| &entry.first)
    }

    /// Whether one of the providers reads values that `provider` wrote.
    pub fn read(&self, provider: &str) -> bool {
        self.entries.iter().any(|entry| entry.all.contains(provider))
    }

    /// Whether `provider` is the one that writes new values.
    pub fn write(&self, provider: &str) -> bool {
        self.first() == provider
    }

    /// Whether new values are written in plaintext, although a provider that encrypts is listed.
    pub fn write_plaintext(&self) -> bool {
        let encrypts = |entry: &Arc<Providers>| entry.all.iter().any(|provider| provider != IDENTITY);
        self.write(IDENTITY) && self.entries.iter().any(encrypts)
    }
}

/// The providers for each resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coverage {
    entries: BTreeMap<GroupResource, EntryProviders>,
    /// The longest timeout of a KMS provider, if one is set.
    timeout: Option<Duration>,
    /// The endpoint of each provider of KMS v2, as the file has it.
    endpoints: Vec<String>,
}

impl Coverage {
    /// Reads an EncryptionConfiguration, in YAML or JSON.
    ///
    /// # Errors
    /// When kube-apiserver would not start with it.
    pub fn parse(text: &str, kms_v1: KmsV1) -> Result<Self, CoverageError> {
        let resources = ConfigFile::parse(text)?.resources.unwrap_or_default();
        check(&resources, kms_v1)?;
        let mut entries: BTreeMap<GroupResource, EntryProviders> = BTreeMap::new();
        for (index, entry) in resources.iter().enumerate() {
            let stored = entry.stored();
            let first = stored.first().cloned().unwrap_or_else(|| IDENTITY.to_owned());
            let providers = Arc::new(Providers { first, all: stored.into_iter().collect() });
            for resource in entry.resources() {
                let name = GroupResource::parse(resource);
                let masks = [GroupResource::all_of(&name.group), GroupResource::all_of("*")];
                if let Some(mask) = masks.iter().find(|mask| entries.contains_key(mask)) {
                    let rule = BrokenRule::MaskedBefore { resource: resource.clone(), mask: yaml_name(mask) };
                    return Err(CoverageError::rule(&format!("resources[{index}].resources"), rule));
                }
                // If a later entry lists the same resource, its providers are added.
                entries.entry(name).or_default().entries.push(Arc::clone(&providers));
            }
        }
        let timeouts = resources.iter().flat_map(ConfigEntry::timeouts);
        let endpoints = resources.iter().flat_map(ConfigEntry::kms_v2).map(|kms| kms.endpoint.clone()).collect();
        Ok(Self { timeout: timeouts.filter_map(positive_duration).max(), endpoints, entries })
    }

    /// Returns the longest timeout of a KMS provider, if one is set.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// Counts the providers of KMS v2 at this endpoint. An API server has a connection for each of them.
    pub fn providers_at(&self, endpoint: &str) -> u64 {
        // `unix:/a` and `unix:///a` are the same.
        let path = |endpoint: &str| endpoint.get(5..).map(|path| path.trim_start_matches('/').to_owned());
        let here = self.endpoints.iter().filter(|one| path(one) == path(endpoint));
        u64::try_from(here.count()).unwrap_or(u64::MAX)
    }

    /// Whether `provider` writes any resource.
    pub fn is_written_by(&self, provider: &str) -> bool {
        self.entries.values().any(|providers| providers.write(provider))
    }

    /// Whether no provider that encrypts writes any resource.
    pub fn writes_only_plaintext(&self) -> bool {
        self.entries.values().all(|providers| providers.write(IDENTITY))
    }

    /// Returns all providers, by the prefixes that they store. A provider may occur several times.
    pub fn providers(&self) -> impl Iterator<Item = &str> {
        let entries = self.entries.values().flat_map(|providers| &providers.entries);
        entries.flat_map(|entry| entry.all.iter().map(String::as_str))
    }

    /// Returns the providers for a resource: the providers of entries that list the resource itself, those for its
    /// whole group, or those for everything. Returns `None` if no entry covers it.
    ///
    /// If the group is not known, an entry is found by the resource's name, or by `*.*`.
    pub fn of(&self, resource: &str, group: Option<&str>) -> Option<&EntryProviders> {
        let everything = || self.entries.get(&GroupResource::all_of("*"));
        let Some(group) = group else {
            let from = GroupResource { resource: resource.to_owned(), group: String::new() };
            let named = self.entries.range(from..).next().filter(|(name, _)| name.resource == resource);
            return named.map(|(_, providers)| providers).or_else(everything);
        };
        let own = GroupResource { resource: resource.to_owned(), group: group.to_owned() };
        self.entries.get(&own).or_else(|| self.entries.get(&GroupResource::all_of(group))).or_else(everything)
    }

    /// Whether an entry covers a resource, whose name has the form that an EncryptionConfiguration uses.
    pub fn covers(&self, resource: &str) -> bool {
        let GroupResource { resource: name, group } = GroupResource::parse(resource);
        let is_group_unknown = group.is_empty();
        self.of(&name, Some(&group)).is_some() || is_group_unknown && self.of(&name, None).is_some()
    }

    /// Returns the listed names that match none of `resources`. Both have the form that an EncryptionConfiguration
    /// uses.
    pub fn idle<'a>(&self, resources: impl Iterator<Item = &'a str>) -> Vec<String> {
        let of = |name: &str| {
            let own = GroupResource::parse(name);
            [GroupResource::all_of(&own.group), GroupResource::all_of("*"), own]
        };
        let covered: BTreeSet<GroupResource> = resources.flat_map(of).collect();
        self.entries.keys().filter(|name| !covered.contains(name)).map(yaml_name).collect()
    }
}

fn yaml_name(name: &GroupResource) -> String {
    match (&*name.resource, &*name.group) {
        (resource, "") if resource != "*" => resource.to_owned(),
        (resource, group) => format!("{resource}.{group}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_providers_of_one_plugin_are_counted() {
        let text = "\
apiVersion: apiserver.config.k8s.io/v1
kind: EncryptionConfiguration
resources:
- resources: [secrets]
  providers: [{kms: {apiVersion: v2, name: a, endpoint: unix:///run/kms.sock}}, {identity: {}}]
- resources: [configmaps]
  providers: [{kms: {apiVersion: v2, name: b, endpoint: unix:/run/kms.sock}}]
- resources: [pods]
  providers: [{kms: {apiVersion: v2, name: c, endpoint: unix:///@other}}]
";
        let coverage = Coverage::parse(text, KmsV1::Refused).unwrap();
        let at = ["unix:///run/kms.sock", "unix:///@other", "unix:///@none"].map(|one| coverage.providers_at(one));
        assert_eq!(at, [2, 1, 0]);
    }
}
