//! Chooses loopback ports for servers that get their port by a flag, and need the same port again after a restart.

use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU16, Ordering};

use super::error::{Context, Result};

/// The first port. The fixed ports of programs that a developer may run are below it.
const FIRST: u16 = 10_000;

/// How often a start is tried, if another process takes the port between the look at it and the server's bind.
const ATTEMPTS: usize = 4;

/// Returns a port of 127.0.0.1 on which nobody listens.
///
/// It is taken from below the kernel's range for outgoing connections: while a killed server is down, no client's
/// connection can then sit on its port and make its restart fail. Within this process no port is given twice until all
/// were given; other processes begin elsewhere, so that two test runs side by side hardly ever meet.
pub(crate) fn free_port() -> Result<u16> {
    static OFFSET: LazyLock<AtomicU16> = LazyLock::new(|| AtomicU16::new(random()));
    let count = first_outgoing_port().saturating_sub(FIRST);
    (0..count)
        .map(|_| FIRST + OFFSET.fetch_add(1, Ordering::Relaxed) % count)
        .find(|&port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
        .map_or_else(any_port, Ok)
}

/// Runs `start`, which chooses its ports by [`free_port`]. Runs it again if another process took one of them.
pub(crate) fn with_free_ports<T>(mut start: impl FnMut() -> Result<T>) -> Result<T> {
    for _ in 1..ATTEMPTS {
        match start() {
            Err(error) if error.is_port_taken() => {}
            outcome => return outcome,
        }
    }
    start().map_err(|error| error.during(&format!("the last of {ATTEMPTS} attempts")))
}

/// Returns a port that the kernel chooses, for machines that use nearly all ports for outgoing connections.
fn any_port() -> Result<u16> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .during(|| "looking for a free port of 127.0.0.1".to_owned())
}

/// Returns the first port of the kernel's range for outgoing connections, or the default if it cannot be read.
fn first_outgoing_port() -> u16 {
    std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768)
}

/// Returns a random number without a crate for it: the standard library seeds its hash maps from the system.
fn random() -> u16 {
    let [low, high, ..] = RandomState::new().hash_one(()).to_le_bytes();
    u16::from_le_bytes([low, high])
}
