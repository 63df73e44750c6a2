//! `claviger key`: lists, adds, promotes, disables, enables and destroys the keys of the keyring.
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
