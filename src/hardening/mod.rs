//! Gives up the rights that a daemon does not need: core dumps, files, system calls.
//!
//! These layers add to those of a service manager or a container, and are in force without either. If the kernel lacks
//! a layer, the plugin reports that and starts all the same: a plugin that refuses to start does more harm than a
//! plugin without one layer. Invariant: a layer that is reported as on holds for every thread.
//!
//! A layer cannot be undone. A daemon restricts its files before it starts the first thread, which is the thread of the
//! log. It restricts its system calls after it has started every thread, listens, and has opened everything that it
//! needs later. `daemon::start` has the order. A daemon that serves metrics on a port names the port in [`Needs`]. It
//! can make no other network socket.

mod calls;
mod dumps;
mod files;
mod filter;
mod layers;

pub use self::{
    calls::OwnFacts,
    dumps::{forbid_dumps, lock_memory},
    files::{FilesError, Needs, Restricted, restrict},
    filter::restrict_calls,
    layers::{Layer, LayerState, Layers, MEMORY},
};

#[cfg(test)]
mod tests {
    use std::{
        env, fs,
        io::{self, ErrorKind, Write},
        net::{SocketAddr, TcpListener, TcpStream},
        os::{
            fd::OwnedFd,
            unix::{
                fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
                net::{UnixDatagram, UnixListener, UnixStream},
                process::CommandExt,
            },
        },
        path::{Path, PathBuf},
        process::{Command, id},
        thread,
    };

    use rustix::{
        fs::{AtFlags, Mode, OFlags},
        net::{AddressFamily, Protocol, SendFlags, SocketType},
        process::{DumpableBehavior, set_dumpable_behavior},
    };

    use super::*;

    /// The environment variable that tells a test to run its second part in a process of its own, because a layer
    /// cannot be undone.
    const INSIDE: &str = "CLAVIGER_TEST_INSIDE";

    /// Runs this test again as a process that is confined to `directory`, and fails if the process fails.
    fn inside(test: &str, directory: &Path) {
        let mut command = Command::new(env::current_exe().unwrap());
        let test = format!("hardening::tests::{test}");
        let output = command.args([&test, "--exact", "--nocapture"]).env(INSIDE, directory).output().unwrap();
        let printed = [output.stdout, output.stderr].concat();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&printed));
    }

    fn is_refused<T>(outcome: io::Result<T>) -> bool {
        outcome.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    }

    #[test]
    fn from_inside_no_file_and_no_port_is_reached_but_what_is_needed() {
        if let Some(directory) = env::var_os(INSIDE).map(PathBuf::from) {
            return try_files(&directory);
        }
        let dir = tempfile::tempdir().unwrap();
        for name in ["read", "read_file", "change", "listen", "other"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            fs::write(dir.path().join(name).join("file"), "bytes").unwrap();
            fs::write(dir.path().join(name).join("beside"), "bytes").unwrap();
        }
        inside("from_inside_no_file_and_no_port_is_reached_but_what_is_needed", dir.path());
    }

    fn try_files(dir: &Path) {
        let at = |name: &str| dir.join(name);
        let mut needs = Needs::default();
        needs.read.insert(at("read"));
        needs.read_file.extend([at("read_file/file"), at("missing"), at("other")]);
        needs.change.extend([at("change"), at("missing")]);
        needs.socket(&at("listen/socket"));
        let restricted = restrict(&needs).unwrap();
        if restricted.state == LayerState::Unsupported {
            return println!("skipped: this kernel has no Landlock");
        }
        assert_eq!(fs::read(at("read/file")).unwrap(), b"bytes");
        assert_eq!(fs::read(at("read_file/file")).unwrap(), b"bytes");
        assert!(is_refused(fs::read(at("read_file/beside"))) && is_refused(fs::read_dir(at("read_file"))));
        fs::rename(at("change/file"), at("change/renamed")).unwrap();
        fs::write(at("change/file"), "new").unwrap();
        fs::remove_file(at("change/renamed")).unwrap();
        UnixListener::bind(at("listen/socket")).unwrap();
        assert!(fs::read_dir("/proc/self/fd").unwrap().count() > 0);

        assert!(is_refused(fs::read("/etc/passwd")) && is_refused(fs::read(at("other/file"))));
        assert!(is_refused(fs::read_dir("/")) && is_refused(fs::read_dir(dir)));
        assert!(is_refused(fs::read(format!("/proc/{}/mem", rustix::process::getppid().unwrap()))));
        assert!(is_refused(fs::write(at("read/new"), "")) && is_refused(fs::remove_file(at("read/file"))));
        assert!(is_refused(fs::write(at("read/file"), "")) && is_refused(fs::create_dir(at("change/dir"))));
        assert!(is_refused(UnixListener::bind(at("change/socket"))));
        assert!(is_refused(TcpListener::bind("127.0.0.1:0")));
        assert!(is_refused(
            rustix::process::test_kill_process(rustix::process::getppid().unwrap()).map_err(Into::into)
        ));
    }

    #[test]
    fn a_command_that_may_lock_its_memory_locks_all_of_it() {
        if env::var_os(INSIDE).is_none() {
            return inside("a_command_that_may_lock_its_memory_locks_all_of_it", Path::new("/"));
        }
        let locked = || -> u64 {
            let status = fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).unwrap();
            line.trim().trim_end_matches(" kB").parse().unwrap()
        };
        if !lock_memory() {
            return println!("skipped: this user may not lock memory");
        }
        let before = locked();
        let later = vec![7_u8; 8 << 20];
        assert!(before > 0 && locked() >= before + 8 * 1024, "{before} kB before, {} kB now", locked());
        drop(later);
    }

    /// The members of a group may open the socket. A daemon that runs as root creates it as a member of the group.
    /// Another daemon changes the group of the socket afterwards.
    #[test]
    fn from_inside_a_socket_gets_its_group_and_nothing_else_does() {
        if let Some(directory) = env::var_os(INSIDE).map(PathBuf::from) {
            return try_group(&directory);
        }
        let dir = tempfile::tempdir().unwrap();
        inside("from_inside_a_socket_gets_its_group_and_nothing_else_does", dir.path());
    }

    fn try_group(dir: &Path) {
        let file = dir.join("file");
        create(&file, 0o600).unwrap();
        let (is_root, group) = (rustix::process::geteuid().is_root(), rustix::process::getgid().as_raw());
        let socket_group = if is_root { 7 } else { group };
        crate::listen::keep_new_sockets_private();
        let own = OwnFacts { pid: id(), is_root, group, socket_group: Some(socket_group), owner: None };
        if restrict_calls(own).unwrap() == LayerState::Unsupported {
            return println!("skipped: this kernel has no seccomp filters");
        }
        let address = crate::listen::Address::Path(dir.join("kms.sock"));
        let access = crate::listen::Access { group: Some(socket_group) };
        let _listener = crate::listen::bind(&address, access).unwrap();
        let made = fs::metadata(dir.join("kms.sock")).unwrap();
        assert_eq!((made.gid(), made.mode() & 0o7777), (socket_group, 0o660));
        let private = crate::listen::Address::Path(dir.join("metrics.sock"));
        let _private = crate::listen::bind(&private, crate::listen::Access::default()).unwrap();
        let made = fs::metadata(dir.join("metrics.sock")).unwrap();
        assert_eq!((made.gid(), made.mode() & 0o7777), (group, 0o600));
        assert!(is_refused(fs::set_permissions(&file, fs::Permissions::from_mode(0o644))));
        if is_root {
            assert!(is_refused(fs::set_permissions(&file, fs::Permissions::from_mode(0o660))), "root's file");
            assert!(is_refused(std::os::unix::fs::chown(&file, None, Some(socket_group))), "root's file");
        }
    }

    #[test]
    fn from_inside_nothing_is_started_connected_to_or_looked_into() {
        if let Some(directory) = env::var_os(INSIDE).map(PathBuf::from) {
            return try_calls(&directory);
        }
        let dir = tempfile::tempdir().unwrap();
        let _listener = UnixListener::bind(dir.path().join("socket")).unwrap();
        inside("from_inside_nothing_is_started_connected_to_or_looked_into", dir.path());
    }

    /// The number of multipath TCP, which Landlock does not restrict.
    const MPTCP: Protocol = Protocol::from_raw(core::num::NonZeroU32::new(262).unwrap());

    /// Connects a TCP socket by sending on it.
    fn send_and_connect(socket: &OwnedFd, to: SocketAddr) -> io::Result<usize> {
        let flags = SendFlags::from_bits_retain(libc::MSG_FASTOPEN.unsigned_abs());
        rustix::net::sendto(socket, b"keys", flags, &to).map_err(Into::into)
    }

    /// Makes a file that has this mode from the start.
    fn create(path: &Path, mode: u32) -> io::Result<fs::File> {
        fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)
    }

    /// Tries modes and owners: root may not change those of any file, and new files must be private.
    fn try_modes(dir: &Path) {
        let file = dir.join("mode");
        create(&file, 0o600).unwrap();
        let chmod = |mode| {
            rustix::fs::chmodat(rustix::fs::CWD, &file, Mode::from_raw_mode(mode), AtFlags::empty()).map_err(Into::into)
        };
        for mode in [0o600, 0o640, 0o644, 0o660, 0o666, 0o4600] {
            assert!(is_refused(chmod(mode)), "{mode:o}");
        }
        for mode in [0o644, 0o660, 0o700, 0o4600, 0o6755] {
            assert!(is_refused(create(&dir.join(format!("{mode:o}")), mode)), "a new file of mode {mode:o}");
        }
        let unnamed = OFlags::TMPFILE | OFlags::WRONLY;
        assert!(
            is_refused(rustix::fs::open(dir, unnamed, Mode::from_raw_mode(0o755)).map_err(Into::into)),
            "O_TMPFILE"
        );
        let open = fs::File::open(&file).unwrap();
        assert!(is_refused(open.set_permissions(fs::Permissions::from_mode(0o644))), "fchmod");
        assert!(is_refused(std::os::unix::fs::chown(&file, Some(id()), None)), "chown");
        assert!(is_refused(std::os::unix::fs::fchown(&open, None, Some(id()))), "fchown");
        let ours = Some(rustix::fs::Gid::from_raw(rustix::process::getgid().as_raw()));
        let given = rustix::fs::chownat(rustix::fs::CWD, &file, None, ours, AtFlags::empty());
        assert!(is_refused(given.map_err(Into::into)), "fchownat");
    }

    fn try_calls(dir: &Path) {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let parent = rustix::process::getppid().unwrap();
        let other_thread = thread::spawn({
            let socket = dir.join("socket");
            move || {
                thread::park();
                is_refused(UnixStream::connect(socket))
            }
        });
        // The connection works before the restriction. Without this, its refusal afterwards would prove nothing.
        UnixStream::connect(dir.join("socket")).unwrap();
        // The daemon may have made this socket before the restriction. It cannot connect it afterwards.
        let unbound = rustix::net::socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        let datagrams = UnixDatagram::unbound().unwrap();
        let _receiver = UnixDatagram::bind(dir.join("datagrams")).unwrap();
        datagrams.send_to(b"before", dir.join("datagrams")).unwrap();
        let own = OwnFacts { pid: id(), is_root: true, group: 0, socket_group: None, owner: None };
        if restrict_calls(own).unwrap() == LayerState::Unsupported {
            return println!("skipped: this kernel has no seccomp filters");
        }
        assert!(is_refused(send_and_connect(&unbound, port.local_addr().unwrap())), "connecting while sending");
        assert!(is_refused(datagrams.send_to(b"after", dir.join("datagrams"))), "a datagram to another socket");
        for family in [AddressFamily::INET, AddressFamily::INET6] {
            for protocol in [None, Some(rustix::net::ipproto::TCP), Some(MPTCP)] {
                let socket = rustix::net::socket(family, SocketType::STREAM, protocol);
                assert!(is_refused(socket.map_err(Into::into)), "a socket of a network: {family:?}, {protocol:?}");
            }
        }
        try_modes(dir);
        let connected = TcpStream::connect(port.local_addr().unwrap());
        let started = thread::Builder::new().spawn(|| {});
        let executed = Command::new("/bin/true").exec();
        let attached = nix::sys::ptrace::attach(nix::unistd::Pid::from_raw(parent.as_raw_nonzero().get()));
        other_thread.thread().unpark();
        // Each attempt is an assertion of its own, so that a failure names the attempt.
        assert!(is_refused(UnixStream::connect(dir.join("socket"))), "connecting to a socket");
        assert!(is_refused(connected), "connecting to a port");
        assert!(other_thread.join().unwrap(), "connecting from another thread");
        assert!(is_refused(std::net::UdpSocket::bind("127.0.0.1:0")), "a datagram socket");
        assert!(is_refused(started), "a thread");
        assert!(is_refused(Command::new("/bin/true").status()), "a child");
        assert_eq!(executed.kind(), ErrorKind::PermissionDenied, "another program");
        assert_eq!(attached, Err(nix::errno::Errno::EPERM), "a debugger");
        assert!(is_refused(set_dumpable_behavior(DumpableBehavior::Dumpable).map_err(Into::into)), "dumps");
        assert!(is_refused(forbid_dumps()), "limits");
        assert!(is_refused(rustix::process::test_kill_process(parent).map_err(Into::into)), "a signal");
        // The daemon can still do what it needs.
        create(&dir.join("file"), 0o600).unwrap().write_all(b"written").unwrap();
        UnixListener::bind(dir.join("other")).unwrap();
    }
}
