//! `claviger key`: lists, adds, promotes, disables, enables and destroys the keys of the keyring.
//!
//! ```text
//! verbs -> list
//!       -> add, promote -> change;   promote -> name
//!       -> give_up -> change, retire -> left, retiring;   left -> unserved
//! ```

mod add;
mod change;
mod give_up;
#[cfg(feature = "recover")]
mod left;
#[cfg(all(feature = "scan", not(feature = "recover")))]
#[path = "no_left.rs"]
mod left;
mod list;
mod name;
mod promote;
#[cfg(feature = "scan")]
mod retire;
#[cfg(not(feature = "scan"))]
#[path = "unscanned.rs"]
mod retire;
mod retiring;
#[cfg(all(feature = "recover", feature = "reencrypt"))]
mod unserved;
#[cfg(all(feature = "recover", not(feature = "reencrypt")))]
#[path = "no_unserved.rs"]
mod unserved;
mod verbs;

pub(super) use self::verbs::{KeyArgs, run};
