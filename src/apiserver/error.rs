//! The errors of reading kube-apiserver's flags ([`FlagsError`]), and the parts of the flags that were not understood
//! ([`FlagDoubt`]).

use std::path::PathBuf;

/// Why kube-apiserver's flags cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlagsError {
    /// The file is no pod in YAML or JSON, and none of the other kinds of files.
    #[error("not a pod: {0}")]
    Syntax(String),
    /// No command of a pod, a unit or a log is kube-apiserver's.
    #[error("{0} kube-apiserver")]
    NoApiServer(NoApiServer),
    /// Several containers run kube-apiserver, so it is not clear whose flags count.
    #[error("several containers run kube-apiserver, expected one")]
    SeveralApiServers,
    /// An entry of `--etcd-servers-overrides` is not `resource#servers`, so it is not clear which etcd it means.
    #[error("--etcd-servers-overrides has the entry {0:?}, expected resource#server;server")]
    Override(String),
    /// Too many values in the command are not known.
    #[error("its command has {0} expressions whose value is not known, expected at most 256")]
    Unclear(usize),
    /// The container has too many mounts, or the pod too many volumes.
    #[error("its kube-apiserver has {0} mounts, expected at most 1000")]
    Mounts(usize),
    /// All flags were understood, and they name no etcd.
    #[error("its kube-apiserver has no --etcd-servers")]
    NoEtcd,
    /// The processes cannot be listed. Contains the system's reason.
    #[error("listing the processes of this machine: {0}")]
    Processes(String),
    /// No process is kube-apiserver.
    #[error("no process on this machine is kube-apiserver")]
    NoProcess,
    /// Several processes are kube-apiserver.
    #[error("several processes are kube-apiserver: {}", list(.0))]
    SeveralProcesses(Vec<u32>),
    /// The process cannot be examined.
    #[error("process {pid}: {reason}")]
    Process {
        /// The PID of the process.
        pid: u32,
        /// The system's reason.
        reason: String,
    },
    /// The process is another program.
    #[error("process {0} is not kube-apiserver")]
    OtherProgram(u32),
    /// Another user runs the process, and may have given it the name of kube-apiserver.
    #[error("process {pid} is of user {uid}, expected root or this user")]
    Foreign {
        /// The PID of the process.
        pid: u32,
        /// The uid of the other user.
        uid: u32,
    },
    /// The process ended and another one got its number, or its user changed.
    #[error("process {0} was replaced while it was read")]
    Replaced(u32),
}

/// The kind of file that does not start kube-apiserver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoApiServer {
    /// No container of the pod runs kube-apiserver.
    Pod,
    /// No command of the systemd unit runs kube-apiserver.
    Unit,
    /// No line of the log of k3s or RKE2 shows the start of kube-apiserver.
    Log,
}

impl std::fmt::Display for NoApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pod => "no container runs",
            Self::Unit => "no ExecStart= of this unit runs",
            Self::Log => "no line of this log has the flags of",
        })
    }
}

/// A part of the flags that was not understood, so its meaning is not known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FlagDoubt {
    /// The value of a flag contains an expression whose value is not known.
    #[error("--{flag} contains {name}, whose value is not known")]
    Variable {
        /// The name of the flag, without dashes.
        flag: &'static str,
        /// The expression, as it is written.
        name: String,
    },
    /// A word as a whole is an expression whose value is not known.
    #[error("the value of {name} is not known, and it may contain further flags")]
    Hidden {
        /// The expression, as it is written.
        name: String,
    },
    /// A flag names a path, and it is not known where that path is on this machine.
    #[error("--{flag} names {path}, and it is not known where that is on this machine")]
    Elsewhere {
        /// The name of the flag, without dashes.
        flag: &'static str,
        /// The path or address that the flag names.
        path: String,
    },
    /// A unit's environment file cannot be read.
    #[error("{} of the unit cannot be read: {reason}", path.display())]
    EnvironmentFile {
        /// The path of the file.
        path: PathBuf,
        /// The reason.
        reason: String,
    },
}

impl FlagDoubt {
    /// Whether values may be in another etcd, or below another prefix, than the flags seem to say.
    pub fn may_hide_values(&self) -> bool {
        match self {
            Self::Variable { flag, .. } | Self::Elsewhere { flag, .. } => {
                flag.starts_with("etcd-servers") || *flag == "etcd-prefix"
            }
            Self::Hidden { .. } | Self::EnvironmentFile { .. } => true,
        }
    }
}

fn list(numbers: &[u32]) -> String {
    let texts: Vec<String> = numbers.iter().map(ToString::to_string).collect();
    texts.join(", ")
}
