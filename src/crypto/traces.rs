//! Wipes the traces of work with keys: libraries leave copies in stack frames and registers that nobody uses any more.
//!
//! What stays is keys, round keys and hash states, and a thread that sleeps keeps them for ever. Invariant: whatever gives
//! the bytes of a [`Secret`](super::secret::Secret) to a library does so in [`without_traces`]. That this is deep enough
//! is shown by the search of a daemon's memory in `tests/memory/`.

#![allow(unsafe_code, reason = "no safe code says what is in which register")]

use std::{cell::Cell, hint::black_box};

/// How deep the libraries' frames go at most, with room to spare: AES in all its variants takes 12 KiB.
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

/// Zeroes the registers that a call leaves to whoever it calls; the others have been given back as they were.
#[cfg(target_arch = "x86_64")]
fn overwrite_registers() {
    use std::arch::{asm, is_x86_feature_detected};

    /// Repeats one instruction for each of these registers.
    macro_rules! zero {
        ($registers:literal, $instruction:literal) => {
            // SAFETY: whoever asks has made sure that this processor has the instruction, and `clobber_abi` declares lost
            // what it overwrites.
            unsafe {
                asm!(
                    concat!(".irp r, ", $registers),
                    $instruction,
                    ".endr",
                    clobber_abi("C"),
                    options(nomem, nostack)
                );
            }
        };
    }

    // The C library copies in the upper sixteen where there are any.
    if is_x86_feature_detected!("avx512f") {
        zero!("16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31", "vpxord zmm\\r, zmm\\r, zmm\\r");
    }
    if is_x86_feature_detected!("avx") {
        zero!("all", "vzero\\r");
    } else {
        zero!("0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15", "xorps xmm\\r, xmm\\r");
    }
    zero!("eax,ecx,edx,esi,edi,r8d,r9d,r10d,r11d", "xor \\r, \\r");
}

/// Makes an HMAC of something public: that takes the very registers that another left its states in, vectors included.
/// A hash alone does not.
#[cfg(not(target_arch = "x86_64"))]
#[inline(never)]
fn overwrite_registers() {
    use ring::hmac;

    black_box(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]), &[]));
}

#[inline(never)]
fn overwrite_stack() {
    // For all that the compiler knows, somebody reads it, so it has to be written. Mutable: a constant would not be here.
    black_box(&mut [0_u8; DEPTH]);
}
