//! Memory for key bytes. It is never swapped or dumped, is not in a forked child, is wiped on drop, and is never
//! printed.
//!
//! If the kernel has secret memory, the bytes are also hidden: the pages are not in the kernel's own map of memory.
//! Then root cannot read them in the process, and they are in no core dump. Each [`Secret`] has its own pages, so that
//! unlocking the pages of one never exposes another. Source: `memfd_secret(2)`, mlock(2), madvise(2) (`MADV_DONTDUMP`,
//! `MADV_DONTFORK`, `MADV_WIPEONFORK`).

#![allow(unsafe_code, reason = "mapping, locking and advising memory are system calls on raw pointers")]

use std::{
    ffi::c_void,
    fmt, io,
    os::fd::{FromRawFd, OwnedFd},
    ptr,
    ptr::NonNull,
    sync::OnceLock,
};

use rustix::{
    io::Errno,
    mm::{Advice, MapFlags, ProtFlags},
};
use zeroize::Zeroize;

use super::random::{RandomError, fill_random};

/// How the kernel protects the secrets of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// Secret bytes are in secret memory (`memfd_secret`), which only this process can see.
    Hidden,
    /// Secret bytes are locked into RAM and left out of core dumps. Root can read them.
    Locked,
}

static PROTECTION: OnceLock<Protection> = OnceLock::new();

impl Protection {
    /// Returns the best protection that this kernel has, unless [`choose_locked`](Self::choose_locked) was called
    /// earlier.
    ///
    /// # Errors
    /// When it is not known whether the kernel has secret memory, because there are no descriptors or no memory left.
    pub fn here() -> Result<Self, SecretError> {
        if let Some(known) = PROTECTION.get() {
            return Ok(*known);
        }
        let found = match secret_descriptor() {
            Ok(_) => Self::Hidden,
            // The kernel lacks secret memory, has it switched off, or a filter of system calls forbids it.
            Err(Errno::NOSYS | Errno::PERM) => Self::Locked,
            Err(errno) => return Err(SecretError::Map(errno.into())),
        };
        Ok(*PROTECTION.get_or_init(|| found))
    }

    /// Chooses locked memory for all secrets, unless the first secret is in secret memory already.
    pub fn choose_locked() {
        PROTECTION.get_or_init(|| Self::Locked);
    }

    /// Returns the name of the system call that gives this protection.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hidden => "memfd_secret",
            Self::Locked => "mlock",
        }
    }
}

/// `N` secret bytes in locked pages of their own.
///
/// It has no `Clone`, no `Serialize` and no `PartialEq`, and its `Debug` prints only the type.
pub struct Secret<const N: usize> {
    bytes: NonNull<[u8; N]>,
}

/// Why there is no memory for a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The kernel did not map pages for the secret.
    #[error("mapping memory for a key: {0}")]
    Map(#[source] io::Error),
    /// The kernel did not lock the pages: `RLIMIT_MEMLOCK` is too small.
    #[error("locking memory for a key: {0}")]
    Lock(#[source] io::Error),
    /// The kernel refused to keep the pages out of core dumps or forked children.
    #[error("keeping a key out of core dumps and child processes: {0}")]
    Advise(#[source] io::Error),
    /// The secret is longer than one page of memory.
    #[error("a secret is longer than {} bytes", SecretBytes::MAX)]
    TooLong,
    /// The random source gave no bytes for the secret.
    #[error(transparent)]
    Random(#[from] RandomError),
}

// SAFETY: a `Secret` owns its pages alone and hands out references only under the borrow rules of `&self` and `&mut
// self`.
unsafe impl<const N: usize> Send for Secret<N> {}
// SAFETY: as above; there is no interior mutability.
unsafe impl<const N: usize> Sync for Secret<N> {}

impl<const N: usize> Secret<N> {
    /// Returns `N` zero bytes. The caller writes the secret into them.
    ///
    /// # Errors
    /// When the kernel cannot map the pages, lock them, or keep them out of dumps and children.
    pub fn zeroed() -> Result<Self, SecretError> {
        let pages = match Protection::here()? {
            Protection::Hidden => SecretPages::hidden(N)?,
            Protection::Locked => SecretPages::locked(N)?,
        };
        Ok(Self { bytes: pages.keep().cast() })
    }

    /// Returns `N` random bytes.
    ///
    /// # Errors
    /// As [`Secret::zeroed`], or when the random source fails.
    pub fn random(rng: &mut impl rand::TryCryptoRng) -> Result<Self, SecretError> {
        let mut secret = Self::zeroed()?;
        fill_random(rng, secret.expose_mut())?;
        Ok(secret)
    }

    /// Returns the bytes. The name makes every use easy to find.
    pub fn expose(&self) -> &[u8; N] {
        // SAFETY: the mapping holds N initialised bytes and lives as long as `self`; `&self` rules out a writer.
        unsafe { self.bytes.as_ref() }
    }

    /// Returns the bytes, for writing in place.
    pub fn expose_mut(&mut self) -> &mut [u8; N] {
        // SAFETY: as in `expose`; `&mut self` rules out any other reference.
        unsafe { self.bytes.as_mut() }
    }
}

/// A secret of any length up to a page: a passphrase or a credential. Its `Debug` prints only the type, not the length.
pub struct SecretBytes {
    memory: Secret<{ Self::MAX }>,
    length: usize,
}

impl SecretBytes {
    /// The greatest length of a secret in bytes: one page.
    pub const MAX: usize = 4096;

    /// Copies `bytes`.
    ///
    /// # Errors
    /// As [`Secret::zeroed`], and when there are more than [`SecretBytes::MAX`].
    pub fn copy_of(bytes: &[u8]) -> Result<Self, SecretError> {
        let mut memory: Secret<{ Self::MAX }> = Secret::zeroed()?;
        let length = bytes.len();
        let place = memory.expose_mut().get_mut(..length).ok_or(SecretError::TooLong)?;
        place.copy_from_slice(bytes);
        Ok(Self { memory, length })
    }

    /// Returns the bytes of the secret.
    pub fn expose(&self) -> &[u8] {
        &self.memory.expose()[..self.length]
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.expose_mut().zeroize();
        drop(SecretPages { start: self.bytes.cast(), length: N });
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes")
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret<{N}>")
    }
}

/// Pages of memory that only their owner uses. Dropping them unmaps them.
struct SecretPages {
    start: NonNull<c_void>,
    length: usize,
}

impl SecretPages {
    /// Maps secret memory. The kernel locks such pages and leaves them out of dumps by itself.
    fn hidden(length: usize) -> Result<Self, SecretError> {
        let memory = secret_descriptor().map_err(|errno| SecretError::Map(errno.into()))?;
        rustix::fs::ftruncate(&memory, length as u64).map_err(|errno| SecretError::Map(errno.into()))?;
        // SAFETY: a mapping at an address of the kernel's choice touches no memory of ours; no one else has the
        // descriptor.
        let start = unsafe {
            rustix::mm::mmap(ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, &memory, 0)
        };
        let pages = Self::new(length, start)?;
        // A forked child would share these pages, so it must not get them.
        pages.advise(Advice::LinuxDontFork)?;
        Ok(pages)
    }

    fn locked(length: usize) -> Result<Self, SecretError> {
        // SAFETY: an anonymous private mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            rustix::mm::mmap_anonymous(ptr::null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)
        };
        let pages = Self::new(length, start)?;
        // SAFETY: the mapping is ours and `length` bytes long; locking does not change its contents.
        unsafe { rustix::mm::mlock(pages.start.as_ptr(), length) }.map_err(|errno| SecretError::Lock(errno.into()))?;
        pages.advise(Advice::LinuxDontDump)?;
        pages.advise(Advice::LinuxWipeOnFork)?;
        Ok(pages)
    }

    fn new(length: usize, start: rustix::io::Result<*mut c_void>) -> Result<Self, SecretError> {
        let start = start.map_err(|errno| match errno {
            // With this error mmap(2) reports that `RLIMIT_MEMLOCK` is too small.
            Errno::AGAIN => SecretError::Lock(errno.into()),
            errno => SecretError::Map(errno.into()),
        })?;
        let start = NonNull::new(start).ok_or_else(|| SecretError::Map(io::ErrorKind::OutOfMemory.into()))?;
        Ok(Self { start, length })
    }

    fn advise(&self, advice: Advice) -> Result<(), SecretError> {
        // SAFETY: the mapping is ours and `length` bytes long; none of the advice given here changes its contents.
        unsafe { rustix::mm::madvise(self.start.as_ptr(), self.length, advice) }
            .map_err(|errno| SecretError::Advise(errno.into()))
    }

    /// Gives the mapping to the caller, without unmapping it.
    fn keep(self) -> NonNull<c_void> {
        std::mem::ManuallyDrop::new(self).start
    }
}

impl Drop for SecretPages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, `length` bytes long, and no reference to it outlives its owner. Unmapping also
        // unlocks. It can fail only for an address that is not mapped, and then there is nothing left to do.
        let _ = unsafe { rustix::mm::munmap(self.start.as_ptr(), self.length) };
    }
}

/// Opens secret memory. Fails if the kernel does not have it, or has it switched off (`secretmem.enable=0`).
fn secret_descriptor() -> rustix::io::Result<OwnedFd> {
    // SAFETY: the call takes flags alone and touches no memory of ours.
    let descriptor = unsafe { libc::syscall(libc::SYS_memfd_secret, libc::O_CLOEXEC) };
    match i32::try_from(descriptor) {
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        Ok(descriptor) if descriptor >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(descriptor) }),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::NOSYS)),
    }
}

#[cfg(test)]
mod tests {
    use std::{env, fs::File, os::unix::fs::FileExt, process::Command};

    use rustix::process::{Resource, Rlimit, setrlimit};

    use super::*;

    /// The environment variable that tells a test to run the second part in a process of its own, because a process
    /// chooses its memory once.
    const WAY: &str = "CLAVIGER_TEST_WAY";

    /// Whether the kernel has secret memory, whatever the code above makes of its answer.
    fn kernel_hides() -> bool {
        // SAFETY: the calls take flags and a descriptor, and touch no memory of ours.
        let descriptor = unsafe { libc::syscall(libc::SYS_memfd_secret, 0) };
        i32::try_from(descriptor).is_ok_and(|descriptor| unsafe { libc::close(descriptor) } == 0)
    }

    /// Runs the test `name` again in its own process, with `way` in its environment.
    fn run_again(name: &str, way: &str) {
        let mut command = Command::new(env::current_exe().unwrap());
        let name = format!("memory::secret::tests::{name}");
        let output = command.args([&name, "--exact", "--nocapture"]).env(WAY, way).output().unwrap();
        assert!(output.status.success(), "{way}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Returns the `VmFlags` of the mapping that begins at these pages.
    fn kernel_flags(pages: &SecretPages) -> Vec<String> {
        let start = format!("{:x}-", pages.start.as_ptr() as usize);
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let flags = maps
            .lines()
            .skip_while(|line| !line.starts_with(&start))
            .find_map(|line| line.strip_prefix("VmFlags: "))
            .unwrap();
        flags.split_whitespace().map(str::to_owned).collect()
    }

    fn assert_flags(pages: &SecretPages, expected: [(&str, &str); 3]) {
        let flags = kernel_flags(pages);
        for (flag, meaning) in expected {
            assert!(flags.iter().any(|f| f == flag), "{meaning}: {flags:?}");
        }
    }

    /// Reads the pages through the kernel, as a debugger does.
    fn read_as_debugger(pages: &SecretPages) -> io::Result<[u8; 4]> {
        let mut bytes = [0; 4];
        File::open("/proc/self/mem")?.read_exact_at(&mut bytes, pages.start.as_ptr() as u64)?;
        Ok(bytes)
    }

    #[test]
    fn locked_pages_are_kept_out_of_swap_dumps_and_children() {
        let pages = SecretPages::locked(32).unwrap();
        assert_flags(&pages, [("lo", "locked"), ("dd", "not dumped"), ("wf", "wiped on fork")]);
        assert_eq!(read_as_debugger(&pages).unwrap(), [0; 4], "or the other test proves nothing");
    }

    #[test]
    fn hidden_pages_are_kept_from_whoever_looks_too() {
        if !kernel_hides() {
            return println!("skipped: this kernel has no memfd_secret");
        }
        let pages = SecretPages::hidden(32).unwrap();
        assert_flags(&pages, [("lo", "locked"), ("dd", "not dumped"), ("dc", "not in children")]);
        assert_eq!(read_as_debugger(&pages).unwrap_err().raw_os_error(), Some(Errno::IO.raw_os_error()));
    }

    #[test]
    fn secrets_are_where_the_kernel_keeps_them_best() {
        let hidden = kernel_hides();
        let expected = if hidden { (Protection::Hidden, "memfd_secret") } else { (Protection::Locked, "mlock") };
        let found = Protection::here().unwrap();
        assert_eq!((found, found.as_str()), expected);
        let secret = Secret::<32>::zeroed().unwrap();
        let pages = std::mem::ManuallyDrop::new(SecretPages { start: secret.bytes.cast(), length: 32 });
        assert_eq!(read_as_debugger(&pages).is_err(), hidden);
    }

    #[test]
    fn secrets_are_in_locked_memory_if_that_was_chosen_and_not_because_descriptors_are_short() {
        let Ok(way) = env::var(WAY) else {
            return ["chosen", "short"].into_iter().for_each(|way| {
                run_again("secrets_are_in_locked_memory_if_that_was_chosen_and_not_because_descriptors_are_short", way);
            });
        };
        let memory = File::open("/proc/self/mem").unwrap();
        if way == "short" {
            let nofile = |current| setrlimit(Resource::Nofile, Rlimit { current, maximum: Some(1024) }).unwrap();
            nofile(Some(0));
            let outcome = (Protection::here(), Secret::<4>::zeroed());
            nofile(Some(1024));
            if kernel_hides() {
                assert!(matches!(outcome, (Err(SecretError::Map(_)), Err(SecretError::Map(_)))), "{outcome:?}");
                assert_eq!(Protection::here().unwrap(), Protection::Hidden, "the failure is not remembered");
            }
            return;
        }
        Protection::choose_locked();
        let mut secret = Secret::<4>::zeroed().unwrap();
        secret.expose_mut().copy_from_slice(b"abcd");
        assert_eq!(Protection::here().unwrap().as_str(), "mlock");
        let mut bytes = [0; 4];
        memory.read_exact_at(&mut bytes, secret.bytes.as_ptr() as u64).unwrap();
        assert_eq!(bytes, *b"abcd");
    }

    fn is_mapped(address: usize) -> bool {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let number = |text| usize::from_str_radix(text, 16).unwrap();
        let mut ranges = maps.lines().filter_map(|line| line.split(' ').next()?.split_once('-'));
        ranges.any(|(start, end)| (number(start)..number(end)).contains(&address))
    }

    #[test]
    fn a_dropped_secret_gives_its_pages_back() {
        // Another thread may get the same pages at once, but not ten times in a row.
        let is_unmapped = |_| {
            let secret = Secret::<32>::zeroed().unwrap();
            let start = secret.bytes.as_ptr() as usize;
            assert!(is_mapped(start), "or the rest proves nothing");
            drop(secret);
            !is_mapped(start)
        };
        assert!((0..10).any(is_unmapped));
    }

    #[test]
    fn secret_bytes_are_those_that_were_copied_and_never_a_part_of_them() {
        let bytes: Vec<u8> = (0..=255).cycle().take(SecretBytes::MAX + 1).collect();
        for length in [0, 5, SecretBytes::MAX] {
            assert_eq!(SecretBytes::copy_of(&bytes[..length]).unwrap().expose(), &bytes[..length]);
        }
        let refused = SecretBytes::copy_of(&bytes).unwrap_err();
        assert_eq!(refused.to_string(), "a secret is longer than 4096 bytes");
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

    #[test]
    fn more_memory_than_there_can_be_is_refused() {
        let refused = SecretPages::locked(usize::MAX / 2).err().unwrap();
        assert_eq!(refused.to_string(), "mapping memory for a key: Cannot allocate memory (os error 12)");
    }
}
