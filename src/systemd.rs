//! Reports to systemd how the daemon is: ready, reloading, stopping, alive.
//!
//! Each report is one datagram on a socket that is opened once. Without systemd, nothing is sent. Invariant: a service
//! manager that does not read delays nothing. Source: `sd_notify(3)`, `sd_watchdog_enabled(3)`.

use std::{
    env, ffi::OsStr, fmt::Display, io, os::linux::net::SocketAddrExt, os::unix::ffi::OsStrExt, os::unix::net,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};
use tokio::{net::UnixDatagram, time::timeout};

/// The time limit for sending a message while systemd has no room for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The connection to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Systemd {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
}

impl Systemd {
    /// Opens the socket that the environment names, in the event loop in which it is called.
    ///
    /// # Errors
    /// When that socket cannot be opened.
    pub fn from_env() -> io::Result<Self> {
        let socket = env::var_os("NOTIFY_SOCKET").map(|address| connect(&address)).transpose()?;
        let variable = |name| env::var(name).ok();
        let watchdog = watchdog(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref());
        Ok(Self { watchdog: watchdog.filter(|_| socket.is_some()), socket })
    }

    /// Returns the interval of keep-alive messages if systemd expects them: half of its watchdog time.
    pub fn heartbeat(&self) -> Option<Duration> {
        self.watchdog.map(|limit| limit / 2)
    }

    /// Reports that the start or a reload is over.
    pub async fn ready(&self, status: &impl Display) {
        self.tell(&format!("READY=1\nSTATUS={status}")).await;
    }

    /// Reports that a reload begins. [`Self::ready`] ends it.
    pub async fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}")).await;
    }

    /// Reports that the daemon is about to end.
    pub async fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=answering what is in flight").await;
    }

    /// Reports that the daemon is alive.
    pub async fn alive(&self) {
        self.tell("WATCHDOG=1").await;
    }

    /// Sends a message. A failure is ignored, because there is nobody else to report it to.
    async fn tell(&self, message: &str) {
        if let Some(socket) = &self.socket {
            let _ = timeout(PATIENCE, socket.send(message.as_bytes())).await;
        }
    }
}

fn connect(address: &OsStr) -> io::Result<UnixDatagram> {
    let socket = net::UnixDatagram::unbound()?;
    match address.as_bytes().strip_prefix(b"@") {
        Some(name) => socket.connect_addr(&net::SocketAddr::from_abstract_name(name)?)?,
        None => socket.connect(address)?,
    }
    socket.set_nonblocking(true)?;
    UnixDatagram::from_std(socket)
}

/// Returns the watchdog's time, if it is set for this process and is not zero.
fn watchdog(microseconds: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let ours = pid.is_none_or(|pid| pid == std::process::id().to_string());
    let limit = Duration::from_micros(microseconds?.parse().ok()?);
    (ours && !limit.is_zero()).then_some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn said(receiver: &UnixDatagram) -> String {
        let mut message = [0; 256];
        let length = timeout(Duration::from_secs(20), receiver.recv(&mut message)).await.unwrap().unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    #[tokio::test]
    async fn each_message_is_as_systemd_reads_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let systemd = Systemd { socket: Some(connect(path.as_os_str()).unwrap()), watchdog: None };
        systemd.ready(&"serving").await;
        assert_eq!(said(&receiver).await, "READY=1\nSTATUS=serving");
        systemd.reloading().await;
        let reloading = said(&receiver).await;
        let now = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(now.parse::<u64>().is_ok(), "{reloading}");
        systemd.alive().await;
        assert_eq!(said(&receiver).await, "WATCHDOG=1");
        systemd.stopping().await;
        assert_eq!(said(&receiver).await, "STOPPING=1\nSTATUS=answering what is in flight");
    }

    #[tokio::test]
    async fn an_abstract_line_works_and_none_is_silence() {
        let name = format!("claviger-notify-{}", std::process::id());
        let address = net::SocketAddr::from_abstract_name(&name).unwrap();
        let receiver = net::UnixDatagram::bind_addr(&address).unwrap();
        let socket = connect(OsStr::new(&format!("@{name}"))).unwrap();
        Systemd { socket: Some(socket), watchdog: None }.alive().await;
        let mut message = [0; 16];
        assert_eq!(receiver.recv(&mut message).unwrap(), b"WATCHDOG=1".len());
        Systemd::default().ready(&"nobody hears it").await;
    }

    #[tokio::test]
    async fn a_manager_that_does_not_listen_holds_nothing_up() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let deaf = UnixDatagram::bind(&path).unwrap();
        let systemd = Systemd { socket: Some(connect(path.as_os_str()).unwrap()), watchdog: None };
        // The kernel queues a few messages; the first one beyond them has nowhere to go.
        let full = || systemd.socket.as_ref().is_some_and(|socket| socket.try_send(b"WATCHDOG=1").is_err());
        while !full() {}
        timeout(20 * PATIENCE, systemd.stopping()).await.unwrap();
        drop(deaf);
        timeout(20 * PATIENCE, systemd.stopping()).await.unwrap();
    }

    #[test]
    fn the_watchdog_is_ours_alone_and_never_zero() {
        let ours = std::process::id().to_string();
        let second = Some(Duration::from_secs(1));
        assert_eq!(watchdog(Some("1000000"), None), second);
        assert_eq!(watchdog(Some("1000000"), Some(&ours)), second);
        for (microseconds, pid) in [(None, None), (Some("0"), None), (Some("x"), None), (Some("1000000"), Some("1"))] {
            assert_eq!(watchdog(microseconds, pid), None, "{microseconds:?} {pid:?}");
        }
    }
}
