//! Gets the plugin a socket that listens: binds it, takes it over from another plugin, or receives it from systemd.
//!
//! A plugin that listens at a path holds the path's lock. With [`take_over`], the next plugin renames its own socket
//! over that of a live plugin. The live one notices that within a second, answers what is in flight, ends, and leaves
//! the lock to the next one. Meanwhile the path always leads to a socket that listens. Only one plugin at a time may
//! take over.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixListener},
    },
    path::Path,
    thread,
    time::Duration,
};

use super::{
    address::Address,
    claim::Claim,
    error::{SocketError, failed},
    socket_path::{Access, Occupant, SocketLock, SocketPath},
};

/// A socket that listens, and the claim to its path while it listens.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    claim: Option<Claim>,
}

impl Listener {
    /// Whether this socket has replaced the socket of another plugin, which has not ended yet.
    pub fn takes_over(&self) -> bool {
        self.claim.as_ref().is_some_and(Claim::takes_over)
    }

    /// Registers the socket with the runtime in which this is called. Dropping the claim gives the path up.
    ///
    /// # Errors
    /// When the runtime cannot take the socket.
    pub fn into_tokio(self) -> io::Result<(tokio::net::UnixListener, Option<Claim>)> {
        Ok((tokio::net::UnixListener::from_std(self.socket)?, self.claim))
    }
}

/// Returns the socket that systemd made and passed on (`sd_listen_fds(3)`), if it did.
///
/// # Errors
/// When systemd passed on something else than a Unix socket that listens.
pub fn inherited() -> io::Result<Option<Listener>> {
    let Some(socket) = listenfd::ListenFd::from_env().take_unix_listener(0)? else { return Ok(None) };
    socket.set_nonblocking(true)?;
    Ok(Some(Listener { socket, claim: None }))
}

/// Listens on `address`.
///
/// # Errors
/// When another plugin holds the address, its path leads to something else, or other users could put their own socket
/// there.
pub fn bind(address: &Address, access: Access) -> Result<Listener, SocketError> {
    match address {
        Address::Path(path) => match try_listen(SocketPath::open(path)?, access, refuse_stranger)? {
            ListenAttempt::Listening(listener) => Ok(listener),
            ListenAttempt::Occupied(path) => Err(SocketError::Held(Address::Path(path.path().to_owned()))),
        },
        Address::Abstract(name) if access.group.is_some() => Err(SocketError::AbstractGroup(name.clone())),
        Address::Abstract(name) => bind_abstract(name),
    }
}

/// Listens on `address`, and replaces the socket of a plugin that listens there. Call it when all calls can be
/// answered.
///
/// # Errors
/// Those of [`bind`]; when another plugin is already taking over; or when the address is abstract, where nothing can be
/// replaced.
pub fn take_over(address: &Address, access: Access) -> Result<Listener, SocketError> {
    let Address::Path(path) = address else { return Err(SocketError::AbstractTakeOver(address.clone())) };
    match try_listen(SocketPath::open(path)?, access, |_| Ok(()))? {
        ListenAttempt::Listening(listener) => Ok(listener),
        ListenAttempt::Occupied(path) => listen_beside(path, access),
    }
}

/// Checks that no program listens at `address` without the lock that every plugin holds: [`take_over`] would replace
/// its socket. Call it before the process confines itself, because it connects.
///
/// # Errors
/// When such a program listens there, or its path cannot be used.
pub fn check_stranger(address: &Address) -> Result<(), SocketError> {
    let Address::Path(path) = address else { return Ok(()) };
    let path = SocketPath::open(path)?;
    let lock = path.open_lock(SocketLock::Listen)?;
    let is_plugin = !path.try_lock(&lock)? || path.has_successor()?;
    if is_plugin { Ok(()) } else { refuse_stranger(&path) }
}

/// Refuses a path at which a program listens. The caller holds the lock of the path, so that program is no plugin.
fn refuse_stranger(path: &SocketPath) -> Result<(), SocketError> {
    // The kernel may close the lock of a plugin that was killed a moment before its socket.
    let is_still_answered = || {
        thread::sleep(CLOSED_WITHIN);
        path.is_answered()
    };
    let is_socket = matches!(path.look()?, Occupant::Socket(_));
    let is_stranger = is_socket && path.is_answered() && is_still_answered();
    if is_stranger { Err(SocketError::Stranger(path.path().to_owned())) } else { Ok(()) }
}

/// The longest time between the ends of the lock and of the socket of a process that was killed.
const CLOSED_WITHIN: Duration = Duration::from_millis(100);

/// The outcome of an attempt to listen at a path.
enum ListenAttempt {
    /// The attempt succeeded, because nobody listened at the path.
    Listening(Listener),
    /// Another plugin listens at the path, or is taking it over.
    Occupied(SocketPath),
}

/// Listens at a path where nobody listens. Calls `check` while it holds the lock of the path.
fn try_listen(
    path: SocketPath,
    access: Access,
    check: impl FnOnce(&SocketPath) -> Result<(), SocketError>,
) -> Result<ListenAttempt, SocketError> {
    let lock = path.open_lock(SocketLock::Listen)?;
    if !path.try_lock(&lock)? || path.has_successor()? {
        return Ok(ListenAttempt::Occupied(path));
    }
    check(&path)?;
    let (socket, identity) = path.listen(&lock, access)?;
    let claim = Claim::new(path, access, identity, lock);
    Ok(ListenAttempt::Listening(Listener { socket: socket.into(), claim: Some(claim) }))
}

/// Listens at a path where another plugin listens. The claim waits for that plugin's lock.
fn listen_beside(path: SocketPath, access: Access) -> Result<Listener, SocketError> {
    let (lock, next) = (path.open_lock(SocketLock::Listen)?, path.open_lock(SocketLock::TakeOver)?);
    if !path.try_lock(&next)? {
        return Err(SocketError::Followed(path.path().to_owned()));
    }
    let (socket, identity) = path.listen(&next, access)?;
    let claim = Claim::new(path, access, identity, lock).after(next);
    Ok(Listener { socket: socket.into(), claim: Some(claim) })
}

fn bind_abstract(name: &str) -> Result<Listener, SocketError> {
    let bound = SocketAddr::from_abstract_name(name).and_then(|address| UnixListener::bind_addr(&address));
    let socket = bound.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => SocketError::Held(Address::Abstract(name.to_owned())),
        _ => failed("listen on", Path::new(name), error),
    })?;
    socket.set_nonblocking(true).map_err(|error| failed("set the flags of", Path::new(name), error))?;
    Ok(Listener { socket, claim: None })
}

#[cfg(test)]
mod tests {
    use std::{
        env, fs,
        os::unix::{
            fs::{MetadataExt, symlink},
            net::UnixDatagram,
        },
    };

    use super::*;
    use crate::listen::{
        address::ADDRESS_LIMIT,
        claim::SocketFate,
        testing::{Process, answers, bind, refused},
    };

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
        let test = "listen::bind::tests::what_a_killed_plugin_left_is_replaced";
        let mut plugin = Process::start(test, SOCKET, &path);
        while !answers(&path) {
            assert!(plugin.0.try_wait().unwrap().is_none());
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(refused(&path).ends_with("is held by a live plugin"));
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
            let text = refused(&other);
            assert_eq!(text, format!("refusing to listen: {} is held by a live plugin", path.display()));
        }
        assert!(answers(&path));
        drop(first);
        bind(&path);
    }

    #[test]
    fn the_socket_of_another_program_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let [streams, datagrams] = ["streams.sock", "datagrams.sock"].map(|name| dir.path().join(name));
        // The program accepts no connection.
        let theirs = UnixListener::bind(&streams).unwrap();
        let _theirs_too = UnixDatagram::bind(&datagrams).unwrap();
        for path in [&streams, &datagrams] {
            let expected = format!(
                "refusing to listen: another program listens at {}, and it does not hold the lock of a plugin",
                path.display()
            );
            assert_eq!(refused(path), expected);
            assert_eq!(check_stranger(&Address::Path(path.clone())).unwrap_err().to_string(), expected);
        }
        assert!(answers(&streams), "it still listens");
        drop(theirs);
        let ours = bind(&streams);
        check_stranger(&Address::Path(streams.clone())).unwrap();
        assert!(leads_to(&streams, &ours));
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
        drop(first);
        super::bind(&address, Access::default()).unwrap();
    }

    fn take_over(path: &Path) -> Result<Listener, SocketError> {
        super::take_over(&Address::Path(path.to_owned()), Access::default())
    }

    fn fate(listener: &mut Listener) -> SocketFate {
        listener.claim.as_mut().unwrap().restore_socket()
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
        assert_eq!((fate(&mut first), fate(&mut second)), (SocketFate::Replaced, SocketFate::There));
        assert!(leads_to(&path, &second) && !leads_to(&path, &first));
        assert!(second.takes_over() && !first.takes_over());
        // The first successor is still there, so nobody else can take the path over.
        let error = take_over(&path).unwrap_err();
        assert_eq!(error.to_string(), format!("refusing to listen: another plugin is taking {} over", path.display()));
        assert!(refused(&path).ends_with("is held by a live plugin"));

        drop(first);
        assert!(answers(&path), "only the second one may remove its socket");
        assert!(refused(&path).ends_with("is held by a live plugin"), "the second one has not looked yet");
        assert_eq!(fate(&mut second), SocketFate::There);
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
        assert!(!only.takes_over());
        assert!(leads_to(&path, &only));
        assert!(refused(&path).ends_with("is held by a live plugin"));
    }

    #[test]
    fn a_name_without_a_file_has_no_successor_and_no_group() {
        let address = Address::Abstract("claviger-test-names".to_owned());
        let error = super::take_over(&address, Access::default()).unwrap_err();
        let text = "refusing to listen: @claviger-test-names is an abstract socket, which cannot be taken over";
        assert_eq!(error.to_string(), text);
        let error = super::bind(&address, Access { group: Some(7) }).unwrap_err();
        let text = "refusing to listen: @claviger-test-names is an abstract socket, which has no group";
        assert_eq!(error.to_string(), text);
    }
}
