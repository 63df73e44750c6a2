//! Starts children that die with this process, however it dies.
//!
//! With `PR_SET_PDEATHSIG`, a child asks the kernel to kill it when its parent has died. "Parent" means the *thread*
//! that forked it. A child that a test's thread started would therefore die with that test, and a shared child with the
//! first test that used it. So one thread, which lives as long as the process, starts all children.

#![allow(unsafe_code, reason = "`pre_exec` is the only way to set the death signal and the host name of a child")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{LazyLock, mpsc};
use std::thread;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};
use rustix::system::sethostname;
use rustix::thread::{UnshareFlags, unshare_unsafe};

use super::commands::line_of;
use super::error::{Context, Result};

/// An order to the one thread that starts processes.
struct Order {
    command: Command,
    reply: mpsc::Sender<io::Result<Child>>,
}

/// The sender of orders to the thread. It is in a static and never closed, so the thread lives as long as the process.
static SPAWNER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (inbox, orders) = mpsc::channel::<Order>();
    thread::spawn(move || {
        for mut order in orders {
            // If the caller has panicked, nobody takes the child. It is dropped, and dies with this process.
            let _ = order.reply.send(order.command.spawn());
        }
    });
    inbox
});

/// Starts a child that dies with this process.
pub(crate) fn spawn(mut command: Command) -> Result<Child> {
    let line = line_of(&command);
    die_with_this_process(&mut command);
    let (reply, answer) = mpsc::channel();
    SPAWNER.send(Order { command, reply }).during(|| format!("starting `{line}`"))?;
    answer.recv().during(|| format!("starting `{line}`"))?.during(|| format!("starting `{line}`"))
}

/// Prepares a command for [`spawn`]: it gets its own process group, and SIGKILL when the spawning thread dies.
fn die_with_this_process(command: &mut Command) {
    command.process_group(0);
    let parent = getpid();
    let ask_the_kernel = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before that call. Then no signal would ever come.
        if getppid() != Some(parent) {
            return Err(io::Error::from(rustix::io::Errno::SRCH));
        }
        Ok(())
    };
    // SAFETY: the closure runs in the child between fork and exec, where other threads' locks may be held for ever. It
    // makes two system calls and builds an error from a number: no allocation, no lock, nothing but the stack.
    unsafe {
        command.pre_exec(ask_the_kernel);
    }
}

/// Makes a command run under a host name of its own, so that one machine can play several.
///
/// That takes a namespace, which root may have, and others where the system allows user namespaces to everyone.
pub(crate) fn set_host_name(command: &mut Command, name: &str) {
    let name = name.as_bytes().to_owned();
    let move_away = move || {
        unshare_host_name()?;
        Ok(sethostname(&name)?)
    };
    // SAFETY: as in `die_with_this_process`: system calls on existing memory, and errors made of numbers.
    unsafe {
        command.pre_exec(move_away);
    }
}

fn unshare_host_name() -> rustix::io::Result<()> {
    // SAFETY: only `UnshareFlags::FILES` is dangerous, because it would separate threads that share descriptors.
    let unshare = |flags| unsafe { unshare_unsafe(flags) };
    unshare(UnshareFlags::NEWUTS).or_else(|_| unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWUTS))
}
