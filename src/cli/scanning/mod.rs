//! What `scan` and `verify` share: how a scan of a cluster is run, and how what it found is shown.
//!
//! ```text
//! places -> declared, etcdctl;   picture -> table
//! ```

mod declared;
mod etcdctl;
mod findings;
mod hints;
#[cfg(feature = "html")]
mod picture;
mod places;
#[cfg(feature = "html")]
mod style;
mod table;

pub(super) use self::{
    declared::{ReadConfig, not_understood, nowhere},
    etcdctl::etcdctl,
    findings::{findings, meaning},
    hints::{HintContext, SNAPSHOT, hints},
    places::scan_places,
    table::{table, terminal_width},
};
#[cfg(feature = "html")]
pub(super) use self::{picture::picture, style::STYLE};
