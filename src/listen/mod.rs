//! Sockets and connections: where the plugin listens, which users may connect, and for how long.
//!
//! ```text
//! server -> bind -> claim -> socket_path -> directory -> error -> address
//!        -> acceptor -> connection -> call;   acceptor -> peers
//! ```
//!
//! [`bind()`] and [`take_over`] make a socket that no other user can replace, [`inherited`] receives systemd's, and
//! [`serve`] answers on it. It decides nothing about a call: [`crate::grpc`] answers. Invariant: while one plugin
//! replaces another, there is no instant at which nobody listens at the path.

mod acceptor;
mod address;
mod bind;
mod call;
mod claim;
mod connection;
mod directory;
mod error;
mod peers;
mod server;
mod socket_path;
#[cfg(test)]
pub mod testing;

pub use self::{
    acceptor::Drained,
    address::{Address, AddressError},
    bind::{Listener, bind, check_stranger, inherited, take_over},
    error::SocketError,
    peers::Peers,
    server::serve,
    socket_path::{Access, keep_new_sockets_private},
};
