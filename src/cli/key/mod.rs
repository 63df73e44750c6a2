//! `claviger key`.
//!
//! ```text
//! verbs -> list
//!       -> add, promote -> name, change
//!       -> give_up -> change, retire -> retiring
//! ```

mod add;
mod change;
mod give_up;
mod list;
mod name;
mod promote;
#[cfg(feature = "scan")]
mod retire;
#[cfg(not(feature = "scan"))]
#[path = "unscanned.rs"]
mod retire;
mod retiring;
mod verbs;

pub(super) use self::verbs::{KeyArgs, run};
