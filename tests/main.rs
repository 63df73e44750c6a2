//! All integration tests. They are one binary, so that they share a control plane and one build.
//!
//! `lean` tests a claviger without any Cargo feature, together with the tests that need no feature.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::format_collect, reason = "in a test the shorter form reads better than the faster one")]

#[cfg(feature = "default")]
mod admin;
mod architecture;
#[cfg(feature = "default")]
mod campaign;
#[cfg(feature = "default")]
mod cli;
mod contract;
#[cfg(feature = "default")]
mod control_plane;
mod daemon;
#[cfg(feature = "default")]
mod decrypt;
#[cfg(feature = "default")]
mod deploy;
#[cfg(feature = "default")]
mod docs;
#[cfg(feature = "default")]
mod drill;
#[cfg(feature = "default")]
mod hardening;
mod harness;
#[cfg(not(feature = "default"))]
mod lean;
#[cfg(feature = "default")]
mod memory;
#[cfg(feature = "default")]
mod migrating;
#[cfg_attr(not(feature = "default"), allow(dead_code, reason = "the tests of the absent features use it"))]
mod oracle;
#[cfg(feature = "default")]
mod playground;
#[cfg(feature = "default")]
mod pod;
#[cfg(feature = "default")]
mod reencrypt;
#[cfg(feature = "default")]
mod restorable;
#[cfg(feature = "default")]
mod restoring;
#[cfg(feature = "default")]
mod rotate;
#[cfg(feature = "default")]
mod runbook;
#[cfg(feature = "default")]
mod scan;
mod systemd;
#[cfg(feature = "default")]
mod troubleshooting;
#[cfg(feature = "default")]
mod verify;
