//! The system calls of a daemon that has started, as data. The filter is built from it, and a test compares it with what a daemon calls.
//!
//! No call here starts a program or a thread, connects, looks into another process, or makes memory executable.

use std::ffi::c_long;

/// A system call by its name and its number on this machine.
pub(crate) type SystemCall = (&'static str, c_long);

/// A call that is allowed for some arguments only: for each condition, `argument & mask` must be `value`.
pub(crate) struct Narrowed {
    pub(crate) call: SystemCall,
    pub(crate) conditions: Vec<Condition>,
}

/// What an argument must be.
pub(crate) struct Condition {
    pub(crate) argument: u8,
    pub(crate) mask: u64,
    pub(crate) value: u64,
}

macro_rules! calls {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name)),*] };
}

/// What every daemon calls, with any arguments.
pub(crate) const USUAL: &[SystemCall] = calls! {
    // the event loop
    SYS_epoll_ctl SYS_futex SYS_sched_yield
    // connections
    SYS_accept4 SYS_bind SYS_getsockopt SYS_listen SYS_recvfrom SYS_sendto SYS_shutdown SYS_writev
    // files: the layer of files restricts which
    SYS_close SYS_fadvise64 SYS_fchmodat SYS_fcntl SYS_flock SYS_fstat SYS_fsync SYS_ftruncate SYS_getdents64
    SYS_newfstatat SYS_openat SYS_read SYS_renameat SYS_statx SYS_unlinkat SYS_write
    // memory
    SYS_madvise SYS_memfd_secret SYS_munmap
    // who and where we are, random numbers, the end
    SYS_exit SYS_exit_group SYS_getrandom SYS_geteuid SYS_getpid SYS_rt_sigprocmask SYS_rt_sigreturn SYS_sigaltstack
};

/// The same, by older names that only this architecture has.
#[cfg(target_arch = "x86_64")]
pub(crate) const OLDER: &[SystemCall] = calls! { SYS_epoll_wait SYS_open SYS_poll SYS_readlink SYS_stat SYS_lstat };
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const OLDER: &[SystemCall] = &[];

/// What a daemon calls only with another kernel or C library, or after a failure.
pub(crate) const RARE: &[SystemCall] = calls! {
    // clocks and sleep, where the vDSO has none
    SYS_clock_getres SYS_clock_gettime SYS_clock_nanosleep SYS_gettimeofday SYS_nanosleep SYS_getcpu
    // several threads that allocate at the same moment: the C library adds a heap
    SYS_gettid SYS_sched_getaffinity
    // the same steps in other C libraries and in later versions of this one
    SYS_epoll_pwait SYS_epoll_pwait2 SYS_fstatfs SYS_getegid SYS_getgid SYS_getpeername SYS_getsockname SYS_getuid
    SYS_ppoll SYS_pwrite64 SYS_pwritev SYS_preadv SYS_readlinkat SYS_readv SYS_recvmsg SYS_renameat2 SYS_sendmsg
    SYS_setsockopt SYS_statfs
    // much memory at once, a file that is read in pieces or written without its size
    SYS_brk SYS_fdatasync SYS_lseek SYS_mremap SYS_pread64
    // a state directory that was given as a relative path
    SYS_getcwd
    // a full disk, an interrupted call, a signal handler, a shutdown of threads
    SYS_fallocate SYS_fchmod SYS_fchown SYS_fchownat SYS_membarrier SYS_restart_syscall SYS_rseq SYS_rt_sigaction
    SYS_set_robust_list
    // keys in locked memory, where there is no secret memory
    SYS_mlock SYS_munlock
};

/// What is allowed for some arguments only. If a call is here several times, one of them must fit.
pub(crate) fn narrowed(our_pid: u32) -> Vec<Narrowed> {
    const PR_GET_AUXV: i32 = 0x4155_5856;
    const WHOLE: u64 = u32::MAX as u64;
    let narrowed = |call, conditions: &[(u8, u64, u64)]| Narrowed {
        call,
        conditions: conditions.iter().map(|&(argument, mask, value)| Condition { argument, mask, value }).collect(),
    };
    // The C library's numbers are not negative.
    let bits = |number: i32| u64::from(number.unsigned_abs());
    let not_executable = [(2, bits(libc::PROT_EXEC), 0)];
    // The socket for calls or for metrics, made again after somebody removed it, or made when its port became free.
    let stream = |family| [(0, WHOLE, bits(family)), (1, 0xf, bits(libc::SOCK_STREAM))];
    vec![
        narrowed(("SYS_mmap", libc::SYS_mmap), &not_executable),
        narrowed(("SYS_mprotect", libc::SYS_mprotect), &not_executable),
        narrowed(("SYS_socket", libc::SYS_socket), &stream(libc::AF_UNIX)),
        narrowed(("SYS_socket", libc::SYS_socket), &stream(libc::AF_INET)),
        narrowed(("SYS_socket", libc::SYS_socket), &stream(libc::AF_INET6)),
        narrowed(("SYS_ioctl", libc::SYS_ioctl), &[(1, WHOLE, libc::FIONBIO)]),
        // Asks whether standard error is a terminal.
        narrowed(("SYS_ioctl", libc::SYS_ioctl), &[(1, WHOLE, libc::TCGETS)]),
        // What the kernel told the process at its start.
        narrowed(("SYS_prctl", libc::SYS_prctl), &[(0, WHOLE, bits(PR_GET_AUXV))]),
        narrowed(("SYS_prctl", libc::SYS_prctl), &[(0, WHOLE, bits(libc::PR_SET_NAME))]),
        narrowed(("SYS_prctl", libc::SYS_prctl), &[(0, WHOLE, bits(libc::PR_SET_VMA))]),
        // How the process aborts itself.
        narrowed(("SYS_tgkill", libc::SYS_tgkill), &[(0, WHOLE, u64::from(our_pid))]),
    ]
}
