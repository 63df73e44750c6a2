//! All integration tests, one binary: they share a control plane and one build.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

mod architecture;
mod cli;
mod control_plane;
mod daemon;
mod deploy;
mod harness;
mod oracle;
mod playground;
