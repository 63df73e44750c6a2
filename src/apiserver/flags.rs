//! Understands the flags of kube-apiserver that say where its objects are and how they are encrypted.
//!
//! Invariant: a flag with an unknown part is a [`FlagDoubt`], and never counts as a flag that is not set.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use crate::etcd::Servers;

use super::{
    duration::positive_duration,
    error::{FlagDoubt, FlagsError},
};

/// A function that converts a path of the API server to a path of this machine. It returns `None` if it is not known
/// where the path is.
pub(super) type Locate<'a> = &'a dyn Fn(&str) -> Option<PathBuf>;

/// The flags of kube-apiserver that claviger uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiServerFlags {
    /// `--etcd-servers`, and the flags for the files that secure the connection.
    pub servers: Servers,
    /// `--etcd-prefix`, if it is set.
    pub prefix: Option<String>,
    /// `--etcd-servers-overrides`: the resources that are in other etcds.
    pub overrides: Vec<Override>,
    /// `--encryption-provider-config`, if it is set.
    pub encryption_config: Option<PathBuf>,
    /// `--request-timeout`: how long a write may take.
    pub request_timeout: Option<Duration>,
    /// `--event-ttl`: how long etcd keeps an event after it was written.
    pub event_ttl: Option<Duration>,
    /// Whether `--feature-gates` allow KMS v1.
    pub allows_kms_v1: bool,
}

/// A resource that is in an etcd of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Override {
    /// The name in the flag, without slashes around it: `events`, `apps/deployments`.
    pub resource: String,
    /// The addresses of the etcd with this resource, at least one.
    pub urls: Vec<String>,
}

impl Override {
    /// Parses `group/resource#server;server`.
    fn parse(text: &str) -> Result<Self, FlagsError> {
        let parts = text.split_once('#').map(|(resource, servers)| Self {
            resource: resource.trim_matches('/').to_owned(),
            urls: list(servers, ';'),
        });
        parts.filter(|one| !one.urls.is_empty()).ok_or_else(|| FlagsError::Override(text.to_owned()))
    }
}

/// The greatest number of expressions without a known value in a command. Each value of a flag is compared with each of
/// them.
const UNKNOWN_MAX: usize = 256;

/// The words of kube-apiserver's command, with everything that is needed to understand them.
pub(super) struct CommandLine<'a> {
    /// The words after the name of the program.
    pub(super) words: &'a [String],
    /// The expressions in the words whose value is not known.
    pub(super) unknown: BTreeSet<String>,
    /// Converts the paths in flags to paths of this machine.
    pub(super) locate: Locate<'a>,
}

/// The flags of kube-apiserver as they were read from one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReadFlags {
    /// The flags that were understood.
    pub(super) flags: ApiServerFlags,
    /// Every part that was not understood.
    pub(super) doubts: Vec<FlagDoubt>,
}

impl CommandLine<'_> {
    /// Reads the flags, and says which of them could not be understood.
    ///
    /// # Errors
    /// When they name no etcd, and nothing in them is unknown. When too much is unknown, or an override has another
    /// form.
    pub(super) fn read(&self) -> Result<ReadFlags, FlagsError> {
        if self.unknown.len() > UNKNOWN_MAX {
            return Err(FlagsError::Unclear(self.unknown.len()));
        }
        let mut doubts = Vec::new();
        let servers = Servers {
            urls: self.urls("etcd-servers", ',', &mut doubts),
            cafile: self.path("etcd-cafile", &mut doubts),
            certfile: self.path("etcd-certfile", &mut doubts),
            keyfile: self.path("etcd-keyfile", &mut doubts),
        };
        let flags = ApiServerFlags {
            prefix: self.last("etcd-prefix", &mut doubts),
            overrides: self.overrides(&mut doubts)?,
            encryption_config: self.path("encryption-provider-config", &mut doubts),
            request_timeout: self.last("request-timeout", &mut doubts).and_then(|text| positive_duration(&text)),
            event_ttl: self.last("event-ttl", &mut doubts).and_then(|text| positive_duration(&text)),
            allows_kms_v1: self.allows_kms_v1(&mut doubts),
            servers,
        };
        doubts.extend(self.hidden());
        doubts.dedup();
        if flags.servers.urls.is_empty() && doubts.is_empty() {
            return Err(FlagsError::NoEtcd);
        }
        Ok(ReadFlags { flags, doubts })
    }

    /// Returns every value of `--name=value` or `--name value`. As in kube-apiserver, an underscore in the name of a
    /// flag means a dash. A value with an unknown part becomes a doubt instead.
    fn all(&self, name: &'static str, doubts: &mut Vec<FlagDoubt>) -> Vec<String> {
        let mut values = Vec::new();
        for (index, word) in self.words.iter().enumerate() {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else { continue };
            let (found, value) = flag.split_once('=').map_or((flag, None), |(found, value)| (found, Some(value)));
            if found.replace('_', "-") != name {
                continue;
            }
            let Some(value) = value.or_else(|| self.words.get(index + 1).map(String::as_str)) else { continue };
            match self.unknown.iter().find(|unknown| value.contains(unknown.as_str())) {
                Some(unknown) => doubts.push(FlagDoubt::Variable { flag: name, name: unknown.clone() }),
                None => values.push(value.to_owned()),
            }
        }
        values
    }

    /// Returns the value of a flag. If it is given several times, the last one counts.
    fn last(&self, name: &'static str, doubts: &mut Vec<FlagDoubt>) -> Option<String> {
        self.all(name, doubts).pop().filter(|value| !value.is_empty())
    }

    fn path(&self, name: &'static str, doubts: &mut Vec<FlagDoubt>) -> Option<PathBuf> {
        let path = self.last(name, doubts)?;
        let found = (self.locate)(&path);
        if found.is_none() {
            doubts.push(FlagDoubt::Elsewhere { flag: name, path });
        }
        found
    }

    /// Returns the addresses in all values of a flag: if it is given several times, all of them count.
    fn urls(&self, name: &'static str, between: char, doubts: &mut Vec<FlagDoubt>) -> Vec<String> {
        let values = self.all(name, doubts);
        values.iter().flat_map(|text| list(text, between)).filter_map(|url| self.url(name, url, doubts)).collect()
    }

    fn overrides(&self, doubts: &mut Vec<FlagDoubt>) -> Result<Vec<Override>, FlagsError> {
        const NAME: &str = "etcd-servers-overrides";
        let entries = self.all(NAME, doubts);
        let mut overrides = Vec::new();
        for entry in entries.iter().flat_map(|text| list(text, ',')) {
            let Override { resource, urls } = Override::parse(&entry)?;
            let urls: Vec<String> = urls.into_iter().filter_map(|url| self.url(NAME, url, doubts)).collect();
            if !urls.is_empty() {
                overrides.push(Override { resource, urls });
            }
        }
        Ok(overrides)
    }

    fn allows_kms_v1(&self, doubts: &mut Vec<FlagDoubt>) -> bool {
        allows_kms_v1(&self.all("feature-gates", doubts).join(","))
    }

    /// Converts the path of a Unix socket to a path of this machine. Other addresses stay the same.
    fn url(&self, flag: &'static str, url: String, doubts: &mut Vec<FlagDoubt>) -> Option<String> {
        let scheme = ["unix://", "unixs://", "unix:", "unixs:"].into_iter().find(|scheme| url.starts_with(scheme));
        let Some(scheme) = scheme else { return Some(url) };
        let path = (self.locate)(&url[scheme.len()..]);
        if path.is_none() {
            doubts.push(FlagDoubt::Elsewhere { flag, path: url });
        }
        path.map(|path| format!("{scheme}{}", path.display()))
    }

    /// Returns the words that are unknown as a whole, because they may contain any flag.
    fn hidden(&self) -> impl Iterator<Item = FlagDoubt> {
        let hidden = self.unknown.iter().filter(|unknown| self.words.contains(unknown));
        hidden.map(|word| FlagDoubt::Hidden { name: word.clone() })
    }
}

/// Whether these feature gates, `NAME=true,NAME=false`, allow KMS v1. If a gate is given several times, the last one
/// counts.
pub fn allows_kms_v1(gates: &str) -> bool {
    let gates = list(gates, ',');
    let mut values = gates.iter().filter_map(|one| one.strip_prefix("KMSv1=")).rev();
    values.next().is_some_and(|value| matches!(value, "true" | "True" | "TRUE" | "t" | "T" | "1"))
}

fn list(text: &str, between: char) -> Vec<String> {
    text.split(between).map(str::trim).filter(|part| !part.is_empty()).map(ToOwned::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(line: &str, unknown: &[&str]) -> Result<(ApiServerFlags, Vec<String>), FlagsError> {
        let words: Vec<String> = line.split(' ').map(ToOwned::to_owned).collect();
        let unknown = unknown.iter().map(|name| (*name).to_owned()).collect();
        let locate = |path: &str| path.starts_with('/').then(|| Path::new("/host").join(&path[1..]));
        let ReadFlags { flags, doubts } = CommandLine { words: &words, unknown, locate: &locate }.read()?;
        Ok((flags, doubts.iter().map(ToString::to_string).collect()))
    }

    #[test]
    fn every_flag_of_a_list_counts_the_last_of_another_and_underscores_are_dashes() {
        let line = "--etcd-servers=http://a, --etcd_servers http://b --etcd-servers-overrides=/events#http://c;http://d \
                    --etcd_servers_overrides=/secrets#http://e,/x#unix:///s;unixs:/t --etcd-prefix=/ignored --etcd_prefix=/k8s \
                    --encryption_provider_config=/e.yaml --feature-gates=KMSv1=false,A=true,KMSv1=true --etcd-cafile";
        let (flags, doubts) = read(line, &[]).unwrap();
        assert_eq!(
            (flags.servers.urls, flags.prefix.as_deref()),
            (vec!["http://a".into(), "http://b".into()], Some("/k8s"))
        );
        let others: Vec<_> = flags.overrides.iter().map(|one| (one.resource.as_str(), one.urls.join(" "))).collect();
        let expected =
            [("events", "http://c http://d"), ("secrets", "http://e"), ("x", "unix:///host/s unixs:/host/t")];
        assert_eq!(others, expected.map(|(name, urls)| (name, urls.to_owned())));
        assert_eq!((flags.encryption_config, flags.servers.cafile), (Some("/host/e.yaml".into()), None));
        assert_eq!((flags.allows_kms_v1, doubts), (true, vec![]));
    }

    #[test]
    fn what_is_not_understood_is_a_doubt_and_never_a_missing_flag() {
        let (flags, doubts) = read("--etcd-servers=$URL $MORE --etcd-cafile=ca.crt", &["$URL", "$MORE"]).unwrap();
        assert_eq!(flags, ApiServerFlags::default());
        let expected = [
            "--etcd-servers contains $URL, whose value is not known",
            "--etcd-cafile names ca.crt, and it is not known where that is on this machine",
            "the value of $MORE is not known, and it may contain further flags",
        ];
        assert_eq!(doubts, expected);
        let (_, doubts) = read("--etcd-servers=unix://kine.sock", &[]).unwrap();
        let expected = "--etcd-servers names unix://kine.sock, and it is not known where that is on this machine";
        assert_eq!(doubts, [expected]);
        assert_eq!(read("--etcd-prefix=/x", &[]), Err(FlagsError::NoEtcd));
    }

    #[test]
    fn more_unknown_values_than_any_command_has_are_refused() {
        let unknown: Vec<String> = (0..257).map(|number| format!("$V{number}")).collect();
        let unknown: Vec<&str> = unknown.iter().map(String::as_str).collect();
        let text = "its command has 257 expressions whose value is not known, expected at most 256";
        assert_eq!(read("--etcd-servers=a", &unknown).unwrap_err().to_string(), text);
        assert!(read("--etcd-servers=a", &unknown[1..]).is_ok());
    }

    #[test]
    fn an_override_of_another_form_is_refused() {
        for entry in ["events", "events#", "/events#;"] {
            let error =
                read(&format!("--etcd-servers=a --etcd-servers-overrides={entry}"), &[]).unwrap_err().to_string();
            assert_eq!(
                error,
                format!("--etcd-servers-overrides has the entry {entry:?}, expected resource#server;server")
            );
        }
    }
}
