//! Detects the kind of a file with kube-apiserver's flags, and reads the flags from it or from a running process.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{
    arguments,
    error::{FlagDoubt, FlagsError},
    flags::{ApiServerFlags, ReadFlags},
    logged, pod, process,
    unit::{self, ReadText},
};

/// Where distributions keep the flags, in the order in which they are looked for: kubeadm, RKE2, MicroK8s.
pub const DEFAULTS: [&str; 3] = [
    "/etc/kubernetes/manifests/kube-apiserver.yaml",
    "/var/lib/rancher/rke2/agent/pod-manifests/kube-apiserver.yaml",
    "/var/snap/microk8s/current/args/kube-apiserver",
];

/// The greatest length of a file that is read, in bytes.
pub const FLAGS_MAX: usize = 1024 * 1024;

/// The place where the flags were found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlagsPlace {
    /// The manifest of a static pod.
    Pod(PathBuf),
    /// The file of a systemd unit.
    Unit(PathBuf),
    /// A file that contains only arguments.
    Arguments(PathBuf),
    /// The file of a log of k3s or RKE2.
    Log(PathBuf),
    /// A running process, by its PID.
    Process(u32),
}

impl fmt::Display for FlagsPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(path) => write!(f, "the static pod {}", path.display()),
            Self::Unit(path) => write!(f, "the systemd unit {}", path.display()),
            Self::Arguments(path) => write!(f, "the file of arguments {}", path.display()),
            Self::Log(path) => write!(f, "the log {}", path.display()),
            Self::Process(pid) => write!(f, "process {pid}"),
        }
    }
}

/// The flags of kube-apiserver, with their place and the doubts about them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundFlags {
    /// The place where the flags were found.
    pub place: FlagsPlace,
    /// The flags that were understood.
    pub flags: ApiServerFlags,
    /// The parts of the flags that were not understood.
    pub doubts: Vec<FlagDoubt>,
}

impl FoundFlags {
    /// Reads a file of any kind, whose contents are `text`. `read_text` reads the files that a unit names.
    ///
    /// # Errors
    /// When the file is of no known kind, does not start exactly one kube-apiserver, or its flags cannot be used.
    pub fn in_file(path: &Path, text: &str, read_text: ReadText<'_>) -> Result<Self, FlagsError> {
        let path = path.to_owned();
        let (place, found) = if unit::is_unit(text) {
            (FlagsPlace::Unit(path), unit::read(text, read_text)?)
        } else if arguments::is_file_of_arguments(text) {
            (FlagsPlace::Arguments(path), arguments::read(text)?)
        } else if logged::is_log(text) {
            (FlagsPlace::Log(path), logged::read(text)?)
        } else {
            (FlagsPlace::Pod(path), pod::read(text)?)
        };
        let ReadFlags { flags, doubts } = found;
        Ok(Self { place, flags, doubts })
    }

    /// Reads the command line of a running process.
    ///
    /// # Errors
    /// When the process is not kube-apiserver or cannot be looked at, or its flags cannot be used.
    pub fn of_process(pid: u32) -> Result<Self, FlagsError> {
        let ReadFlags { flags, doubts } = process::read(pid)?;
        Ok(Self { place: FlagsPlace::Process(pid), flags, doubts })
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// Files that other projects have published: the file, its kind, the addresses of etcd, the configuration, and the
    /// overrides.
    const PUBLISHED: [(&str, &str, &str, &str, &str); 7] = [
        (
            "gce.json",
            "the static pod",
            "http://127.0.0.1:2379",
            "/etc/srv/kubernetes/encryption-provider-config.yml",
            "events http://127.0.0.1:4002",
        ),
        ("underscore.yaml", "the static pod", "http://127.0.0.1:2379", "/e/enc.yaml", ""),
        ("env.yaml", "the static pod", "https://127.0.0.1:2379", "/e/enc.yaml", ""),
        (
            "overrides.yaml",
            "the static pod",
            "https://m1:2379 https://m2:2379",
            "/e/enc.yaml",
            "events https://e1:2381;https://e2:2381 coordination.k8s.io/leases https://e1:2381",
        ),
        (
            "k3s.log",
            "the log",
            "unix:///var/lib/rancher/k3s/server/kine.sock",
            "/var/lib/rancher/k3s/server/cred/encryption-config.json",
            "",
        ),
        (
            "microk8s.args",
            "the file of arguments",
            "unix:///var/snap/microk8s/current/var/kubernetes/backend/kine.sock:12379",
            "/var/snap/microk8s/current/args/enc.yaml",
            "",
        ),
        ("hard-way.service", "the systemd unit", "http://127.0.0.1:2379", "/e/enc.yaml", ""),
    ];

    #[test]
    fn published_shapes_are_understood() {
        for (name, place, urls, config, overrides) in PUBLISHED {
            let text = std::fs::read_to_string(Path::new("tests/vectors/flags").join(name)).unwrap();
            let found = FoundFlags::in_file(Path::new(name), &text, &|_| Err(io::ErrorKind::NotFound.into())).unwrap();
            assert_eq!(found.place.to_string(), format!("{place} {name}"));
            assert_eq!(found.flags.servers.urls.join(" "), urls, "{name}");
            assert_eq!(found.flags.encryption_config.as_deref(), Some(Path::new(config)), "{name}");
            let others = found.flags.overrides.iter().map(|one| format!("{} {}", one.resource, one.urls.join(";")));
            assert_eq!(others.collect::<Vec<_>>().join(" "), overrides, "{name}");
            let doubts: Vec<String> = found.doubts.iter().map(ToString::to_string).collect();
            let hidden = "the value of $KUBE_API_ARGS is not known, and it may contain further flags";
            assert_eq!(doubts, if name == "hard-way.service" { vec![hidden] } else { vec![] }, "{name}");
        }
    }

    #[test]
    fn each_kind_of_file_is_recognized() {
        let place = |text: &str| {
            let found = FoundFlags::in_file(Path::new("f"), text, &|_| Err(io::ErrorKind::NotFound.into())).unwrap();
            assert_eq!(found.flags.servers.urls, ["http://a"], "{text}");
            found.place.to_string()
        };
        let pod = "spec: {containers: [{command: [kube-apiserver, --etcd-servers=http://a]}]}";
        assert_eq!(place(pod), "the static pod f");
        assert_eq!(place(&format!("---\n# Running kube-apiserver\n{pod}")), "the static pod f");
        assert_eq!(place("[Service]\nExecStart=kube-apiserver --etcd-servers=http://a"), "the systemd unit f");
        assert_eq!(place("# flags\n--etcd-servers=http://a"), "the file of arguments f");
        assert_eq!(place("msg=\"Running kube-apiserver --etcd-servers=http://a\""), "the log f");
    }
}
