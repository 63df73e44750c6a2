//! Campaigns: the same attack as a sample in the gate, and as long as one likes by command.
//!
//! `CLAVIGER_CAMPAIGN` is the size of a campaign, `CLAVIGER_SEED` repeats one; `--nocapture` shows the figures.

mod hostile;

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

/// How large a campaign is to be, `gate` unless the environment says otherwise.
pub(crate) fn size(gate: u64) -> u64 {
    number("CLAVIGER_CAMPAIGN").unwrap_or(gate)
}

/// What the randomness of a campaign begins with: another one each time, unless the environment names it.
pub(crate) fn seed() -> u64 {
    number("CLAVIGER_SEED").unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, expected a number")))
}
