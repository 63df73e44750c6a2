//! Where the plugin listens: a socket that nobody else can have put or replaced, and how the next plugin takes its place.
//!
//! [`address`] is what people write, [`place`] a name in a safe directory. A plugin at a path holds its lock. With
//! [`take_over`] the next one renames its own socket over a live plugin's, which sees that within a second, ends in
//! peace, and leaves the lock to it: at every instant somebody listens at the path. Only one can be next at a time.

mod address;
mod error;
mod place;

use std::{
    io,
    os::{
        fd::OwnedFd,
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    path::Path,
};

use self::place::{Found, Identity, Place, Right, failed};
pub use self::{address::Address, error::SocketError};

/// Who may open the socket besides its owner, who is the plugin's user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Access {
    /// The group, by its number.
    pub group: Option<u32>,
}

/// A socket that listens, and the claim to its path for as long as it does.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    claim: Option<Claim>,
}

impl Listener {
    /// Whether another plugin is still there, whose socket this one has replaced.
    pub fn follows(&self) -> bool {
        self.claim.as_ref().is_some_and(|claim| claim.next.is_some())
    }

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
pub fn bind(address: &Address, access: Access) -> Result<Listener, SocketError> {
    match address {
        Address::Path(path) => {
            let place = Place::open(path)?;
            stay(place, access)?.map_err(|place| SocketError::Held(Address::Path(place.path().to_owned())))
        }
        Address::Abstract(name) if access.group.is_some() => Err(SocketError::AbstractGroup(name.clone())),
        Address::Abstract(name) => bind_abstract(name),
    }
}

/// Listens on `address`, in the place of the plugin that may hold it. Call it when all calls can be answered.
///
/// # Errors
/// As [`bind`]; when another plugin is about to do so; or when the address is abstract, where nothing can be replaced.
pub fn take_over(address: &Address, access: Access) -> Result<Listener, SocketError> {
    let Address::Path(path) = address else { return Err(SocketError::AbstractTakeOver(address.clone())) };
    match stay(Place::open(path)?, access)? {
        Ok(listener) => Ok(listener),
        Err(place) => follow(place, access),
    }
}

/// Listens where nobody does; gives the place back if somebody does, or is about to.
fn stay(place: Place, access: Access) -> Result<Result<Listener, Place>, SocketError> {
    let lock = place.open_lock(Right::Stay)?;
    if !place.try_lock(&lock)? || place.is_followed()? {
        return Ok(Err(place));
    }
    let (socket, identity) = place.listen(&lock, access)?;
    let claim = Claim { place, access, identity, lock, next: None };
    Ok(Ok(Listener { socket: socket.into(), claim: Some(claim) }))
}

/// Listens where another plugin does; the claim waits for that one's lock.
fn follow(place: Place, access: Access) -> Result<Listener, SocketError> {
    let (lock, next) = (place.open_lock(Right::Stay)?, place.open_lock(Right::Follow)?);
    if !place.try_lock(&next)? {
        return Err(SocketError::Followed(place.path().to_owned()));
    }
    let (socket, identity) = place.listen(&next, access)?;
    let claim = Claim { place, access, identity, lock, next: Some(next) };
    Ok(Listener { socket: socket.into(), claim: Some(claim) })
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

/// What has become of our socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It is where it was put.
    There,
    /// Another socket is in its place.
    Replaced,
    /// It was removed.
    Gone,
}

/// The right to a path: holds its lock, and removes our socket when dropped.
#[derive(Debug)]
pub struct Claim {
    place: Place,
    access: Access,
    identity: Identity,
    lock: OwnedFd,
    /// The lock of the one who comes next, until ours is free.
    next: Option<OwnedFd>,
}

impl Claim {
    /// Looks after our socket, and after the lock if another still has it. What cannot be seen, and what is no socket,
    /// changes nothing.
    pub(super) fn look_after(&mut self) -> Fate {
        if self.next.is_some() && self.place.try_lock(&self.lock).unwrap_or(false) {
            self.next = None;
        }
        match self.place.look() {
            Ok(Found::Nothing) => Fate::Gone,
            Ok(Found::Socket(identity)) if identity != self.identity => Fate::Replaced,
            Ok(Found::Socket(_) | Found::Other) | Err(_) => Fate::There,
        }
    }

    /// Makes our socket anew, after it was removed.
    pub(super) fn restore(&mut self) -> Result<tokio::net::UnixListener, SocketError> {
        let (socket, identity) = self.place.listen(&self.lock, self.access)?;
        self.identity = identity;
        tokio::net::UnixListener::from_std(socket.into()).map_err(|error| failed("listen on", self.place.path(), error))
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.place.remove(self.identity);
    }
}

/// What the tests of this folder share.
#[cfg(test)]
mod testing {
    use std::{os::unix::net::UnixStream, path::Path};

    use super::{Access, Address, Listener};

    pub(super) fn bind(path: &Path) -> Listener {
        super::bind(&Address::Path(path.to_owned()), Access::default()).unwrap()
    }

    /// The text and the hint of why nothing can be bound at `path`.
    pub(super) fn refusal(path: &Path) -> (String, String) {
        let error = super::bind(&Address::Path(path.to_owned()), Access::default()).unwrap_err();
        (error.to_string(), error.hint().unwrap_or_default())
    }

    pub(super) fn answers(path: &Path) -> bool {
        UnixStream::connect(path).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        env, fs,
        os::unix::fs::{MetadataExt, symlink},
        time::Duration,
    };

    use super::{
        address::ADDRESS_LIMIT,
        testing::{answers, bind, refusal},
        *,
    };
    use crate::grpc::testing::Process;

    #[test]
    fn the_longest_path_is_bound_and_connects() {
        let dir = tempfile::tempdir().unwrap();
        let start = format!("{}/", dir.path().display());
        let path = format!("{start}{}", "x".repeat(ADDRESS_LIMIT - start.len()));
        let _listener = bind(path.as_ref());
        assert!(answers(path.as_ref()));
    }

    #[test]
    fn what_a_killed_plugin_left_is_replaced() {
        const SOCKET: &str = "CLAVIGER_TEST_SOCKET_TO_HOLD";
        if let Ok(socket) = env::var(SOCKET) {
            let _listener = bind(socket.as_ref());
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

        let _listener = bind(&path);
        assert!(answers(&path));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 2);
    }

    #[test]
    fn a_live_plugin_keeps_its_path() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("kms.sock"), dir.path().join("link"));
        symlink(dir.path(), &link).unwrap();
        let first = bind(&path);
        for other in [path.clone(), link.join("kms.sock")] {
            let (text, hint) = refusal(&other);
            assert_eq!(text, format!("refusing to listen: {} is held by a live plugin", path.display()));
            assert_eq!(hint, format!("stop it first, or use --take-over; to find it: fuser {}.lock", path.display()));
        }
        assert!(answers(&path));
        drop(first);
        bind(&path);
    }

    #[test]
    fn two_sockets_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (dir.path().join("one.sock"), dir.path().join("two.sock"));
        let _listeners = [bind(&one), bind(&two)];
        assert!(answers(&one) && answers(&two));
    }

    #[test]
    fn an_abstract_name_is_bound_once() {
        let name = format!("claviger-test-{}", std::process::id());
        let address = Address::Abstract(name.clone());
        let first = super::bind(&address, Access::default()).unwrap();
        let error = super::bind(&address, Access::default()).unwrap_err();
        assert_eq!(error.to_string(), format!("refusing to listen: @{name} is held by a live plugin"));
        assert_eq!(error.hint().unwrap(), format!("stop it first; to find it: ss -xlp src @{name}"));
        drop(first);
        super::bind(&address, Access::default()).unwrap();
    }

    fn take_over(path: &Path) -> Result<Listener, SocketError> {
        super::take_over(&Address::Path(path.to_owned()), Access::default())
    }

    fn fate(listener: &mut Listener) -> Fate {
        listener.claim.as_mut().unwrap().look_after()
    }

    /// Whether a connection to `path` lands at this socket.
    fn leads_to(path: &Path, listener: &Listener) -> bool {
        assert!(answers(path));
        listener.socket.accept().is_ok()
    }

    #[test]
    fn the_next_plugin_takes_the_path_and_then_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kms.sock");
        let mut first = bind(&path);
        let mut second = take_over(&path).unwrap();
        assert_eq!((fate(&mut first), fate(&mut second)), (Fate::Replaced, Fate::There));
        assert!(leads_to(&path, &second) && !leads_to(&path, &first));
        assert!(second.follows() && !first.follows());
        // The first one is still there: nobody else can come in, whichever way.
        let next = dir.path().join("kms.sock.lock").display().to_string();
        let error = take_over(&path).unwrap_err();
        assert_eq!(error.to_string(), format!("refusing to listen: another plugin is taking {} over", path.display()));
        let hint = format!("the plugin that it replaces has not ended yet; to find both: fuser {next}");
        assert_eq!(error.hint().unwrap(), hint);
        assert!(refusal(&path).0.ends_with("is held by a live plugin"));

        drop(first);
        assert!(answers(&path), "only the second one may remove its socket");
        assert!(refusal(&path).0.ends_with("is held by a live plugin"), "the second one has not looked yet");
        assert_eq!(fate(&mut second), Fate::There);
        let third = take_over(&path).unwrap();
        drop(second);
        assert!(leads_to(&path, &third));
        drop(third);
        assert!(!path.exists());
    }

    #[test]
    fn taking_over_from_nobody_is_starting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kms.sock");
        let only = take_over(&path).unwrap();
        assert!(!only.follows());
        assert!(leads_to(&path, &only));
        assert!(refusal(&path).0.ends_with("is held by a live plugin"));
    }

    #[test]
    fn a_name_without_a_file_has_no_successor_and_no_group() {
        let address = Address::Abstract("claviger-test-names".to_owned());
        let error = super::take_over(&address, Access::default()).unwrap_err();
        let text = "refusing to listen: @claviger-test-names is an abstract socket, which cannot be taken over";
        assert_eq!(error.to_string(), text);
        assert_eq!(error.hint().unwrap(), "stop the other plugin first, or serve on a path");
        let error = super::bind(&address, Access { group: Some(7) }).unwrap_err();
        let text = "refusing to listen: @claviger-test-names is an abstract socket, which has no group";
        assert_eq!(error.to_string(), text);
        assert_eq!(error.hint().unwrap(), "leave --socket-group out: --allow-uid alone says who may connect");
    }

    #[tokio::test]
    async fn a_socket_that_was_removed_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kms.sock");
        let mut claim = bind(&path).claim.unwrap();
        fs::remove_file(&path).unwrap();
        assert_eq!(claim.look_after(), Fate::Gone);
        let listener = claim.restore().unwrap();
        assert!(answers(&path));
        listener.accept().await.unwrap();
        assert_eq!(claim.look_after(), Fate::There);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "somebody's").unwrap();
        assert_eq!(claim.look_after(), Fate::There, "what is no socket is nobody's business");
        assert!(matches!(claim.restore(), Err(SocketError::Occupied(_))));
    }
}
