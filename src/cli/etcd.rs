//! Finds out where the cluster's etcd is: from flags, from the configuration, and from the flags of kube-apiserver.
//!
//! A verb takes [`EtcdArgs`], puts them into its settings, and asks [`Declared`]. Nothing here reads etcd.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;

use crate::{
    apiserver::{self, ApiServerFlags, FlagDoubt, FlagsError, FoundFlags, Override, coverage::Coverage},
    config::{ApiServerProcess, Cluster, Settings},
    etcd::Servers,
    plan::Timeouts,
    scan::{names::DEFAULT_PREFIX, place::ScanPlace},
};

use super::{
    Global,
    failure::{Exit, Failure, warn},
    files::{read_decoded, read_text, wrong},
};

/// The flags of [`EtcdArgs`] that are only for a live etcd, and not for a snapshot.
pub(super) const LIVE: [&str; 4] = ["etcd_servers", "etcd_cafile", "etcd_certfile", "etcd_keyfile"];

/// The flags that say where a live etcd is.
#[derive(Args, Default)]
pub(super) struct EtcdArgs {
    /// Addresses of etcd, separated by commas
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    etcd_servers: Option<Vec<String>>,
    /// CA certificate to check etcd's certificate with
    #[arg(long, value_name = "FILE")]
    etcd_cafile: Option<PathBuf>,
    /// Client certificate to authenticate to etcd with
    #[arg(long, value_name = "FILE")]
    etcd_certfile: Option<PathBuf>,
    /// Private key of the client certificate
    #[arg(long, value_name = "FILE")]
    etcd_keyfile: Option<PathBuf>,
    /// Prefix of the API server's keys in etcd [default: /registry]
    #[arg(long, value_name = "PREFIX")]
    etcd_prefix: Option<String>,
    /// File with the flags of kube-apiserver, to read all these options from: a static pod, a systemd unit, a file of
    /// arguments, or a log of k3s or RKE2 [default: the one that kubeadm, RKE2 or MicroK8s writes, unless another
    /// option says where to read]
    #[arg(long, value_name = "FILE")]
    apiserver_manifest: Option<PathBuf>,
    /// Running kube-apiserver, to read all these options from its command line: the PID of its process; without a
    /// value, or with `only`, the only kube-apiserver on this machine
    #[arg(
        long,
        value_name = "PID",
        num_args = 0..=1,
        default_missing_value = "only",
        conflicts_with = "apiserver_manifest"
    )]
    apiserver_process: Option<ApiServerProcess>,
}

impl EtcdArgs {
    /// Whether a flag names an etcd.
    pub(super) fn is_given(&self) -> bool {
        self.etcd_servers.is_some() || self.names_api_server()
    }

    /// Whether a flag names the API server of the cluster.
    pub(super) fn names_api_server(&self) -> bool {
        self.apiserver_manifest.is_some() || self.apiserver_process.is_some()
    }

    /// Moves the flags into `settings`.
    pub(super) fn put_into(self, settings: Settings) -> Settings {
        Settings {
            etcd_servers: self.etcd_servers,
            etcd_cafile: self.etcd_cafile,
            etcd_certfile: self.etcd_certfile,
            etcd_keyfile: self.etcd_keyfile,
            etcd_prefix: self.etcd_prefix,
            apiserver_manifest: self.apiserver_manifest,
            apiserver_process: self.apiserver_process,
            ..settings
        }
    }
}

/// Everything that flags, the configuration and the flags of kube-apiserver declare about the cluster's etcd.
pub(super) struct Declared {
    /// The main etcd of the API server, if a flag, a setting or a manifest names it.
    pub(super) servers: Option<Servers>,
    /// The resources that the API server keeps in other etcds.
    pub(super) overrides: Vec<Override>,
    /// The prefix of all keys in every etcd.
    pub(super) prefix: String,
    /// The path of the API server's EncryptionConfiguration.
    pub(super) encryption_config: Option<PathBuf>,
    /// `--request-timeout` of kube-apiserver.
    pub(super) request_timeout: Option<Duration>,
    /// `--event-ttl` of kube-apiserver.
    pub(super) event_ttl: Option<Duration>,
    /// Whether kube-apiserver accepts KMS v1.
    pub(super) allows_kms_v1: bool,
    /// The place where the flags of kube-apiserver were found, if they were looked for.
    pub(super) found_in: Option<String>,
    /// The flags of kube-apiserver that were not understood.
    pub(super) doubts: Vec<FlagDoubt>,
}

impl Declared {
    /// Reads the flags of the kube-apiserver that `cluster` names. If it names neither a kube-apiserver nor an etcd, a
    /// file in one of the usual places is read.
    ///
    /// # Errors
    /// When the file or the process cannot be read, or does not show the flags of one kube-apiserver.
    pub(super) fn read(cluster: &Cluster) -> Result<Self, Failure> {
        let usual = apiserver::DEFAULTS.into_iter().map(Path::new).find(|path| path.exists());
        Self::of(cluster, usual)
    }

    /// Reads the flags for a snapshot, if `is_snapshot`, or else for etcd itself.
    ///
    /// # Errors
    /// The same as those of [`Self::read`].
    pub(super) fn read_for(cluster: &Cluster, is_snapshot: bool) -> Result<Self, Failure> {
        if is_snapshot { Self::read_for_snapshot(cluster) } else { Self::read(cluster) }
    }

    /// Reads the same for a snapshot. It may be another cluster's, so no file in the usual places is read.
    ///
    /// # Errors
    /// The same as those of [`Self::read`].
    pub(super) fn read_for_snapshot(cluster: &Cluster) -> Result<Self, Failure> {
        Self::of(cluster, None)
    }

    /// Reads the flags from `usual`, if `cluster` names neither a kube-apiserver nor an etcd.
    fn of(cluster: &Cluster, usual: Option<&Path>) -> Result<Self, Failure> {
        let found = found_flags(cluster, usual)?;
        let found_in = found.as_ref().map(|found| found.place.to_string());
        let (flags, doubts) = found.map_or_else(Default::default, |found| (found.flags, found.doubts));
        let ApiServerFlags { servers, prefix, overrides, encryption_config, request_timeout, event_ttl, allows_kms_v1 } =
            flags;
        let has_own = !cluster.etcd.urls.is_empty();
        let servers = if has_own { cluster.etcd.clone() } else { servers };
        Ok(Self {
            servers: (!servers.urls.is_empty()).then_some(servers),
            overrides,
            prefix: cluster.prefix.clone().or(prefix).unwrap_or_else(|| DEFAULT_PREFIX.to_owned()),
            encryption_config: cluster.encryption_config.clone().or(encryption_config),
            request_timeout,
            event_ttl,
            allows_kms_v1,
            found_in,
            doubts,
        })
    }

    /// Returns every etcd in which the API server keeps objects, each once: first the main etcd, then those of
    /// `--etcd-servers-overrides`, for which kube-apiserver uses the same certificates. Returns `None` if no flag,
    /// setting or manifest names an etcd.
    pub(super) fn places(&self) -> Option<Vec<ScanPlace>> {
        let main = self.servers.as_ref()?;
        let others = self.overrides.iter().map(|other| Servers { urls: other.urls.clone(), ..main.clone() });
        let mut places = Vec::new();
        for servers in std::iter::once(main.clone()).chain(others) {
            let place = ScanPlace::Etcd(servers);
            if !places.contains(&place) {
                places.push(place);
            }
        }
        Some(places)
    }

    /// Returns the time limits of the API servers, from their flags and their EncryptionConfiguration.
    pub(super) fn timeouts(&self, coverage: Option<&Coverage>) -> Timeouts {
        let standard = Timeouts::default();
        Timeouts {
            kms: coverage.and_then(Coverage::timeout).unwrap_or(standard.kms),
            request: self.request_timeout.unwrap_or(standard.request),
        }
    }
}

/// Warns that `--request-timeout` of the API server is not known.
pub(super) fn warn_of_timeout(global: &Global) {
    let message = "the flags of kube-apiserver were not read, so its --request-timeout is taken as 60 s";
    let hint = "if it is longer, the wait after the promotion is too short: name where the flags are: --apiserver-manifest \
                FILE, or --apiserver-process";
    warn(message, hint, global);
}

/// Reads the flags of kube-apiserver from a process, from a manifest, or else from the file `usual`. Returns `None` if
/// no place is known, or if the addresses of etcd are given.
fn found_flags(cluster: &Cluster, usual: Option<&Path>) -> Result<Option<FoundFlags>, Failure> {
    match cluster.process {
        Some(ApiServerProcess::Pid(pid)) => {
            return FoundFlags::of_process(pid).map(Some).map_err(|error| no_process(&error));
        }
        Some(ApiServerProcess::Only) => {
            let found = apiserver::find_process().and_then(FoundFlags::of_process);
            return found.map(Some).map_err(|error| no_process(&error));
        }
        None => {}
    }
    let path = match &cluster.manifest {
        Some(path) => Some(path.as_path()),
        None if !cluster.etcd.urls.is_empty() => None,
        None => usual,
    };
    path.map(flags_in).transpose()
}

/// Reads the flags of kube-apiserver from a file of any known kind.
fn flags_in(path: &Path) -> Result<FoundFlags, Failure> {
    let text = read_text(path, apiserver::FLAGS_MAX)?;
    let read = |path: &Path| Ok(read_decoded(path, apiserver::FLAGS_MAX)?.to_string());
    FoundFlags::in_file(path, &text, &read).map_err(|error| wrong(path, &error, hint(&error)))
}

/// Returns the hint for flags that cannot be read: where else they may be.
fn hint(error: &FlagsError) -> Option<&'static str> {
    match error {
        FlagsError::NoApiServer(_) | FlagsError::Syntax(_) => Some(
            "give a static pod, a systemd unit, a file of arguments or a log of k3s with --apiserver-manifest; or \
             --apiserver-process, if kube-apiserver runs here as a process of its own",
        ),
        FlagsError::NoEtcd => Some("give --etcd-servers"),
        _ => None,
    }
}

/// Returns the failure of reading the flags of a process.
fn no_process(error: &FlagsError) -> Failure {
    let hint = match error {
        FlagsError::SeveralProcesses(_) => "name one: --apiserver-process PID",
        FlagsError::Process { .. } => {
            "run this command as root, and name a process that runs: --apiserver-process without a number finds it; if kube-apiserver has \
             stopped, its flags are in its static pod or unit: --apiserver-manifest FILE"
        }
        FlagsError::Foreign { .. } => {
            "any user can run a process of this name: if it is the API server, give --apiserver-manifest FILE, or --etcd-servers URL"
        }
        FlagsError::Replaced(_) => "run it again",
        _ => {
            "if kube-apiserver has stopped, its flags are still in its static pod or unit: --apiserver-manifest FILE; k3s and MicroK8s \
             run it inside another process: give a log or a file of arguments with the same option; or name etcd: --etcd-servers URL"
        }
    };
    Failure::new(Exit::Usage, error, hint.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Reads a static pod with additional flags, together with a configuration.
    fn declared(flags: &str, cluster: Cluster) -> Declared {
        let file = tempfile::NamedTempFile::new().unwrap();
        let command = format!("[kube-apiserver, '--etcd-servers=https://a,https://b', --etcd-cafile=/ca{flags}]");
        fs::write(file.path(), format!("spec: {{containers: [{{command: {command}}}]}}")).unwrap();
        Declared::read(&Cluster { manifest: Some(file.path().to_owned()), ..cluster }).unwrap_or_else(|_| panic!())
    }

    fn servers(urls: &[&str], cafile: &str) -> Servers {
        let urls = urls.iter().map(|url| (*url).to_owned()).collect();
        Servers { urls, cafile: Some(cafile.into()), ..Servers::default() }
    }

    /// Returns the places of these etcds, and the prefix.
    fn places(prefix: &str, all: &[Servers]) -> (Option<Vec<ScanPlace>>, String) {
        (Some(all.iter().cloned().map(ScanPlace::Etcd).collect()), prefix.to_owned())
    }

    fn found(declared: &Declared) -> (Option<Vec<ScanPlace>>, String) {
        (declared.places(), declared.prefix.clone())
    }

    const OVERRIDES: &str = ", '--etcd-servers-overrides=/events#https://c;https://d,apps/deployments#https://e'";

    #[test]
    fn every_etcd_of_a_manifest_is_a_place_once() {
        let main = servers(&["https://a", "https://b"], "/ca");
        assert_eq!(found(&declared("", Cluster::default())), places("/registry", std::slice::from_ref(&main)));
        let others = [servers(&["https://c", "https://d"], "/ca"), servers(&["https://e"], "/ca")];
        let all = declared(&format!("{OVERRIDES}, --etcd-prefix=/k8s"), Cluster::default());
        assert_eq!(found(&all), places("/k8s", &[main.clone(), others[0].clone(), others[1].clone()]));
        let twice = ", '--etcd-servers-overrides=/events#https://e,/leases#https://e,/pods#https://a;https://b'";
        assert_eq!(found(&declared(twice, Cluster::default())), places("/registry", &[main, others[1].clone()]));
    }

    #[test]
    fn the_configuration_overrides_the_manifest() {
        let own = servers(&["https://own"], "/own-ca");
        let cluster = |own: &Servers| Cluster {
            etcd: own.clone(),
            prefix: Some("/own".to_owned()),
            encryption_config: Some("/own.yaml".into()),
            ..Cluster::default()
        };
        let flags = format!("{OVERRIDES}, --encryption-provider-config=/its.yaml, --etcd-prefix=/its");
        let all = declared(&flags, cluster(&own));
        let others = [servers(&["https://c", "https://d"], "/own-ca"), servers(&["https://e"], "/own-ca")];
        assert_eq!(found(&all), places("/own", &[own.clone(), others[0].clone(), others[1].clone()]));
        assert_eq!(all.encryption_config, Some("/own.yaml".into()));
        assert_eq!(declared(&flags, Cluster::default()).encryption_config, Some("/its.yaml".into()));
        // If the configuration names an etcd, kubeadm's manifest is not read.
        let alone = Declared::read(&cluster(&own)).unwrap_or_else(|_| panic!());
        assert_eq!((found(&alone), alone.overrides.len()), (places("/own", &[own]), 0));
    }

    #[test]
    fn without_any_declaration_there_is_no_place() {
        let nothing = Declared::read_for_snapshot(&Cluster::default()).unwrap_or_else(|_| panic!());
        assert_eq!((nothing.places(), nothing.prefix.as_str()), (None, "/registry"));
    }

    #[test]
    fn flags_become_settings_and_keep_the_others() {
        use clap::Parser;
        #[derive(Parser)]
        struct Line {
            #[command(flatten)]
            etcd: EtcdArgs,
        }
        let words =
            "x --etcd-servers http://a,http://b --etcd-cafile 1 --etcd-certfile 2 --etcd-keyfile 3 --etcd-prefix p";
        let line = Line::parse_from(words.split(' ').chain(["--apiserver-manifest", "m"]));
        let others = Settings { provider_name: Some("n".to_owned()), ..Settings::default() };
        let settings = line.etcd.put_into(others);
        assert_eq!(settings.etcd_servers, Some(vec!["http://a".to_owned(), "http://b".to_owned()]));
        let files = [settings.etcd_cafile, settings.etcd_certfile, settings.etcd_keyfile, settings.apiserver_manifest];
        assert_eq!(files, ["1", "2", "3", "m"].map(|name| Some(PathBuf::from(name))));
        assert_eq!([settings.etcd_prefix, settings.provider_name], ["p", "n"].map(|name| Some(name.to_owned())));
    }
}
