//! Campaigns: the same fault again and again, at random moments, under load.
//!
//! The gate runs a few seconds of each. `CLAVIGER_CAMPAIGN`, a number, makes one as long as wanted; each prints its
//! figures, which `--nocapture` shows.

#![allow(clippy::print_stdout, reason = "the figures are what a campaign is run for")]

mod cluster;
mod load;
mod restart;

use std::env;

use rand::{SeedableRng, TryRng, rngs::SmallRng, rngs::SysRng};

/// How often a campaign does what it does: as `CLAVIGER_CAMPAIGN` says, or as fits into the gate.
pub(crate) fn size(gate: u64) -> u64 {
    match env::var("CLAVIGER_CAMPAIGN") {
        Ok(number) => number.parse().expect("CLAVIGER_CAMPAIGN is a number"),
        Err(_) => gate,
    }
}

/// Random moments, and a printed seed that names them.
pub(crate) fn random(campaign: &str) -> SmallRng {
    let seed = SysRng.try_next_u64().unwrap();
    println!("{campaign}: seed {seed}");
    SmallRng::seed_from_u64(seed)
}
