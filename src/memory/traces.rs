//! Wipes the traces of work with keys. Cryptographic libraries leave copies of keys in stack frames and registers.
//!
//! These copies are keys, round keys and hash states, and in a thread that sleeps they stay for ever. Invariant: code
//! that passes the bytes of a [`Secret`](super::Secret) to a library does so in [`without_traces`]. A test in
//! `tests/memory/` searches the memory of a daemon for keys, and so shows that enough is wiped.

#![allow(unsafe_code, reason = "no safe code says what is in which register")]

use std::{cell::Cell, hint::black_box};

/// How many bytes of the stack to wipe. The deepest stack frames of a library, those of AES, take 12 KiB.
const DEPTH: usize = 16 * 1024;

thread_local! {
    /// Whether this thread is in a call of [`without_traces`].
    static WITHIN: Cell<bool> = const { Cell::new(false) };
}

/// Calls `work`, and wipes the copies of keys that it left. `work` must take its keys by reference. If calls are
/// nested, only the outermost wipes.
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

/// Calls `work` from a stack frame of its own. It is not inlined: `work` and [`overwrite_stack`] then use the same part
/// of the stack.
#[inline(never)]
fn in_a_frame_of_its_own<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Zeroes the registers that a function may change. The caller's other registers have their old values again when
/// `work` has returned.
#[cfg(target_arch = "x86_64")]
fn overwrite_registers() {
    use std::arch::{asm, is_x86_feature_detected};

    /// Repeats one instruction for each of these registers.
    macro_rules! zero {
        ($registers:literal, $instruction:literal) => {
            // SAFETY: the caller has checked that this processor has the instruction, and `clobber_abi` tells the
            // compiler which registers change.
            unsafe {
                asm!(concat!(".irp r, ", $registers), $instruction, ".endr", clobber_abi("C"), options(nomem, nostack));
            }
        };
    }

    // The C library copies memory through the upper sixteen registers if there are any.
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

/// Computes an HMAC of public bytes. This overwrites the registers that an earlier HMAC used, vector registers
/// included. A hash alone does not.
#[cfg(not(target_arch = "x86_64"))]
#[inline(never)]
fn overwrite_registers() {
    use ring::hmac;

    black_box(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[0; 32]), &[]));
}

#[inline(never)]
fn overwrite_stack() {
    // `black_box` makes the compiler write these bytes, because somebody might read them. They are mutable so that they
    // are on the stack and not a constant.
    black_box(&mut [0_u8; DEPTH]);
}

#[cfg(test)]
mod tests {
    use std::{fs::File, os::unix::fs::FileExt};

    use super::*;

    /// The stack depth in bytes that the test's `work` fills: as much as the deepest frames of a library take.
    const DEEPEST: usize = 12 * 1024;
    const PATTERN: u8 = 0xa5;

    #[inline(never)]
    fn use_the_stack() {
        black_box(&mut [PATTERN; DEEPEST]);
    }

    /// Returns how many bytes of the pattern are on this thread's stack, below the caller's frame.
    fn left_on_the_stack(memory: &File) -> usize {
        let mut stack = vec![0; 2 * DEPTH];
        let here = std::ptr::from_ref(&stack) as u64;
        memory.read_exact_at(&mut stack, here - 2 * DEPTH as u64).unwrap();
        stack.split(|byte| *byte == PATTERN).count() - 1
    }

    #[test]
    fn the_stack_of_the_work_is_wiped() {
        let memory = File::open("/proc/self/mem").unwrap();
        use_the_stack();
        assert!(left_on_the_stack(&memory) > DEEPEST / 2, "or the rest proves nothing");
        without_traces(use_the_stack);
        // By chance, pointers on the stack contain the same byte as the pattern.
        assert!(left_on_the_stack(&memory) < 100);
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_vector_registers_of_the_work_are_wiped() {
        use std::arch::asm;

        const KEY: u64 = 0x1122_3344_5566_7788;
        // SAFETY: the compiler knows which registers change.
        let work = || unsafe {
            asm!("movq xmm8, {0}", "movq xmm15, {0}", in(reg) KEY, out("xmm8") _, out("xmm15") _, options(nomem, nostack));
        };
        let left = || {
            let (eighth, last): (u64, u64);
            // SAFETY: reading a register changes nothing.
            unsafe {
                asm!("movq {0}, xmm8", "movq {1}, xmm15", out(reg) eighth, out(reg) last, options(nomem, nostack));
            }
            [eighth, last]
        };
        work();
        assert_eq!(left(), [KEY; 2], "or the rest proves nothing");
        without_traces(work);
        assert_eq!(left(), [0; 2]);
    }
}
