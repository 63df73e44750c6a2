//! Measures wrapping and unwrapping without a service.

use std::{hint::black_box, time::Instant};

use rand::rngs::SysRng;

use crate::crypto::{Uuid, seed::Seed, wrap::Kek};

const ROUNDS: usize = 11;
const CALLS: u32 = 20_000;
const KEY_ID: &str = "k1-00000000000000000000000000000000";

/// Returns the nanoseconds that one wrap and one unwrap take: the medians of some rounds.
pub(crate) fn wrap_and_unwrap() -> Option<(f64, f64)> {
    let kek = Kek::generate(&mut SysRng, Uuid([1; 16])).ok()?;
    let seed = Seed::new(vec![7; 32]).ok()?;
    let wrapped = kek.wrap(&mut SysRng, KEY_ID, &seed).ok()?;
    let wrap = median(|| drop(black_box(kek.wrap(&mut SysRng, KEY_ID, black_box(&seed)))));
    let unwrap = median(|| drop(black_box(kek.unwrap(KEY_ID, black_box(&wrapped)))));
    Some((wrap, unwrap))
}

fn median(mut call: impl FnMut()) -> f64 {
    let mut rounds = [0.0; ROUNDS];
    for round in &mut rounds {
        let start = Instant::now();
        (0..CALLS).for_each(|_| call());
        *round = start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS);
    }
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}
