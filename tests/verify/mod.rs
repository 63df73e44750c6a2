//! Tests `claviger verify` with real etcds: which clusters are clean, which values are left over, which scans prove
//! nothing, and which reports count.
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
