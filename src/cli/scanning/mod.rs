//! What `scan`, `verify` and `reencrypt` share: what a scan of a cluster needs, how it is run, and how what it found is
//! shown.
//!
//! ```text
//! places -> declared, etcdctl, meter;   input, announced -> keys;   input -> declared;   picture -> table;   document -> style;   provider -> hints
//! ```

mod announced;
mod declared;
#[cfg(feature = "html")]
mod document;
mod etcdctl;
mod findings;
mod hints;
mod idle;
mod input;
mod keys;
mod meter;
#[cfg(feature = "html")]
mod picture;
mod places;
mod provider;
#[cfg(feature = "html")]
mod style;
mod table;
mod unlisted;

pub(super) use self::{
    announced::{check_announced, note_unannounced},
    declared::{ReadConfig, not_understood, nowhere, unconfigured},
    etcdctl::etcdctl,
    findings::{findings, meaning},
    hints::{HintContext, SNAPSHOT, hint_about, hints, is_recent},
    idle::idle,
    input::ScanInput,
    keys::{KeyFlags, ScanKeys, key_use, note_missing, primary_key},
    meter::PlaceMeter,
    places::{ScanExtras, read_place, scan_places},
    provider::SeenProviders,
    table::{table, terminal_width},
    unlisted::Unlisted,
};
#[cfg(feature = "html")]
pub(super) use self::{document::document, findings::OLDER, picture::picture};
