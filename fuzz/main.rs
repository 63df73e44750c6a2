//! Runs a fuzz target with coverage guidance. The targets are all parsers of bytes from outside. `fuzz/run SECONDS
//! [TARGET]` builds and runs it.

#![no_main]

use std::{env, sync::LazyLock};

use claviger::fuzzing::{FuzzTarget, TARGETS};

/// The target that the environment names; one program has them all, so that it is linked once.
static TARGET: LazyLock<FuzzTarget> = LazyLock::new(|| {
    let name = env::var("CLAVIGER_FUZZ").unwrap_or_default();
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    let found = TARGETS.into_iter().find(|(other, _)| *other == name);
    found.unwrap_or_else(|| panic!("CLAVIGER_FUZZ is {name:?}, expected one of {names:?}"))
});

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.1)(data));
