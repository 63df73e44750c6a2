//! The report of `claviger decrypt`: how many objects were written, which were not opened and why, and hints.

use std::path::Path;

use serde::Serialize;

use super::super::{given::quoted, tables::counted};
use crate::recover::{OpenValueError, OpenedObject, RecoverError, UnopenedObject};

/// The greatest number of objects in `failures`.
const LISTED: usize = 1000;

/// The report of `claviger decrypt`.
#[derive(Debug, Serialize)]
pub(super) struct DecryptReport {
    format: &'static str,
    from: Vec<String>,
    to: String,
    /// The number of objects that were written.
    objects: u64,
    /// The number of written objects that no key authenticates.
    unauthenticated: u64,
    /// The number of chosen objects that were not written.
    unopened: u64,
    /// The first 1,000 objects that were not written, with reasons.
    failures: Vec<UnopenedRow>,
    /// The named objects that do not exist.
    missing: Vec<String>,
    /// The reasons why objects may be missing, or may be older than they should be.
    incomplete: Vec<String>,
    #[serde(skip)]
    hints: Hints,
}

#[derive(Debug, Serialize)]
struct UnopenedRow {
    key: String,
    reason: String,
}

/// Whether a backup or an EncryptionConfiguration would open more objects.
#[derive(Debug, Default)]
struct Hints {
    needs_backup: bool,
    needs_config: bool,
}

impl DecryptReport {
    pub(super) fn new(from: Vec<String>, to: String) -> Self {
        let (failures, missing, incomplete, hints) = (Vec::new(), Vec::new(), Vec::new(), Hints::default());
        Self {
            format: "claviger/decrypt/v1",
            from,
            to,
            objects: 0,
            unauthenticated: 0,
            unopened: 0,
            failures,
            missing,
            incomplete,
            hints,
        }
    }

    /// Counts objects that were written.
    pub(super) fn wrote(&mut self, objects: &[OpenedObject]) {
        self.objects += objects.len() as u64;
        self.unauthenticated += objects.iter().filter(|object| !object.is_authentic).count() as u64;
    }

    /// Notes an object that was not opened, and returns the line about it.
    pub(super) fn note(&mut self, unopened: &UnopenedObject) -> String {
        self.unopened += 1;
        match &unopened.error {
            RecoverError::Value(OpenValueError::NotHeld(_)) => self.hints.needs_backup = true,
            RecoverError::Value(OpenValueError::OtherProvider(provider)) => {
                self.hints.needs_config |= !provider.starts_with("kms:");
            }
            _ => {}
        }
        let (key, reason) = (unopened.key.clone(), unopened.error.to_string());
        let line = format!("! {key}: {reason}");
        if self.failures.len() < LISTED {
            self.failures.push(UnopenedRow { key, reason });
        }
        line
    }

    /// Notes that a named object does not exist.
    pub(super) fn miss(&mut self, key: String) {
        self.missing.push(key);
    }

    /// Adds reasons why objects may be missing.
    pub(super) fn doubt(&mut self, reasons: impl IntoIterator<Item = String>) {
        self.incomplete.extend(reasons);
    }

    /// Returns how many objects were written.
    pub(super) fn count(&self) -> u64 {
        self.objects
    }

    pub(super) fn is_incomplete(&self) -> bool {
        self.unopened > 0 || !self.incomplete.is_empty()
    }

    pub(super) fn lacks_named(&self) -> bool {
        !self.missing.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.objects == 0 && self.unopened == 0
    }

    /// Returns the headline, and further lines.
    pub(super) fn text(&self) -> String {
        let none = if self.objects == 0 { ": nothing was written" } else { "" };
        let mut lines = vec![format!("{} decrypted to {}{none}", counted_u64(self.objects, "object"), self.to)];
        if self.unauthenticated > 0 {
            let whose = "anyone who can write to etcd may have written or changed them";
            lines.push(format!("{} of them in plaintext or under aescbc: {whose}", self.unauthenticated));
        }
        if self.unopened > 0 {
            lines.push(format!("! {} could not be opened", counted_u64(self.unopened, "object")));
        }
        lines.extend(self.missing.iter().map(|key| format!("! {key} is not there")));
        lines.extend(self.incomplete.iter().map(|reason| format!("! {reason}")));
        lines.join("\n")
    }

    /// Returns the hints for the operator. `state_dir` is the directory whose keyring was used, and `scan` the command
    /// that lists the keys of all objects.
    pub(super) fn advice(&self, state_dir: Option<&Path>, scan: &str) -> Vec<String> {
        let mut advice = Vec::new();
        if self.hints.needs_backup {
            let beside = state_dir.map(|dir| format!(" beside the keyring: --state-dir {} --backup FILE", quoted(dir)));
            let beside = beside.unwrap_or_else(|| ": --backup FILE".to_owned());
            advice.push(format!("to open more, give a backup that has the key{beside}"));
        }
        if self.hints.needs_config {
            let what = "to open values of aescbc, aesgcm and secretbox, give their keys: --encryption-config FILE";
            advice.push(what.to_owned());
        }
        // If the prefix is wrong, the reason in `incomplete` says which prefix is right.
        if (self.lacks_named() || self.is_empty()) && self.incomplete.is_empty() {
            advice.push(format!("to see the keys of all objects: {scan}"));
        }
        advice
    }
}

fn counted_u64(count: u64, noun: &str) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), noun)
}
