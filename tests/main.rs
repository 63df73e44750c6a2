//! All integration tests, one binary: they share a control plane and one build.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::format_collect, reason = "in a test the shorter form reads better than the faster one")]

mod admin;
mod architecture;
mod campaign;
mod cli;
mod contract;
mod control_plane;
mod daemon;
mod deploy;
mod docs;
mod hardening;
mod harness;
mod memory;
mod oracle;
mod playground;
mod pod;
mod restoring;
mod runbook;
mod scan;
mod systemd;
