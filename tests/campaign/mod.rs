//! Campaigns: each repeats a fault or an attack at random moments, under load.
//!
//! The gate runs a few seconds of each campaign. `CLAVIGER_CAMPAIGN`, a number, sets the size of a campaign, and
//! `CLAVIGER_SEED` repeats one. Each prints its figures, which `--nocapture` shows.

#![allow(clippy::print_stdout, reason = "the figures are what a campaign is run for")]

mod cluster;
mod disk;
mod forgeries;
mod forks;
pub(crate) mod hostile;
pub(crate) mod load;
mod restart;
pub(crate) mod scans;
mod stories;

use std::env;

use rand::{SeedableRng, TryRng, rngs::SmallRng, rngs::SysRng};

/// Returns the size of a campaign: the number in `CLAVIGER_CAMPAIGN`, or else `gate`, which fits into the gate.
pub(crate) fn size(gate: u64) -> u64 {
    number("CLAVIGER_CAMPAIGN").unwrap_or(gate)
}

/// Returns the seed of a campaign: a new one each time, unless `CLAVIGER_SEED` gives it.
pub(crate) fn seed() -> u64 {
    number("CLAVIGER_SEED").unwrap_or_else(|| SysRng.try_next_u64().unwrap())
}

/// Returns a random generator, and prints its seed.
pub(crate) fn random(campaign: &str) -> SmallRng {
    let seed = seed();
    println!("{campaign}: seed {seed}");
    SmallRng::seed_from_u64(seed)
}

/// Returns `count` of `items`, evenly chosen, or all of them if there are no more.
fn sample<T: Clone>(items: &[T], count: u64) -> Vec<T> {
    let count = usize::try_from(count).unwrap();
    if items.len() <= count {
        return items.to_vec();
    }
    (0..count).map(|place| items[place * items.len() / count].clone()).collect()
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, expected a number")))
}
