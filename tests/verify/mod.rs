//! `claviger verify` with real etcds: what is clean, what is left over, what proves nothing, and which reports count.
//!
//! ```text
//! leftovers, reports, meanwhile, kine -> rig;   cluster
//! ```

mod cluster;
mod kine;
mod leftovers;
mod meanwhile;
mod reports;
mod rig;

pub(crate) use self::rig::CONFIG;
