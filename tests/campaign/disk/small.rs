//! Runs commands on file systems of one page to 64 KiB. A command says that there is no room, and the existing files
//! stay whole.

use super::case::Base;
use crate::cli::disk::Disk;

/// The number of pages. A page of a tmpfs has 4 KiB.
const PAGES: u64 = 16;

const STATE: &str = "--state-dir [DIR]/disk/state";

/// The commands that fill a disk. Each of them writes something that stays.
const LIFE: [&str; 9] = [
    "init --without-recovery",
    "key add",
    "key promote k2 --without-backup",
    "rekey",
    "slot add file --name second",
    "recovery add [RECIPIENT] --recovery-identity [DIR]/others.txt",
    "key add",
    "key promote k3 --without-backup",
    "rekey",
];

#[test]
#[ignore = "campaign"]
fn a_disk_of_any_smallness_is_full_and_never_broken() {
    let mut figures = Vec::new();
    for pages in 1..=PAGES {
        let sandbox = Base::new().sandbox;
        let Some(disk) = Disk::new(&sandbox, pages) else { return };
        let recipient = crate::cli::identity(&sandbox, "others.txt");
        let mut done = 0;
        for line in LIFE {
            let before = disk.call(&format!("key list {STATE}")).run();
            let answer = disk.call(&format!("{} {STATE}", line.replace("[RECIPIENT]", &recipient))).run();
            let after = disk.call(&format!("key list {STATE}")).run();
            match answer.code {
                0 => done += 1,
                _ if before.code == 0 => {
                    after.ends_with(0);
                    let is_reported = answer.stderr.contains("was changed, but") || answer.stderr.contains("rekey");
                    assert!(is_reported || after.stdout == before.stdout, "{answer}{before}{after}");
                }
                _ => {}
            }
        }
        // A disk that was made larger takes everything again.
        disk.remount("size=1m");
        let is_marked = disk.path("state/mark").exists();
        if is_marked && disk.call(&format!("key list {STATE}")).run().code == 0 {
            disk.call(&format!("rekey {STATE}")).run().ends_with(0);
            disk.call(&format!("key add {STATE}")).run().ends_with(0);
        }
        figures.push(done);
    }
    println!("disks of 4 to {} KiB: {figures:?} of {} commands were done, the others refused", 4 * PAGES, LIFE.len());
    assert!(figures[0] == 0 && figures.last().is_some_and(|done| *done >= LIFE.len() - 1), "{figures:?}");
}
