//! Wipes the traces of work with keys: libraries leave copies in stack frames and registers that nobody uses any more.
//!
//! What stays is keys, round keys and hash states, and a thread that sleeps keeps them for ever. Invariant: whatever gives
//! the bytes of a [`Secret`](super::secret::Secret) to a library does so in [`without_traces`]. That this is deep enough
//! is shown by the search of a daemon's memory in `tests/memory/`.

use std::{cell::Cell, hint::black_box};

use ring::hmac;

/// How deep the libraries' frames go at most, with room to spare.
const DEPTH: usize = 16 * 1024;

thread_local! {
    /// Whether work is being done whose traces will be wiped.
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

/// Does `work`, which takes its keys by reference, and wipes what it left behind. Of work within work only the outermost
/// wipes, once for all.
pub fn without_traces<T>(work: impl FnOnce() -> T) -> T {
    if WITHIN.replace(true) {
        return work();
    }
    let outcome = in_a_frame_of_its_own(work);
    WITHIN.set(false);
    overwrite_registers();
    overwrite_stack();
    outcome
}

/// Not inlined, so that the frames of `work` begin where [`overwrite_stack`]'s does.
#[inline(never)]
fn in_a_frame_of_its_own<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Makes an HMAC of something public: that takes the very registers that another left its states in, vectors included.
/// A hash alone does not.
#[inline(never)]
fn overwrite_registers() {
    black_box(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]), &[]));
}

#[inline(never)]
fn overwrite_stack() {
    // For all that the compiler knows, somebody reads it, so it has to be written. Mutable: a constant would not be here.
    black_box(&mut [0_u8; DEPTH]);
}
