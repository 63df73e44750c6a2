//! What a clean scan of etcd proves, and the report that says so.
//!
//! ```text
//! decide -> report;   encoding -> report;   compare -> report
//! ```
//!
//! `decide` makes a [`VerifyReport`] of a scan: it says whether every value that claviger's provider should have
//! written is under the primary key. `encoding` has the bytes of a report, authenticated under the root key. `compare`
//! says what has changed since an earlier report, and whether that report still counts.
//!
//! Pure: there is no I/O and no clock. Invariant: a report is clean only if nothing speaks against it. What is not
//! known speaks against it. Source: `docs/formats.md`, "report".

mod compare;
mod decide;
mod encoding;
mod report;
#[cfg(test)]
pub mod testing;

pub use self::{
    compare::{Comparison, ReportChange},
    decide::Subject,
    encoding::{REPORT_MAX, ReadReportError, WriteReportError},
    report::{KeyringNow, MovedResource, ReadEtcd, ReadFile, Shortfall, VerifiedGroup, VerifyOutcome, VerifyReport},
};
