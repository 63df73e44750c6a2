//! Finds the programs of a control plane, or builds them from the sources pinned in `tests/control-plane/`.
//!
//! No binary is downloaded: the Go modules there name every source by its hash. A built program stays in the user's
//! cache directory, beside other versions, so that only the first run on a new machine waits.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::error::{Context, Error, Result};
use super::processes::{Process, Run};
use super::progress::{Progress, human, say};

/// The variable with a directory of programs that somebody else built, as for controller-runtime's envtest.
const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// The directory of the pinned Go modules.
const MODULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/control-plane");

/// The directory of the built programs in the user's cache directory.
const PROGRAMS: &str = "control-plane";

const BUILD_HINT: &str = "is Go 1.26 or newer installed (`go version`), and can it reach its module proxy (`go env GOPROXY`)? \
     Or point KUBEBUILDER_ASSETS at a directory with kube-apiserver, kubectl and etcd";

/// The releases of Kubernetes that are tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// The newest version.
    V1_37,
    /// The last minor version that sends the socket's path as `:authority`.
    V1_31,
}

impl Version {
    /// Returns the minor version, as in "1.37".
    pub(crate) fn minor(self) -> &'static str {
        match self {
            Self::V1_37 => "1.37",
            Self::V1_31 => "1.31",
        }
    }
}

/// The releases of etcd that are tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EtcdVersion {
    /// The newest version.
    V3_7,
    V3_6,
    /// The last minor version that writes no version of its storage into its file.
    V3_5,
}

impl EtcdVersion {
    /// Returns the minor version, as in "3.7".
    pub(crate) fn minor(self) -> &'static str {
        match self {
            Self::V3_7 => "3.7",
            Self::V3_6 => "3.6",
            Self::V3_5 => "3.5",
        }
    }
}

/// A program of a certain version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    KubeApiserver(Version),
    Kubectl(Version),
    /// kube-controller-manager, of the newest version only.
    KubeControllerManager,
    /// kubelet, of the newest version only.
    Kubelet,
    Etcd(EtcdVersion),
    Etcdctl(EtcdVersion),
    Etcdutl(EtcdVersion),
    /// Calls a plugin as kube-apiserver does, under load.
    KmsClient,
    /// Writes, reads and watches Secrets through an API server.
    ApiClient,
    /// The least KMS plugin in Go, to measure against.
    GoPlugin,
    /// The least scan of an etcd's file in Go, to measure against.
    GoScan,
    /// Decrypts an etcd's file with kube-apiserver's own transformers, to measure against.
    GoDecrypt,
    /// Writes an etcd's file with many Secrets, and prints its contents in numbers.
    GoGenerate,
    /// The least plugin that speaks version 1 of the protocol.
    KmsV1Plugin,
    /// Serves etcd's API from an SQL database.
    Kine,
    /// age, which opens the files that claviger seals for people.
    Age,
    /// age-keygen, which makes identities for age.
    AgeKeygen,
}

impl Program {
    /// Returns the path of the program. Builds the program first if it is missing.
    ///
    /// The newest version is taken from `$KUBEBUILDER_ASSETS` if that is set, because that directory has one version.
    /// Older versions are not.
    pub(crate) fn path(self) -> Result<PathBuf> {
        if let Some(path) = self.in_assets() {
            return Ok(path);
        }
        let module = Module::read(self)?;
        let path = cache(PROGRAMS)?.join(module.key()).join(self.file_name());
        if !path.exists() {
            build_once(self, &module, &path)?;
        }
        Ok(path)
    }

    fn in_assets(self) -> Option<PathBuf> {
        if self.is_older() {
            return None;
        }
        let path = PathBuf::from(std::env::var_os(ASSETS)?).join(self.file_name());
        path.is_file().then_some(path)
    }

    /// Whether the program is of an older version than the newest.
    fn is_older(self) -> bool {
        match self {
            Self::KubeApiserver(version) | Self::Kubectl(version) => version != Version::V1_37,
            Self::Etcd(version) | Self::Etcdctl(version) | Self::Etcdutl(version) => version != EtcdVersion::V3_7,
            _ => false,
        }
    }

    fn file_name(self) -> &'static str {
        match self {
            Self::KubeApiserver(_) => "kube-apiserver",
            Self::Kubectl(_) => "kubectl",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::Kubelet => "kubelet",
            Self::Etcd(_) => "etcd",
            Self::Etcdctl(_) => "etcdctl",
            Self::Etcdutl(_) => "etcdutl",
            Self::KmsClient => "kms-client",
            Self::ApiClient => "api-client",
            Self::GoPlugin => "go-plugin",
            Self::GoScan => "go-scan",
            Self::GoDecrypt => "go-decrypt",
            Self::GoGenerate => "go-generate",
            Self::KmsV1Plugin => "kms-v1-plugin",
            Self::Kine => "kine",
            Self::Age => "age",
            Self::AgeKeygen => "age-keygen",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::KubeApiserver(_) => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::Kubectl(_) => "k8s.io/kubernetes/cmd/kubectl",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::Kubelet => "k8s.io/kubernetes/cmd/kubelet",
            Self::Etcd(_) => "go.etcd.io/etcd/server/v3",
            Self::Etcdctl(_) => "go.etcd.io/etcd/etcdctl/v3",
            Self::Etcdutl(_) => "go.etcd.io/etcd/etcdutl/v3",
            Self::KmsClient => "./kms-client",
            Self::ApiClient => "./api-client",
            Self::GoPlugin | Self::GoDecrypt => ".",
            Self::GoScan => "./scan",
            Self::GoGenerate => "./generate",
            Self::KmsV1Plugin => "./kms-v1-plugin",
            Self::Kine => "github.com/k3s-io/kine",
            Self::Age => "filippo.io/age/cmd/age",
            Self::AgeKeygen => "filippo.io/age/cmd/age-keygen",
        }
    }

    /// Returns the release of Kubernetes that the program is a part of.
    fn release(self) -> Option<Version> {
        match self {
            Self::KubeApiserver(version) | Self::Kubectl(version) => Some(version),
            Self::KubeControllerManager | Self::Kubelet => Some(Version::V1_37),
            Self::Etcd(_)
            | Self::Etcdctl(_)
            | Self::Etcdutl(_)
            | Self::KmsClient
            | Self::ApiClient
            | Self::GoPlugin
            | Self::GoScan
            | Self::GoDecrypt
            | Self::GoGenerate
            | Self::KmsV1Plugin
            | Self::Kine
            | Self::Age
            | Self::AgeKeygen => None,
        }
    }

    /// Returns the folder of the module that pins the program, and the required module whose version is the program's.
    fn pin(self) -> (String, &'static str) {
        let kubernetes = |version: Version| (format!("kubernetes-{}", version.minor()), "k8s.io/kubernetes");
        match self {
            Self::KubeApiserver(version) | Self::Kubectl(version) => kubernetes(version),
            Self::KubeControllerManager | Self::Kubelet => kubernetes(Version::V1_37),
            Self::Etcd(version) | Self::Etcdctl(version) | Self::Etcdutl(version) => {
                (format!("etcd-{}", version.minor()), "go.etcd.io/etcd/server/v3")
            }
            Self::KmsClient | Self::ApiClient | Self::KmsV1Plugin => ("clients".to_owned(), "k8s.io/kms"),
            Self::GoPlugin => ("../../benches/go-plugin".to_owned(), "k8s.io/kms"),
            Self::GoScan | Self::GoGenerate => ("../../benches/go-scan".to_owned(), "go.etcd.io/etcd/api/v3"),
            Self::GoDecrypt => ("../../benches/go-decrypt".to_owned(), "k8s.io/apiserver"),
            Self::Kine => ("kine-0.17".to_owned(), "github.com/k3s-io/kine"),
            Self::Age | Self::AgeKeygen => ("age-1.3".to_owned(), "filippo.io/age"),
        }
    }

    /// Returns the expected time of a build, measured on two cores without Go's build cache, with downloads.
    fn expected(self) -> Duration {
        Duration::from_secs(match self {
            Self::KubeApiserver(_) => 4 * 60,
            Self::Kine => 90,
            Self::Kubectl(_) | Self::KubeControllerManager | Self::Kubelet => 2 * 60,
            Self::GoDecrypt => 60,
            Self::Etcd(_) => 40,
            Self::Etcdctl(_) | Self::Etcdutl(_) => 5,
            Self::GoScan | Self::GoGenerate | Self::Age | Self::AgeKeygen => 10,
            Self::KmsClient | Self::ApiClient | Self::GoPlugin | Self::KmsV1Plugin => 20,
        })
    }
}

/// A Go module with pins: all that a build depends on.
struct Module {
    directory: PathBuf,
    /// The version, for example "v1.37.2".
    version: String,
    /// The part of the cache key that changes with any pin, replacement, flag or line of our own code.
    fingerprint: String,
    link_flags: String,
}

impl Module {
    fn read(program: Program) -> Result<Self> {
        let (folder, pinned) = program.pin();
        let directory = Path::new(MODULES).join(folder);
        let pins = read(&directory.join("go.mod"))?;
        let sums = read(&directory.join("go.sum"))?;
        let version = required_version(&pins, pinned)
            .ok_or_else(|| Error::new(format!("{}/go.mod requires no {pinned}", directory.display())))?;
        let link_flags = link_flags(program, &version);
        let flags = format!("{BUILD_FLAGS:?} {link_flags}");
        let sources = sources(&directory)?;
        let parts: Vec<&str> = [&pins, &sums, &flags].into_iter().chain(&sources).map(String::as_str).collect();
        Ok(Self { fingerprint: fingerprint(&parts), directory, version, link_flags })
    }

    /// Returns the folder in the cache, for example `kubernetes-v1.37.2-0f1e2d3c`.
    fn key(&self) -> String {
        let folder = self.directory.file_name().unwrap_or_default();
        let folder = folder.to_string_lossy();
        let project = folder.split('-').next().unwrap_or_default();
        format!("{project}-{}-{}", self.version, self.fingerprint)
    }

    fn build_command(&self, program: Program, run: &Run, target: &Path) -> Command {
        let mut go = Command::new("go");
        go.arg("build")
            .args(BUILD_FLAGS)
            .args(["-ldflags", &self.link_flags, "-o"])
            .arg(target)
            .arg(program.package())
            .current_dir(&self.directory)
            // The programs are static, so no C compiler is used.
            .env("CGO_ENABLED", "0")
            // A workspace above the clone would override the pins.
            .env("GOWORK", "off")
            // The directory of the run contains the files of a killed compiler, and is removed.
            .env("GOTMPDIR", run.directory());
        go
    }
}

/// Go uses the pins and never edits them. No program contains a path of this machine or a commit of ours.
const BUILD_FLAGS: [&str; 3] = ["-mod=readonly", "-trimpath", "-buildvcs=false"];

/// Returns the flags of the linker. They leave out symbols, and set the variables from which Kubernetes takes the
/// version that it reports.
fn link_flags(program: Program, version: &str) -> String {
    let Some(release) = program.release() else {
        return "-s -w".to_owned();
    };
    let (major, minor) = release.minor().split_once('.').unwrap_or_default();
    let stamps = ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"].map(|package| {
        format!("-X {package}.gitVersion={version} -X {package}.gitMajor={major} -X {package}.gitMinor={minor}")
    });
    format!("-s -w {}", stamps.join(" "))
}

/// Builds a program that is not in the cache, unless another thread or process does so while this one waits.
fn build_once(program: Program, module: &Module, target: &Path) -> Result<()> {
    // Holds the failures: without Go, a hundred tests should fail at once, and not a hundred times after a minute.
    static FAILED: Mutex<BTreeMap<PathBuf, Error>> = Mutex::new(BTreeMap::new());
    let mut failed = FAILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(error) = failed.get(target) {
        return Err(error.clone());
    }
    let outcome = build_locked(program, module, target);
    if let Err(error) = &outcome {
        failed.insert(target.to_owned(), error.clone());
    }
    outcome
}

/// Builds the program while no other build runs on this machine, because two builds would only slow each other down.
fn build_locked(program: Program, module: &Module, target: &Path) -> Result<()> {
    let cache = cache(PROGRAMS)?;
    fs::create_dir_all(&cache).during(|| format!("making {}", cache.display()))?;
    let _lock = lock(&cache.join("lock"))?;
    if target.exists() {
        return Ok(());
    }
    let parent = cache.join(module.key());
    fs::create_dir_all(&parent).during(|| format!("making {}", parent.display()))?;
    // The run is inside the cache, so that the last step is a rename: a program is complete or absent.
    let run = Run::inside(&parent)?;
    let built = run.path("program");
    build(program, module, &run, &built)?;
    fs::rename(&built, target).during(|| format!("moving a program to {}", target.display()))
}

fn build(program: Program, module: &Module, run: &Run, target: &Path) -> Result<()> {
    let what = format!("building {} {}", program.file_name(), module.version);
    let why = format!("needed once, kept in {}", cache(PROGRAMS)?.join(module.key()).display());
    let go = module.build_command(program, run, target);
    let expected = format!("about {}", human(program.expected()));
    let mut progress = Progress::start(&what, &why, &expected, Instant::now());
    let outcome = run.start("go", go).and_then(|go| wait_for_build(go, &mut progress));
    progress.finish(if outcome.is_ok() { "done" } else { "failed" });
    outcome.map_err(|error| error.during(&what).hint(BUILD_HINT))
}

fn wait_for_build(mut go: Process, progress: &mut Progress) -> Result<()> {
    loop {
        match go.ended()? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(go.failure(&format!("ended with {status}"))),
            None => progress.tick(),
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Waits for the lock, which other test processes respect, too. The lock ends with the file's handle, also at a crash.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = File::create(path).during(|| format!("opening {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => return Ok(file),
        Err(TryLockError::WouldBlock) => say("waiting for another process that builds programs"),
        Err(TryLockError::Error(_)) => {}
    }
    file.lock().during(|| format!("locking {}", path.display()))?;
    Ok(file)
}

/// Returns a directory in `~/.cache/claviger`, or in the user's cache directory elsewhere.
pub(crate) fn cache(name: &str) -> Result<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    set("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| set("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .map(|cache| cache.join("claviger").join(name))
        .ok_or_else(|| Error::new("no place for built programs").hint("set HOME or XDG_CACHE_HOME"))
}

/// Returns the version after a module's name in the text of a go.mod.
fn required_version(pins: &str, module: &str) -> Option<String> {
    pins.lines()
        .filter_map(|line| line.trim().strip_prefix(module)?.strip_prefix(' '))
        .find_map(|rest| rest.split(' ').next())
        .filter(|version| version.starts_with('v'))
        .map(String::from)
}

/// Returns our own Go code in the packages of a module, in a fixed order. Most modules have none.
fn sources(directory: &Path) -> Result<Vec<String>> {
    let entries = |directory: &Path| -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(directory).and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
        entries.during(|| format!("listing {}", directory.display()))
    };
    let mut files = Vec::new();
    let mut packages = entries(directory)?;
    packages.retain(|path| path.is_dir());
    packages.push(directory.to_owned());
    for package in packages {
        files.extend(entries(&package)?.into_iter().filter(|path| path.extension().is_some_and(|end| end == "go")));
    }
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

/// Returns eight hexadecimal digits of SHA-256. Unlike the standard library's hashes, it is the same with every
/// compiler.
fn fingerprint(parts: &[&str]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, parts.join("\0").as_bytes());
    base16ct::lower::encode_string(&digest.as_ref()[..4])
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).during(|| format!("reading {}", path.display()))
}
