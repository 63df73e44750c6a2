//! Whether anything has the provider that `--provider-name` names. With a misspelt name, no value would be compared
//! with the keys, and all would seem well.

use std::collections::BTreeSet;

use super::super::{
    failure::{Exit, Failure},
    given::quoted,
};
use crate::{apiserver::coverage::Coverage, config::nearest_of, scan::report::ScanReport};

/// The greatest number of providers that are named.
const NAMED: usize = 5;

/// The text before the name of a provider in the prefix of a KMS v2 value.
pub(super) const KMS_V2: &str = "kms:v2:";

/// The providers in a configuration and in the values.
pub(in crate::cli) struct SeenProviders {
    /// The prefixes that the providers store.
    stored: BTreeSet<String>,
    /// Those of the EncryptionConfiguration that no value has.
    unused: BTreeSet<String>,
    has_config: bool,
    /// Whether some values were not read. They may be under any provider.
    is_incomplete: bool,
}

impl SeenProviders {
    /// Returns the providers of `coverage`, and those of the objects that a scan has counted.
    pub(in crate::cli) fn of(report: &ScanReport, coverage: Option<&Coverage>) -> Self {
        let rows = report.groups.iter().filter(|row| row.objects > 0);
        let values: BTreeSet<String> = rows.map(|row| row.provider.clone()).collect();
        let configured = coverage.into_iter().flat_map(Coverage::providers).map(ToOwned::to_owned);
        let unused: BTreeSet<String> = configured.filter(|provider| !values.contains(provider)).collect();
        Self {
            stored: values.union(&unused).cloned().collect(),
            unused,
            has_config: coverage.is_some(),
            is_incomplete: !report.reasons.is_empty(),
        }
    }

    /// Whether there is a provider of KMS v2, whatever its name is.
    pub(in crate::cli) fn has_kms_v2(&self) -> bool {
        self.names().next().is_some()
    }

    /// Returns the failure if no value and no configuration has a provider with this name. It lists the known names.
    /// Returns `None` if a value or an entry has it, or may have it.
    pub(in crate::cli) fn lack(&self, name: &str) -> Option<Failure> {
        if self.is_incomplete || self.stored.contains(&format!("{KMS_V2}{name}")) {
            return None;
        }
        let config = if self.has_config { " and no provider of the EncryptionConfiguration" } else { "" };
        let message = format!("no value{config} has the KMS v2 provider name {name}");
        Some(Failure::new(Exit::Usage, &message, self.others(name)))
    }

    fn others(&self, name: &str) -> String {
        let names: Vec<&str> = self.names().filter(|name| is_plain(name)).take(NAMED).collect();
        let Some(first) = names.first() else {
            let stored: Vec<&str> = self.stored.iter().map(String::as_str).take(NAMED).collect();
            return format!("there is no KMS v2 provider, only {}", stored.join(", "));
        };
        let all = names.join(", ");
        let unused = self.unused.iter().filter_map(|stored| stored.strip_prefix(KMS_V2));
        match nearest_of(name, unused.filter(|name| is_plain(name))) {
            Some(near) => format!(
                "the names that there are: {all}; if {near} is misspelt in the EncryptionConfiguration, write {name} there; if it is \
                 right: --provider-name {near}"
            ),
            None => format!("the names that there are: {all}; give the right one: --provider-name {}", quoted(first)),
        }
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.stored.iter().filter_map(|stored| stored.strip_prefix(KMS_V2))
    }
}

/// Whether a name is safe in a command that an operator pastes into a shell.
pub(super) fn is_plain(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('-')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(stored: &[&str], has_config: bool) -> SeenProviders {
        let stored = stored.iter().map(ToString::to_string).collect();
        SeenProviders { stored, unused: BTreeSet::new(), has_config, is_incomplete: false }
    }

    #[test]
    fn a_name_that_nothing_has_is_refused_with_the_names_that_there_are() {
        let two = seen(&["identity", "kms:v2:claviger", "kms:v2:other"], true);
        assert!(two.lack("claviger").is_none() && two.lack("other").is_none());
        let failure = two.lack("clavigr").unwrap();
        let expected = "no value and no provider of the EncryptionConfiguration has the KMS v2 provider name clavigr";
        assert_eq!((failure.exit(), failure.message()), (Exit::Usage, expected));
        assert_eq!(
            two.others("clavigr"),
            "the names that there are: claviger, other; give the right one: --provider-name claviger"
        );
        let none = seen(&["aescbc:v1:k", "identity"], false);
        assert_eq!(none.lack("claviger").unwrap().message(), "no value has the KMS v2 provider name claviger");
        assert_eq!(none.others("claviger"), "there is no KMS v2 provider, only aescbc:v1:k, identity");
    }

    #[test]
    fn a_similar_name_that_no_value_has_may_be_misspelt_in_the_configuration() {
        let unused = BTreeSet::from(["kms:v2:clavigr".to_owned()]);
        let misspelt = SeenProviders { unused, ..seen(&["identity", "kms:v2:clavigr"], true) };
        assert_eq!(
            misspelt.others("claviger"),
            "the names that there are: clavigr; if clavigr is misspelt in the EncryptionConfiguration, write claviger there; if it is \
             right: --provider-name clavigr"
        );
    }

    #[test]
    fn what_was_not_read_may_be_of_any_provider() {
        assert!(SeenProviders { is_incomplete: true, ..seen(&["identity"], true) }.lack("claviger").is_none());
    }
}
