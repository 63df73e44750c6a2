//! A real control plane for the tests and for the examples, as processes of this machine: etcd, kube-apiserver,
//! claviger, and a node with the kubelet and containerd.
//!
//! Programs come from [`binaries`] (found, or built from pinned sources), run as processes of a [`processes::Run`], and
//! end with it whatever happens: when it is dropped, on a panic, on Ctrl-C, and when this process is killed. On top of
//! that sit [`etcd`], [`api_server`], [`plugin`] and [`node`], one type each. Plain threads and blocking calls: a test
//! reads from top to bottom.
//!
//! ```text
//! api_server, etcd, node, plugin, binaries -> processes, commands -> spawn -> error;   api_server -> etcd
//! controller_manager -> api_server, binaries, commands, processes
//! kine -> postgres -> processes, commands, packages;   kine -> binaries, certificates, processes
//! api_server, etcd, node -> binaries, ports;   api_server, etcd, node -> certificates;   node -> images, packages -> binaries
//! binaries, packages, processes -> progress;   machine -> etcd, binaries, commands, processes
//! ```
//!
//! Set `CLAVIGER_TEST_KEEP` to keep the directories with all logs and data.

#![allow(dead_code, reason = "the tests and the examples each use their own part of it")]

pub(crate) mod api_server;
pub(crate) mod binaries;
pub(crate) mod certificates;
pub(crate) mod claviger;
pub(crate) mod commands;
pub(crate) mod controller_manager;
pub(crate) mod error;
pub(crate) mod etcd;
pub(crate) mod images;
pub(crate) mod kine;
pub(crate) mod machine;
pub(crate) mod node;
mod packages;
pub(crate) mod plugin;
mod ports;
pub(crate) mod postgres;
pub(crate) mod processes;
pub(crate) mod progress;
mod spawn;
pub(crate) mod wait;

use std::{ffi::OsStr, process::ExitCode};

/// Prints the description of an example, if `--help` asks for it. An example takes no other argument.
pub(crate) fn explain(help: &str, argument: &OsStr) -> ExitCode {
    if argument == "--help" || argument == "-h" {
        anstream::println!("{help}");
        return ExitCode::SUCCESS;
    }
    anstream::eprintln!("unexpected argument {argument:?}\n\n{help}");
    ExitCode::from(2)
}
