//! Summarizes values: which group a value is in, and what else its bytes show.
//!
//! This is the hot path of a scan. A value with the same frame or group as a recent value needs no
//! allocation.

use std::{collections::VecDeque, sync::Arc};

use rand::rngs::SysRng;

use super::{
    fingerprint::Fingerprinter,
    group::{Group, Groups},
    names::{self, Names},
    object::Summary,
    value::{Frame, Value, classify},
};
use crate::memory::{RandomError, fill_random};

/// The number of frames that a summarizer remembers: one for each API server of a cluster with several.
const FRAMES: usize = 4;

/// The greatest length of a resource's path in bytes: twice the longest group and name of a custom resource. Anyone who
/// can write to etcd can invent longer ones, and each is kept.
const PATH_MAX: usize = 512;

/// Makes a [`Summary`] of each value below one prefix. Each thread of a scan has a clone.
#[derive(Clone)]
pub struct Summarizer {
    names: Names,
    groups: Arc<Groups>,
    fingerprinter: Fingerprinter,
    last: LastGroup,
    /// The last frames, the newest at the end. Neighbouring values usually have the same frame.
    frames: VecDeque<KnownFrame>,
}

/// The group of the last value. The next value usually has the same group.
#[derive(Clone, Default)]
struct LastGroup {
    label: Vec<u8>,
    number: u32,
    /// A buffer for the label of the next value.
    next: Vec<u8>,
}

/// The summary of all values with one frame below one path. They differ in their lengths only.
#[derive(Clone)]
struct KnownFrame {
    path: Box<[u8]>,
    frame: Frame,
    summary: Summary,
}

impl Summarizer {
    /// Makes a summarizer with a random key, as [`new`](Self::new) does with a given one.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn seeded(names: Names) -> Result<Self, RandomError> {
        let mut random = [0; 16];
        fill_random(&mut SysRng, &mut random)?;
        Ok(Self::new(names, random))
    }

    /// Summarizes the values of the keys below the prefix of `names`. `random` is the key of all fingerprints of this
    /// scan.
    pub fn new(names: Names, random: [u8; 16]) -> Self {
        Self {
            names,
            groups: Arc::default(),
            fingerprinter: Fingerprinter::new(random),
            last: LastGroup::default(),
            frames: VecDeque::with_capacity(FRAMES),
        }
    }

    /// Returns the groups that this summarizer and its clones have met.
    pub fn groups(&self) -> Arc<Groups> {
        Arc::clone(&self.groups)
    }

    /// Returns the fingerprinter of this scan.
    pub fn fingerprinter(&self) -> &Fingerprinter {
        &self.fingerprinter
    }

    /// Returns the names of resources, and the prefix of all keys.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Summarizes a value. Returns `None` if its key lies outside the prefix.
    pub fn summarize(&mut self, key: &[u8], value: &[u8]) -> Option<Summary> {
        let path = self.names.path(key)?;
        let path = &path[..path.len().min(PATH_MAX)];
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        let known = self.frames.iter().rev().find(|known| known.frame.fits(value) && *known.path == *path);
        if let Some(known) = known {
            return Some(Summary { length, ..known.summary });
        }
        let classified = classify(value);
        let summary = Summary {
            group: self.last.number(&self.groups, path, &classified),
            seed: classified.seed.map(|seed| self.fingerprinter.of(seed)),
            encoding: classified.encoding,
            damage: classified.damage,
            length,
        };
        if let Some(frame) = Frame::of(value, &classified) {
            if self.frames.len() == FRAMES {
                self.frames.pop_front();
            }
            self.frames.push_back(KnownFrame { path: path.into(), frame, summary });
        }
        Some(summary)
    }
}

impl LastGroup {
    /// Returns the number of the group of a value below `path`.
    fn number(&mut self, groups: &Groups, path: &[u8], value: &Value<'_>) -> u32 {
        write_label(&mut self.next, path, value);
        if self.label != self.next {
            self.number = groups.number(&self.next, || Group {
                resource: names::resource(&String::from_utf8_lossy(path)),
                provider: value.provider.to_owned(),
                key_id: value.key_id.map(ToOwned::to_owned),
                commitment: value.commitment,
            });
            self.label.clone_from(&self.next);
        }
        self.number
    }
}

/// Writes a label that no other group has: path and provider contain no zero byte, the commitment has one length, and
/// the key_id comes last.
fn write_label(label: &mut Vec<u8>, path: &[u8], value: &Value<'_>) {
    label.clear();
    for part in [path, value.provider.as_bytes()] {
        label.extend_from_slice(part);
        label.push(0);
    }
    label.push(value.commitment.is_some().into());
    if let Some(commitment) = &value.commitment {
        label.extend_from_slice(&commitment.0);
    }
    if let Some(key_id) = value.key_id {
        label.push(1);
        label.extend_from_slice(key_id.as_bytes());
    }
}
