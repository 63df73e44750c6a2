//! The flags that a suggested command needs, and that it would not find when it is pasted: neither among the flags that
//! hints repeat, nor in the configuration file, nor in a usual place of this machine. The hint has placeholders for
//! them.

use std::path::Path;

use crate::{
    apiserver,
    config::{Cluster, Config, Settings},
};

/// A flag that a command lacks, and the placeholder for its value.
pub(super) type LackedFlag = (&'static str, &'static str);

const ETCD: LackedFlag = ("etcd-servers", "URL");
const ENCRYPTION: LackedFlag = ("encryption-config", "FILE");

/// The commands that read a live etcd.
const READ_ETCD: [&str; 7] = ["scan", "verify", "reencrypt", "rotate", "decrypt", "key disable", "key destroy"];

/// The commands that also need the EncryptionConfiguration.
const READ_CONFIGURATION: [&str; 3] = ["verify", "reencrypt", "rotate"];

/// The flags with which these commands read no live etcd.
const WITHOUT_ETCD: [&str; 5] = ["snapshot", "give-up", "risk-unreadable-secrets", "risk-losing-secrets", "help"];

/// Returns the flags that the command `verb` lacks. `has` says whether it has a flag already.
/// `config` is the configuration file that it names.
pub(super) fn lacking(verb: &str, has: impl Fn(&str) -> bool, config: Option<&Path>) -> Vec<LackedFlag> {
    if !READ_ETCD.contains(&verb) || WITHOUT_ETCD.into_iter().any(&has) {
        return Vec::new();
    }
    // A configuration that is not valid has an error of its own.
    let set = Config::load(config, Settings::default()).map(|config| config.cluster).unwrap_or_default();
    let is_usual = apiserver::DEFAULTS.iter().any(|path| Path::new(path).exists());
    undeclared(has, &set, is_usual).filter(|flag| *flag == ETCD || READ_CONFIGURATION.contains(&verb)).collect()
}

/// Returns what is not declared. `is_usual` says whether the flags of kube-apiserver are in a usual place. They are
/// read from there only if nothing else names an etcd.
fn undeclared(has: impl Fn(&str) -> bool, set: &Cluster, is_usual: bool) -> impl Iterator<Item = LackedFlag> {
    let has_etcd = has("etcd-servers") || !set.etcd.urls.is_empty();
    let names_api_server = has("apiserver-manifest") || has("apiserver-process") || set.manifest.is_some();
    let has_flags = names_api_server || (is_usual && !has_etcd);
    let has_configuration = has("encryption-config") || set.encryption_config.is_some();
    let etcd = (!has_etcd && !has_flags).then_some(ETCD);
    let configuration = (!has_configuration && !has_flags).then_some(ENCRYPTION);
    etcd.into_iter().chain(configuration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(flags: &[&str], config: &str, is_usual: bool) -> String {
        let set = Config::parse(config).unwrap().cluster;
        let lacked = undeclared(|flag| flags.contains(&flag), &set, is_usual);
        lacked.map(|(name, value)| format!("--{name} {value}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_way_to_declare_a_cluster_needs_no_placeholder() {
        let both = "--etcd-servers URL --encryption-config FILE";
        assert_eq!(found(&[], "", false), both);
        assert_eq!(found(&["state-dir"], "state-dir = '/a'", false), both);
        assert_eq!(found(&["apiserver-manifest"], "", false), "");
        assert_eq!(found(&["apiserver-process"], "", false), "");
        assert_eq!(found(&[], "apiserver-manifest = '/m'", false), "");
        assert_eq!(found(&[], "", true), "");
        assert_eq!(found(&["encryption-config"], "", false), "--etcd-servers URL");
        assert_eq!(found(&[], "encryption-config = '/c'", false), "--etcd-servers URL");
        for is_usual in [false, true] {
            let lacks = "--encryption-config FILE";
            assert_eq!(found(&["etcd-servers"], "", is_usual), lacks, "a usual place is not read then");
            assert_eq!(found(&[], "etcd-servers = ['http://a']", is_usual), lacks);
        }
    }

    #[test]
    fn a_command_that_reads_no_etcd_lacks_nothing() {
        let with = |verb: &str, flag: &str| lacking(verb, |one| one == flag, None);
        for (verb, flag) in [
            ("status", ""),
            ("scan", "snapshot"),
            ("rotate", "give-up"),
            ("key disable", "risk-unreadable-secrets"),
            ("key destroy", "risk-losing-secrets"),
            ("scan", "apiserver-manifest"),
            ("scan", "etcd-servers"),
            ("verify", "apiserver-process"),
        ] {
            assert_eq!(with(verb, flag), [], "{verb} --{flag}");
        }
        for verb in READ_CONFIGURATION {
            assert!(READ_ETCD.contains(&verb));
        }
    }
}
