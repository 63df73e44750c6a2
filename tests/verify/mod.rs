//! `claviger verify` with real etcds: what is clean, what is left over, what proves nothing, and which reports count.
//!
//! ```text
//! leftovers, reports -> rig;   cluster
//! ```

mod cluster;
mod leftovers;
mod reports;
mod rig;
