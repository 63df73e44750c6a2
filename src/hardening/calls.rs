//! The system calls of a daemon that has started, as data. The filter is built from it, and a test compares it with
//! what a daemon calls.
//!
//! No call here starts a program or a thread, connects, looks into another process, or makes memory executable. None
//! lets root change the mode or the owner of files that other programs use. What remains is in `docs/threat-model.md`.

use std::ffi::c_long;

/// A system call by its name and its number on this machine.
pub(crate) type SystemCall = (&'static str, c_long);

/// A system call that is allowed for some arguments only: for each condition, `argument & mask` must be `value`.
pub(crate) struct Narrowed {
    pub(crate) call: SystemCall,
    pub(crate) conditions: Vec<Condition>,
}

/// A condition that an argument of a system call must meet.
pub(crate) struct Condition {
    pub(crate) argument: u8,
    pub(crate) mask: u64,
    pub(crate) value: u64,
}

macro_rules! calls {
    ($($name:ident)*) => { &[$((stringify!($name), libc::$name)),*] };
}

/// The system calls of every daemon, with any arguments.
pub(crate) const USUAL: &[SystemCall] = calls! {
    // for the event loop
    SYS_epoll_ctl SYS_futex SYS_sched_yield
    // for connections
    SYS_accept4 SYS_bind SYS_getsockopt SYS_listen SYS_recvfrom SYS_shutdown SYS_writev
    // for files: Landlock restricts which ones
    SYS_close SYS_fadvise64 SYS_fcntl SYS_flock SYS_fstat SYS_fsync SYS_ftruncate SYS_getdents64
    SYS_newfstatat SYS_read SYS_renameat SYS_statx SYS_unlinkat SYS_write
    // for memory
    SYS_madvise SYS_memfd_secret SYS_munmap
    // for the identity of the process, random numbers, and its end
    SYS_exit SYS_exit_group SYS_getrandom SYS_geteuid SYS_getpid SYS_rt_sigprocmask SYS_rt_sigreturn SYS_sigaltstack
};

/// System calls with the same purpose, under older names that only this architecture has.
#[cfg(target_arch = "x86_64")]
pub(crate) const OLDER: &[SystemCall] = calls! { SYS_epoll_wait SYS_poll SYS_readlink SYS_stat SYS_lstat };
#[cfg(not(target_arch = "x86_64"))]
pub(crate) const OLDER: &[SystemCall] = &[];

/// System calls that a daemon makes only with another kernel or C library, or after a failure.
pub(crate) const RARE: &[SystemCall] = calls! {
    // for clocks and sleep, if the vDSO does not provide them
    SYS_clock_getres SYS_clock_gettime SYS_clock_nanosleep SYS_gettimeofday SYS_nanosleep SYS_getcpu
    // for several threads that allocate at the same moment: the C library adds a heap
    SYS_gettid SYS_sched_getaffinity
    // for the same steps in other C libraries and in later versions of this one
    SYS_epoll_pwait SYS_epoll_pwait2 SYS_fstatfs SYS_getegid SYS_getgid SYS_getpeername SYS_getsockname SYS_getuid
    SYS_ppoll SYS_pwrite64 SYS_pwritev SYS_preadv SYS_readlinkat SYS_readv SYS_recvmsg SYS_renameat2
    SYS_statfs
    // for much memory at once, and for a file that is read in pieces or written without its size
    SYS_brk SYS_fdatasync SYS_lseek SYS_mremap SYS_pread64
    // for a state directory that was given as a relative path
    SYS_getcwd
    // for a full disk, an interrupted call, a signal handler, a shutdown of threads
    SYS_fallocate SYS_membarrier SYS_restart_syscall SYS_rseq SYS_rt_sigaction
    SYS_set_robust_list
    // for keys in locked memory, if there is no secret memory
    SYS_mlock SYS_munlock
};

/// The facts about a daemon that its filter of system calls depends on.
#[derive(Debug, Clone, Copy, Default)]
pub struct OwnFacts {
    /// The PID of the daemon.
    pub pid: u32,
    /// Whether the daemon runs as root, who may change the mode and the owner of any file.
    pub is_root: bool,
    /// The primary group of the process.
    pub group: u32,
    /// The group that may open the socket of the daemon.
    pub socket_group: Option<u32>,
    /// The user and the group that own the state directory.
    pub owner: Option<(u32, u32)>,
}

/// The flags of open(2) that create a file.
const MAKES_FILE: u64 = (libc::O_CREAT | (libc::O_TMPFILE & !libc::O_DIRECTORY)).unsigned_abs() as u64;

/// All bits of a four-byte argument.
const WHOLE: u64 = u32::MAX as u64;

/// All bits of a file mode.
const ALL_MODES: u64 = 0o7777;

/// Returns the calls that set the group and the mode of a new socket. A daemon without root may change both after it
/// made the socket, because it can change only its own files. Root could change any file, so a daemon that runs as root
/// sets its group and its umask before it makes the socket.
fn of_a_new_socket(own: OwnFacts) -> Vec<Narrowed> {
    let Some(group) = own.socket_group.map(u64::from) else { return Vec::new() };
    let mode = |mode| narrowed_to(("SYS_fchmodat", libc::SYS_fchmodat), &[(2, WHOLE, mode)]);
    if !own.is_root {
        let given = narrowed_to(("SYS_fchownat", libc::SYS_fchownat), &[(2, WHOLE, WHOLE), (3, WHOLE, group)]);
        return vec![mode(0o600), mode(0o660), given];
    }
    let real = u64::from(own.group);
    let member = |group| {
        let values = [(0, WHOLE, real), (1, WHOLE, group), (2, WHOLE, real)];
        narrowed_to(("SYS_setresgid", libc::SYS_setresgid), &values)
    };
    let mask = |mask| narrowed_to(("SYS_umask", libc::SYS_umask), &[(0, WHOLE, mask)]);
    vec![member(group), member(real), mask(0o117), mask(0o177)]
}

/// Returns the calls that are allowed for some arguments only. If a call is listed several times, one of its entries
/// must fit.
///
/// No call here reaches a network. A daemon that serves metrics at a port makes that socket before it confines itself.
/// It cannot make another one, and `sendto` cannot connect this one.
pub(crate) fn narrowed(own: OwnFacts) -> Vec<Narrowed> {
    const PR_GET_AUXV: i32 = 0x4155_5856;
    // The numbers of the C library are not negative.
    let bits = |number: i32| u64::from(number.unsigned_abs());
    let not_executable = [(2, bits(libc::PROT_EXEC), 0)];
    // The socket for calls or for metrics, which the daemon makes again if somebody removes it.
    let unix_stream = [(0, WHOLE, bits(libc::AF_UNIX)), (1, 0xf, bits(libc::SOCK_STREAM)), (2, WHOLE, 0)];
    // An address could name any socket of the machine, and the flag connects a socket while it sends.
    let on_its_connection = [(3, bits(libc::MSG_FASTOPEN), 0), (4, u64::MAX, 0)];
    let mut calls = vec![
        narrowed_to(("SYS_mmap", libc::SYS_mmap), &not_executable),
        narrowed_to(("SYS_mprotect", libc::SYS_mprotect), &not_executable),
        narrowed_to(("SYS_socket", libc::SYS_socket), &unix_stream),
        narrowed_to(("SYS_sendto", libc::SYS_sendto), &on_its_connection),
        narrowed_to(("SYS_openat", libc::SYS_openat), &[(2, MAKES_FILE, 0)]),
        narrowed_to(("SYS_openat", libc::SYS_openat), &[(3, ALL_MODES, 0o600)]),
        narrowed_to(("SYS_ioctl", libc::SYS_ioctl), &[(1, WHOLE, libc::FIONBIO)]),
        // The log asks whether standard error is a terminal.
        narrowed_to(("SYS_ioctl", libc::SYS_ioctl), &[(1, WHOLE, libc::TCGETS)]),
        // The process reads its auxiliary vector, which the kernel filled at its start.
        narrowed_to(("SYS_prctl", libc::SYS_prctl), &[(0, WHOLE, bits(PR_GET_AUXV))]),
        // A thread sets its own name, perhaps after the filter is in force.
        narrowed_to(("SYS_prctl", libc::SYS_prctl), &[(0, WHOLE, bits(libc::PR_SET_NAME))]),
        narrowed_to(("SYS_prctl", libc::SYS_prctl), &[(0, WHOLE, bits(libc::PR_SET_VMA))]),
        // The process aborts itself.
        narrowed_to(("SYS_tgkill", libc::SYS_tgkill), &[(0, WHOLE, u64::from(own.pid))]),
    ];
    #[cfg(target_arch = "x86_64")]
    calls.extend([
        narrowed_to(("SYS_open", libc::SYS_open), &[(1, MAKES_FILE, 0)]),
        narrowed_to(("SYS_open", libc::SYS_open), &[(2, ALL_MODES, 0o600)]),
    ]);
    calls.extend(of_a_new_socket(own));
    // A daemon that runs as root gives its new files to the owner of the state directory.
    calls.extend(own.owner.map(|(user, group)| {
        narrowed_to(("SYS_fchown", libc::SYS_fchown), &[(1, WHOLE, u64::from(user)), (2, WHOLE, u64::from(group))])
    }));
    calls
}

/// Makes a call with conditions: the index of an argument, a mask and a value each.
fn narrowed_to(call: SystemCall, conditions: &[(u8, u64, u64)]) -> Narrowed {
    let conditions = conditions.iter().map(|&(argument, mask, value)| Condition { argument, mask, value });
    Narrowed { call, conditions: conditions.collect() }
}
