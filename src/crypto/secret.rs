//! Memory for key bytes: locked into RAM, left out of core dumps, wiped in a forked child and on drop, and silent.
//!
//! The only module with `unsafe`. Each [`Secret`] has pages of its own, so that unlocking one never unlocks another.
//! Source: mlock(2), madvise(2) (`MADV_DONTDUMP`, `MADV_WIPEONFORK`).
#![allow(unsafe_code, reason = "mapping, locking and advising memory are system calls on raw pointers")]

use std::{fmt, io, ptr, ptr::NonNull};

use rustix::mm::{Advice, MapFlags, ProtFlags};
use zeroize::Zeroize;

/// `N` secret bytes in locked pages of their own.
///
/// No `Clone`, no `Serialize`, no `PartialEq`; `Debug` prints the type alone.
pub struct Secret<const N: usize> {
    bytes: NonNull<[u8; N]>,
}

/// Memory for a secret could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The kernel gave no pages.
    #[error("mapping memory for a key")]
    Map(#[source] io::Error),
    /// The kernel did not lock the pages: `RLIMIT_MEMLOCK` is too small.
    #[error("locking memory for a key")]
    Lock(#[source] io::Error),
    /// The kernel did not take the advice that keeps the pages out of core dumps and forked children.
    #[error("keeping a key out of core dumps")]
    Advise(#[source] io::Error),
    /// No random bytes to fill it with.
    #[error(transparent)]
    Random(#[from] super::RandomError),
}

// SAFETY: a `Secret` owns its pages alone and hands out references only under the borrow rules of `&self` and `&mut self`.
unsafe impl<const N: usize> Send for Secret<N> {}
// SAFETY: as above; there is no interior mutability.
unsafe impl<const N: usize> Sync for Secret<N> {}

impl<const N: usize> Secret<N> {
    /// `N` zero bytes, to be filled in place.
    ///
    /// # Errors
    /// When the pages cannot be mapped, locked or kept out of dumps.
    pub fn zeroed() -> Result<Self, SecretError> {
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no memory of ours.
        let pages = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), N, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        }
        .map_err(|errno| SecretError::Map(errno.into()))?;
        let bytes =
            NonNull::new(pages.cast::<[u8; N]>()).ok_or_else(|| SecretError::Map(io::ErrorKind::OutOfMemory.into()))?;
        // From here on `secret` owns the mapping: an early return unmaps it.
        let secret = Self { bytes };
        // SAFETY: the mapping is ours, page-aligned and at least N bytes; locking and advising do not change its contents.
        unsafe {
            rustix::mm::mlock(pages, N).map_err(|errno| SecretError::Lock(errno.into()))?;
            for advice in [Advice::LinuxDontDump, Advice::LinuxWipeOnFork] {
                rustix::mm::madvise(pages, N, advice).map_err(|errno| SecretError::Advise(errno.into()))?;
            }
        }
        Ok(secret)
    }

    /// `N` random bytes.
    ///
    /// # Errors
    /// As [`Secret::zeroed`], or when the random source fails.
    pub fn random(rng: &mut impl rand::TryCryptoRng) -> Result<Self, SecretError> {
        let mut secret = Self::zeroed()?;
        super::fill_random(rng, secret.expose_mut())?;
        Ok(secret)
    }

    /// The bytes. Named so that every use can be found.
    pub fn expose(&self) -> &[u8; N] {
        // SAFETY: the mapping holds N initialised bytes and lives as long as `self`; `&self` rules out a writer.
        unsafe { self.bytes.as_ref() }
    }

    /// The bytes, to be written in place.
    pub fn expose_mut(&mut self) -> &mut [u8; N] {
        // SAFETY: as in `expose`; `&mut self` rules out any other reference.
        unsafe { self.bytes.as_mut() }
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.expose_mut().zeroize();
        // SAFETY: the mapping is ours, N bytes long, and no reference to it outlives `self`. Unmapping also unlocks.
        // It can fail only for an address that is not mapped, and then there is nothing left to do.
        let _ = unsafe { rustix::mm::munmap(self.bytes.as_ptr().cast(), N) };
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret<{N}>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The `VmFlags` that the kernel keeps of the mapping that starts at `secret`.
    fn kernel_flags<const N: usize>(secret: &Secret<N>) -> Vec<String> {
        let start = format!("{:x}-", secret.bytes.as_ptr() as usize);
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let flags = maps
            .lines()
            .skip_while(|line| !line.starts_with(&start))
            .find_map(|line| line.strip_prefix("VmFlags: "))
            .unwrap();
        flags.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn pages_are_locked_and_kept_out_of_dumps_and_children() {
        let secret = Secret::<32>::zeroed().unwrap();
        let flags = kernel_flags(&secret);
        for (flag, meaning) in [("lo", "locked"), ("dd", "not dumped"), ("wf", "wiped on fork")] {
            assert!(flags.iter().any(|f| f == flag), "{meaning}: {flags:?}");
        }
    }

    #[test]
    fn debug_prints_the_type_alone() {
        let mut secret = Secret::<4>::zeroed().unwrap();
        secret.expose_mut().copy_from_slice(b"abcd");
        assert_eq!(format!("{secret:?}"), "Secret<4>");
    }

    #[test]
    fn two_secrets_never_share_a_page() {
        let (a, b) = (Secret::<32>::zeroed().unwrap(), Secret::<32>::zeroed().unwrap());
        assert!((a.bytes.as_ptr() as usize).abs_diff(b.bytes.as_ptr() as usize) >= rustix::param::page_size());
    }
}
