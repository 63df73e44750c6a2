//! Shows how far a place is read.

use crate::scan::place::ScanPlace;

use super::super::{Global, progress::Meter, waiting::AnswerWait};

/// The meter of one place. It counts the parts of a file, or the objects of a live etcd.
pub(in crate::cli) struct PlaceMeter {
    meter: Meter,
    is_file: bool,
    /// The wait for the first answer of etcd.
    wait: Option<AnswerWait>,
}

impl PlaceMeter {
    pub(in crate::cli) fn new(place: &ScanPlace, global: &Global) -> Self {
        let is_shown = global.is_for_people();
        match place {
            ScanPlace::Snapshot(file) => {
                let length = file.metadata().map_or(0, |metadata| metadata.len());
                Self { meter: Meter::bytes(is_shown, length), is_file: true, wait: None }
            }
            ScanPlace::Etcd(_) => {
                let wait = AnswerWait::begin(&format!("etcd at {place}"), global);
                Self { meter: Meter::objects(is_shown), is_file: false, wait: Some(wait) }
            }
        }
    }

    /// Shows that `done` of `of` parts or objects are read.
    pub(in crate::cli) fn show(&mut self, done: u64, of: u64) {
        self.wait = None;
        if self.is_file {
            self.meter.share(done, of);
        } else {
            self.meter.of(done, of);
        }
    }
}
