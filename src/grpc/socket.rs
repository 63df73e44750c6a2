//! Where the plugin listens: the address of its socket, and a socket there that nobody else can have put or replaced.
//!
//! The socket file says nothing about a live plugin, because it outlives a killed one; an flock on a file beside it
//! does. A new socket is made under another name and renamed into place, so that at every instant the path leads to a
//! socket that listens. Invariants: no other user can write to a component of the path; nothing but a socket is ever
//! replaced, and nothing but our own removed.

use std::{
    ffi::OsString,
    fmt, io,
    os::{
        fd::{AsRawFd, OwnedFd},
        linux::net::SocketAddrExt,
        unix::{
            fs::MetadataExt,
            net::{SocketAddr, UnixListener},
        },
    },
    path::{Path, PathBuf},
    str::FromStr,
};

use rustix::{
    fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, Stat},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType},
};

use crate::durable::{self, DurableError};

/// The most bytes of an address: the kernel's `sun_path` has 108, one of which is a NUL behind a path and before a name.
const ADDRESS_LIMIT: usize = 107;

/// Connections that the kernel holds until they are accepted.
const BACKLOG: i32 = 128;

/// The mode of the socket and of its lock.
const OURS_ALONE: Mode = Mode::RUSR.union(Mode::WUSR);

/// A socket's address, as `--socket` takes it: an absolute path, `unix:///path`, `@name` or `unix:///@name`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A file.
    Path(PathBuf),
    /// A name in the kernel's abstract namespace, without the `@` that stands for its leading NUL.
    Abstract(String),
}

impl Address {
    /// Writes it as an `EncryptionConfiguration` wants it, `unix:///run/claviger/kms.sock` or `unix:///@name`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        match self {
            Self::Path(path) => format!("unix://{}", path.display()),
            Self::Abstract(name) => format!("unix:///@{name}"),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(f),
            Self::Abstract(name) => write!(f, "@{name}"),
        }
    }
}

impl FromStr for Address {
    type Err = SocketError;

    /// Reads what `--socket` takes. `/@name` means `@name`, because Kubernetes reads it so.
    ///
    /// Strict about characters, because kube-apiserver reads the same text as a URL and, up to 1.31, as an HTTP/2
    /// authority: what either would take for something else is refused here.
    fn from_str(text: &str) -> Result<Self, SocketError> {
        let bare = text.strip_prefix("unix://").unwrap_or(text);
        let refuse = |expected| Err(SocketError::Address { address: text.to_owned(), expected });
        let name = bare.strip_prefix('@').or_else(|| bare.strip_prefix("/@"));
        if name.is_none() && !bare.starts_with('/') {
            return refuse("an absolute path, or @ and a name");
        }
        let (body, punctuation) = name.map_or((bare, "/._-+=,:~@"), |name| (name, "._-"));
        if body.contains(|c: char| !c.is_ascii_alphanumeric() && !punctuation.contains(c)) {
            return refuse("no other characters than letters, digits and plain punctuation");
        }
        if body.is_empty() || body.ends_with('/') || body.ends_with("/.") || body.ends_with("/..") {
            return refuse("a name at its end");
        }
        if body.len() > ADDRESS_LIMIT {
            return Err(SocketError::TooLong { address: text.to_owned(), found: body.len() });
        }
        Ok(name.map_or_else(|| Self::Path(bare.into()), |name| Self::Abstract(name.to_owned())))
    }
}

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SocketError {
    /// The address is none, or kube-apiserver would take it for another.
    #[error("socket address {address:?}: expected {expected}")]
    Address {
        /// As it was given.
        address: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The address does not fit into the kernel's structure.
    #[error(
        "socket address {address:?}: {found} bytes, expected at most {ADDRESS_LIMIT}, the size of the kernel's sun_path"
    )]
    TooLong {
        /// As it was given.
        address: String,
        /// Its length in bytes.
        found: usize,
    },
    /// There is no directory for the socket.
    #[error("refusing to listen: directory {0} does not exist")]
    Missing(PathBuf),
    /// What should be the directory is something else.
    #[error("refusing to listen: {0} is not a directory")]
    NotADirectory(PathBuf),
    /// Other users could put a socket of theirs into the directory.
    #[error("refusing to listen: {path} is writable by {} (mode {mode:04o})", writers(*mode))]
    Writable {
        /// The socket's directory.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// Other users could put a directory of theirs in the place of the socket's.
    #[error("refusing to listen: {0}")]
    Ancestor(#[from] DurableError),
    /// A user who is neither root nor us owns the directory.
    #[error("refusing to listen: {path} is owned by uid {owner}, expected root or uid {ours}")]
    Owner {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whom this process runs as.
        ours: u32,
    },
    /// This user may not create files in the directory.
    #[error("refusing to listen: directory {path} is not writable by uid {ours}")]
    Unwritable {
        /// The directory.
        path: PathBuf,
        /// Whom this process runs as.
        ours: u32,
    },
    /// Another process holds the socket.
    #[error("refusing to listen: {0} is held by a live plugin")]
    Held(Address),
    /// Something that nobody should replace is in the socket's place.
    #[error("refusing to listen: {0} is not a socket")]
    Occupied(PathBuf),
    /// The kernel refused a step.
    #[error("cannot {step} {path}: {error}")]
    Io {
        /// What was being done.
        step: &'static str,
        /// To what.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        error: io::Error,
    },
}

impl SocketError {
    /// Says what an operator can do about it, if that is known.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Address { .. } | Self::TooLong { .. } => {
                "--socket /run/claviger/kms.sock, or --socket @claviger".to_owned()
            }
            Self::NotADirectory(_) | Self::Occupied(_) => "move it away, or give another --socket".to_owned(),
            Self::Missing(path) => own_directory(path),
            // Never a command that changes a directory which is there: it may be anybody's.
            Self::Writable { .. } | Self::Ancestor(_) | Self::Owner { .. } | Self::Unwritable { .. } => {
                format!("give the socket a directory of its own: {}", own_directory(Path::new("/run/claviger")))
            }
            Self::Held(Address::Path(path)) => format!("stop it first; to find it: fuser {}.lock", path.display()),
            Self::Held(Address::Abstract(name)) => format!("stop it first; to find it: ss -xlp src @{name}"),
            Self::Io { .. } => return None,
        })
    }
}

fn own_directory(path: &Path) -> String {
    format!("install -d -m 0750 -o {} {}", our_uid(), path.display())
}

fn writers(mode: u32) -> &'static str {
    if mode & 0o002 == 0 { "its group" } else { "others" }
}

/// A socket that listens, and the claim to its path for as long as it does.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    claim: Option<Claim>,
}

impl Listener {
    /// Registers the socket with the runtime it is called in. The path is given up when the claim is dropped.
    pub fn into_tokio(self) -> io::Result<(tokio::net::UnixListener, Option<Claim>)> {
        Ok((tokio::net::UnixListener::from_std(self.socket)?, self.claim))
    }
}

/// The socket that systemd made and handed over (`sd_listen_fds(3)`), if it did.
///
/// # Errors
/// When what was handed over is no Unix socket that listens.
pub fn inherited() -> io::Result<Option<Listener>> {
    let Some(socket) = listenfd::ListenFd::from_env().take_unix_listener(0)? else { return Ok(None) };
    socket.set_nonblocking(true)?;
    Ok(Some(Listener { socket, claim: None }))
}

/// Listens on `address`.
///
/// # Errors
/// When another plugin holds it, something else stands in its place, or other users could put a socket of theirs there.
pub fn bind(address: &Address) -> Result<Listener, SocketError> {
    match address {
        Address::Path(path) => bind_path(path),
        Address::Abstract(name) => bind_abstract(name),
    }
}

fn bind_abstract(name: &str) -> Result<Listener, SocketError> {
    let bind = || {
        let socket = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?;
        socket.set_nonblocking(true)?;
        Ok(Listener { socket, claim: None })
    };
    bind().map_err(|error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => SocketError::Held(Address::Abstract(name.to_owned())),
        _ => failed("listen on", Path::new(name), error),
    })
}

fn bind_path(path: &Path) -> Result<Listener, SocketError> {
    let place = Place::open(path)?;
    let lock = place.lock()?;
    place.check_vacant()?;
    let (socket, identity) = place.listen(&lock).map_err(|error| failed("listen on", path, error))?;
    Ok(Listener { socket: socket.into(), claim: Some(Claim { place, identity, _lock: lock }) })
}

/// The right to a path: holds its lock, and removes our socket when dropped.
#[derive(Debug)]
pub struct Claim {
    place: Place,
    identity: Identity,
    _lock: OwnedFd,
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.place.stat().is_ok_and(|stat| identity(&stat) == self.identity) {
            // If it cannot be removed it is stale, which the next start knows how to handle.
            let _ = rustix::fs::unlinkat(&self.place.directory, &self.place.name, AtFlags::empty());
        }
    }
}

/// Tells a file from all others: device and inode.
type Identity = (u64, u64);

fn identity(stat: &Stat) -> Identity {
    (stat.st_dev, stat.st_ino)
}

/// A name in a directory to which only root and we can write.
#[derive(Debug)]
struct Place {
    directory: OwnedFd,
    path: PathBuf,
    name: OsString,
}

impl Place {
    fn open(path: &Path) -> Result<Self, SocketError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(SocketError::Occupied(path.to_owned()));
        };
        let real = real_directory(parent)?;
        check_directory(&real)?;
        let directory = rustix::fs::open(&real, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| failed("open", &real, error))?;
        Ok(Self { directory, path: real.join(name), name: name.to_owned() })
    }

    /// Takes the lock beside the socket. Its file is never removed: a lock on a file that is gone excludes nobody.
    fn lock(&self) -> Result<OwnedFd, SocketError> {
        let mut name = self.name.clone();
        name.push(".lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(&self.directory, &name, flags, OURS_ALONE).map_err(|error| match error {
            Errno::ACCESS | Errno::PERM | Errno::ROFS => self.unwritable(),
            _ => failed("open the lock of", &self.path, error),
        })?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(lock),
            Err(Errno::WOULDBLOCK) => Err(SocketError::Held(Address::Path(self.path.clone()))),
            Err(error) => Err(failed("lock", &self.path, error)),
        }
    }

    fn unwritable(&self) -> SocketError {
        SocketError::Unwritable { path: self.path.parent().unwrap_or(&self.path).to_owned(), ours: our_uid() }
    }

    /// Checks that only a socket would be replaced; it is stale, because we hold the lock.
    fn check_vacant(&self) -> Result<(), SocketError> {
        match self.stat() {
            Err(Errno::NOENT) => Ok(()),
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Socket => Ok(()),
            Ok(_) => Err(SocketError::Occupied(self.path.clone())),
            Err(error) => Err(failed("examine", &self.path, error)),
        }
    }

    /// Makes a socket that listens and renames it into place.
    ///
    /// Until then it has a name that no other plugin uses, because it is made from the lock's inode, and an address
    /// that is short however long the path is. Nobody can connect before it listens, so it has its mode in time.
    fn listen(&self, lock: &OwnedFd) -> rustix::io::Result<(OwnedFd, Identity)> {
        let fresh = format!(".claviger-{:x}", rustix::fs::fstat(lock)?.st_ino);
        let address = format!("/proc/self/fd/{}/{fresh}", self.directory.as_raw_fd());
        match rustix::fs::unlinkat(&self.directory, &fresh, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error),
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(address)?)?;
        rustix::fs::chmodat(&self.directory, &fresh, OURS_ALONE, AtFlags::empty())?;
        rustix::net::listen(&socket, BACKLOG)?;
        let stat = rustix::fs::statat(&self.directory, &fresh, AtFlags::SYMLINK_NOFOLLOW)?;
        rustix::fs::renameat(&self.directory, &fresh, &self.directory, &self.name)?;
        Ok((socket, identity(&stat)))
    }

    fn stat(&self) -> rustix::io::Result<Stat> {
        rustix::fs::statat(&self.directory, &self.name, AtFlags::SYMLINK_NOFOLLOW)
    }
}

/// Follows the symbolic links of a directory's path, so that what is checked is what is used.
fn real_directory(directory: &Path) -> Result<PathBuf, SocketError> {
    let real = directory.canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => SocketError::Missing(directory.to_owned()),
        io::ErrorKind::NotADirectory => SocketError::NotADirectory(directory.to_owned()),
        _ => failed("examine", directory, error),
    })?;
    if real.is_dir() { Ok(real) } else { Err(SocketError::NotADirectory(real)) }
}

/// Checks that nobody but root and us can change what the socket's directory holds.
///
/// A sticky directory of root's may be above it but not be it: it protects what is there from other users, and lets any
/// of them listen at the path whenever the plugin does not.
fn check_directory(real: &Path) -> Result<(), SocketError> {
    let found = real.symlink_metadata().map_err(|error| failed("examine", real, error))?;
    let (owner, mode, ours) = (found.uid(), found.mode() & 0o7777, our_uid());
    if owner != 0 && owner != ours {
        return Err(SocketError::Owner { path: real.to_owned(), owner, ours });
    }
    if mode & 0o022 != 0 {
        return Err(SocketError::Writable { path: real.to_owned(), mode });
    }
    Ok(durable::check_ancestors(real, ours)?)
}

fn our_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn failed(step: &'static str, path: &Path, error: impl Into<io::Error>) -> SocketError {
    SocketError::Io { step, path: path.to_owned(), error: error.into() }
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        fs::{self, Permissions},
        os::unix::{fs::PermissionsExt, fs::symlink, net::UnixStream},
        time::Duration,
    };

    use super::*;
    use crate::grpc::testing::Process;

    fn parse(text: &str) -> Address {
        text.parse().unwrap()
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    /// The text and the hint of why nothing can be bound at `path`.
    fn refusal(path: &Path) -> (String, String) {
        let error = bind(&Address::Path(path.to_owned())).unwrap_err();
        (error.to_string(), error.hint().unwrap_or_default())
    }

    fn answers(path: &Path) -> bool {
        UnixStream::connect(path).is_ok()
    }

    #[test]
    fn an_address_is_read_and_written_in_every_form() {
        for text in ["/run/claviger/kms.sock", "unix:///run/claviger/kms.sock"] {
            let address = parse(text);
            assert_eq!(address, Address::Path("/run/claviger/kms.sock".into()));
            assert_eq!(address.to_string(), "/run/claviger/kms.sock");
            assert_eq!(address.endpoint(), "unix:///run/claviger/kms.sock");
        }
        for text in ["@claviger", "unix:///@claviger", "/@claviger"] {
            let address = parse(text);
            assert_eq!(address, Address::Abstract("claviger".into()));
            assert_eq!(address.to_string(), "@claviger");
            assert_eq!(address.endpoint(), "unix:///@claviger");
        }
    }

    #[test]
    fn an_address_that_could_be_misread_is_refused() {
        for (text, expected) in [
            ("kms.sock", "an absolute path, or @ and a name"),
            ("unix://kms.sock", "an absolute path, or @ and a name"),
            ("unix:/run/kms.sock", "an absolute path, or @ and a name"),
            ("", "an absolute path, or @ and a name"),
            ("/", "a name at its end"),
            ("/run/claviger/", "a name at its end"),
            ("/run/claviger/..", "a name at its end"),
            ("/run/claviger/.", "a name at its end"),
            ("@", "a name at its end"),
            ("/run/a b", "no other characters than letters, digits and plain punctuation"),
            ("/run/a%20b", "no other characters than letters, digits and plain punctuation"),
            ("/run/a?b", "no other characters than letters, digits and plain punctuation"),
            ("/run/a\nb", "no other characters than letters, digits and plain punctuation"),
            ("/run/é", "no other characters than letters, digits and plain punctuation"),
            ("@a/b", "no other characters than letters, digits and plain punctuation"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(error.to_string(), format!("socket address {text:?}: expected {expected}"));
            assert_eq!(error.hint().unwrap(), "--socket /run/claviger/kms.sock, or --socket @claviger");
        }
    }

    #[test]
    fn an_address_ends_where_sun_path_does() {
        for start in ["/", "@"] {
            let fits = format!("{start}{}", "x".repeat(if start == "/" { 106 } else { 107 }));
            parse(&fits);
            let long = format!("{fits}x");
            let text =
                format!("socket address {long:?}: 108 bytes, expected at most 107, the size of the kernel's sun_path");
            assert_eq!(long.parse::<Address>().unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn the_longest_path_is_bound_and_connects() {
        let dir = tempfile::tempdir().unwrap();
        let start = format!("{}/", dir.path().display());
        let path = format!("{start}{}", "x".repeat(ADDRESS_LIMIT - start.len()));
        let _listener = bind(&parse(&path)).unwrap();
        assert!(answers(path.as_ref()));
    }

    #[test]
    fn only_our_user_may_open_the_socket_and_its_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kms.sock");
        let _listener = bind(&Address::Path(path.clone())).unwrap();
        for file in [&path, &dir.path().join("kms.sock.lock")] {
            assert_eq!(fs::metadata(file).unwrap().mode() & 0o7777, 0o600, "{}", file.display());
        }
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
    }

    #[test]
    fn what_a_killed_plugin_left_is_replaced() {
        const SOCKET: &str = "CLAVIGER_TEST_SOCKET_TO_HOLD";
        if let Ok(socket) = env::var(SOCKET) {
            let _listener = bind(&parse(&socket)).unwrap();
            return std::thread::sleep(Duration::from_mins(1));
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kms.sock");
        let test = "grpc::socket::tests::what_a_killed_plugin_left_is_replaced";
        let mut plugin = Process::start(test, SOCKET, &path);
        while !answers(&path) {
            assert!(plugin.0.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(refusal(&path).0.ends_with("is held by a live plugin"));
        drop(plugin);
        assert!(path.exists() && !answers(&path));
        let lock = fs::metadata(dir.path().join("kms.sock.lock")).unwrap().ino();
        fs::write(dir.path().join(format!(".claviger-{lock:x}")), "of a start that was killed").unwrap();

        let _listener = bind(&Address::Path(path.clone())).unwrap();
        assert!(answers(&path));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
    }

    #[test]
    fn a_live_plugin_keeps_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("kms.sock"), dir.path().join("link"));
        symlink(dir.path(), &link).unwrap();
        let first = bind(&Address::Path(path.clone())).unwrap();
        for other in [path.clone(), link.join("kms.sock")] {
            let (text, hint) = refusal(&other);
            assert_eq!(text, format!("refusing to listen: {} is held by a live plugin", path.display()));
            assert_eq!(hint, format!("stop it first; to find it: fuser {}.lock", path.display()));
        }
        assert!(answers(&path));
        drop(first);
        bind(&Address::Path(path)).unwrap();
    }

    #[test]
    fn two_sockets_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one.sock"), dir.path().join("two.sock"));
        let _listeners = [bind(&Address::Path(one.clone())).unwrap(), bind(&Address::Path(two.clone())).unwrap()];
        assert!(answers(&one) && answers(&two));
    }

    #[test]
    fn only_our_own_socket_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kms.sock");
        drop(bind(&Address::Path(path.clone())).unwrap());
        assert!(!path.exists());

        let ours = bind(&Address::Path(path.clone())).unwrap();
        fs::remove_file(&path).unwrap();
        let _theirs = UnixListener::bind(&path).unwrap();
        drop(ours);
        assert!(answers(&path));
    }

    #[test]
    fn an_abstract_name_is_bound_once() {
        let name = format!("claviger-test-{}", std::process::id());
        let address = Address::Abstract(name.clone());
        let first = bind(&address).unwrap();
        let error = bind(&address).unwrap_err();
        assert_eq!(error.to_string(), format!("refusing to listen: @{name} is held by a live plugin"));
        assert_eq!(error.hint().unwrap(), format!("stop it first; to find it: ss -xlp src @{name}"));
        drop(first);
        bind(&address).unwrap();
    }

    #[test]
    fn nothing_but_a_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let [file, folder, link] = ["file", "folder", "link"].map(|name| dir.path().join(name));
        fs::write(&file, "precious").unwrap();
        fs::create_dir(&folder).unwrap();
        let _elsewhere = UnixListener::bind(dir.path().join("elsewhere")).unwrap();
        symlink("elsewhere", &link).unwrap();
        for path in [&file, &folder, &link] {
            let (text, hint) = refusal(path);
            assert_eq!(text, format!("refusing to listen: {} is not a socket", path.display()));
            assert_eq!(hint, "move it away, or give another --socket");
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "precious");
        assert!(link.is_symlink());
    }

    #[test]
    fn a_lock_that_is_a_link_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        symlink("/etc/passwd", dir.path().join("kms.sock.lock")).unwrap();
        let path = dir.path().join("kms.sock");
        let expected = format!("cannot open the lock of {}: Too many levels of symbolic links", path.display());
        assert!(refusal(&path).0.starts_with(&expected));
    }

    #[test]
    fn what_the_kernel_refuses_is_passed_on() {
        let dir = tempfile::tempdir().unwrap();
        let (path, circle) = (dir.path().join("kms.sock"), dir.path().join("circle"));
        symlink(&circle, &circle).unwrap();
        let (text, hint) = refusal(&circle.join("kms.sock"));
        assert!(text.starts_with(&format!("cannot examine {}: Too many levels", circle.display())), "{text}");
        assert_eq!(hint, "");

        drop(bind(&Address::Path(path.clone())).unwrap());
        let lock = fs::metadata(dir.path().join("kms.sock.lock")).unwrap().ino();
        fs::create_dir(dir.path().join(format!(".claviger-{lock:x}"))).unwrap();
        let (text, _) = refusal(&path);
        assert!(text.starts_with(&format!("cannot listen on {}: Is a directory", path.display())), "{text}");
    }

    fn own_directory_hint() -> String {
        format!("give the socket a directory of its own: install -d -m 0750 -o {} /run/claviger", our_uid())
    }

    #[test]
    fn a_directory_that_is_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let (missing, file) = (dir.path().join("missing"), dir.path().join("file"));
        let (text, hint) = refusal(&missing.join("kms.sock"));
        assert_eq!(text, format!("refusing to listen: directory {} does not exist", missing.display()));
        assert_eq!(hint, format!("install -d -m 0750 -o {} {}", our_uid(), missing.display()));

        fs::write(&file, "").unwrap();
        let (text, hint) = refusal(&file.join("kms.sock"));
        assert_eq!(text, format!("refusing to listen: {} is not a directory", file.display()));
        assert_eq!(hint, "move it away, or give another --socket");
        let (text, _) = refusal(&file.join("below/kms.sock"));
        assert_eq!(text, format!("refusing to listen: {} is not a directory", file.join("below").display()));
    }

    #[test]
    fn a_directory_that_others_can_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, who) in [(0o775, "its group"), (0o757, "others"), (0o777, "others"), (0o770, "its group")] {
            chmod(dir.path(), mode);
            let (text, hint) = refusal(&dir.path().join("kms.sock"));
            let path = dir.path().display();
            assert_eq!(text, format!("refusing to listen: {path} is writable by {who} (mode {mode:04o})"));
            assert_eq!(hint, own_directory_hint());
        }
        chmod(dir.path(), 0o1777);
        let (text, hint) = refusal(&dir.path().join("kms.sock"));
        let path = dir.path().display();
        assert_eq!(text, format!("refusing to listen: {path} is writable by others (mode 1777)"));
        assert_eq!(hint, own_directory_hint());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_below_one_that_others_can_write_to_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let below = dir.path().join("below");
        fs::create_dir(&below).unwrap();
        chmod(&below, 0o750);
        chmod(dir.path(), 0o777);
        let outside = tempfile::tempdir().unwrap();
        symlink(&below, outside.path().join("link")).unwrap();
        for directory in [below.clone(), outside.path().join("link")] {
            let (text, hint) = refusal(&directory.join("kms.sock"));
            let expected = format!(
                "refusing to listen: {} is writable by others (mode 0777), and is above {}",
                dir.path().display(),
                below.display()
            );
            assert_eq!(text, expected);
            assert_eq!(hint, own_directory_hint());
        }
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        let (theirs, ours) = (tempfile::tempdir().unwrap(), our_uid());
        if ours != 0 {
            return; // Only root can give a directory away.
        }
        std::os::unix::fs::chown(theirs.path(), Some(4711), None).unwrap();
        let (text, hint) = refusal(&theirs.path().join("kms.sock"));
        let path = theirs.path().display();
        assert_eq!(text, format!("refusing to listen: {path} is owned by uid 4711, expected root or uid 0"));
        assert_eq!(hint, own_directory_hint());
    }

    #[test]
    fn a_directory_that_takes_no_files_is_refused() {
        let (text, hint) = refusal(Path::new("/sys/kernel/kms.sock"));
        let ours = our_uid();
        assert_eq!(text, format!("refusing to listen: directory /sys/kernel is not writable by uid {ours}"));
        assert_eq!(hint, own_directory_hint());
    }
}
