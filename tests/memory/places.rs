//! The places where a secret of a process could be: its memory, a core dump of it, and files.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
    time::Duration,
};

use super::needles::{Finds, Needles};
use crate::harness::{commands::output_of_success, processes::Run};

/// The time limit for writing a core dump.
const LIMIT: Duration = Duration::from_mins(1);

/// A line of `/proc/PID/maps`.
struct Mapping {
    start: u64,
    length: usize,
    name: String,
}

impl Mapping {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let [start, end] = [start, end].map(|number| u64::from_str_radix(number, 16).unwrap());
        let readable = words.next()?.starts_with('r');
        let name = words.skip(3).collect::<Vec<_>>().join(" ");
        readable.then(|| Self { start, length: usize::try_from(end - start).unwrap(), name })
    }

    /// Whether the kernel hides the mapping from everyone: memory of `memfd_secret`, and what the kernel shares for the
    /// clock.
    fn is_hidden(&self) -> bool {
        self.name.starts_with("/secretmem") || self.name.starts_with("[vvar") || self.name == "[vsyscall]"
    }
}

/// The memory of a process, as far as the kernel shows it to root.
pub(super) struct Memory {
    ranges: Vec<(String, Vec<u8>)>,
    /// The number of mappings of secret memory, which cannot be read.
    pub(super) hidden: usize,
}

impl Memory {
    /// Reads all readable memory. Fails if anything but secret memory cannot be read.
    pub(super) fn of(pid: u32) -> Self {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
        let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
        let mut seen = Self { ranges: Vec::new(), hidden: 0 };
        for mapping in maps.lines().filter_map(Mapping::parse) {
            let mut bytes = vec![0; mapping.length];
            match memory.read_exact_at(&mut bytes, mapping.start) {
                Ok(()) => seen.ranges.push((format!("memory of {:x} {}", mapping.start, mapping.name), bytes)),
                Err(_) if mapping.name.starts_with("/secretmem") => seen.hidden += 1,
                Err(error) => assert!(mapping.is_hidden(), "{:x} {}: {error}", mapping.start, mapping.name),
            }
        }
        seen
    }

    pub(super) fn find(&self, needles: &Needles, finds: &mut Finds) {
        for (place, bytes) in &self.ranges {
            needles.find(bytes, place, finds);
        }
    }
}

/// The contents of a core dump.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Dumped {
    /// The memory that gcore takes by default.
    Usual,
    /// All memory except the mappings that the process excluded one by one.
    NotExcluded,
    /// All memory.
    All,
}

/// Returns the core dump that gdb makes of a process.
pub(super) fn core_dump(run: &Run, pid: u32, dumped: Dumped) -> Vec<u8> {
    let stem = run.path("core");
    let path = stem.with_extension(pid.to_string());
    let mut command = Command::new(if dumped == Dumped::NotExcluded { "gdb" } else { "gcore" });
    if dumped == Dumped::NotExcluded {
        let [attach, gcore] = [format!("attach {pid}"), format!("gcore {}", path.display())];
        command.args(["-nx", "-batch", "-ex", "set use-coredump-filter off"]);
        command.args(["-ex", &attach, "-ex", &gcore, "-ex", "detach"]);
    } else {
        command.args((dumped == Dumped::All).then_some("-a")).arg("-o").arg(&stem).arg(pid.to_string());
    }
    output_of_success(command, &[], LIMIT).unwrap();
    let dump = fs::read(&path).unwrap();
    fs::remove_file(path).unwrap();
    dump
}

/// Looks through every file below `directory`, except `exempt`.
pub(super) fn find_in_files(directory: &Path, exempt: &Path, needles: &Needles, finds: &mut Finds) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            files += find_in_files(&path, exempt, needles, finds);
        } else if kind.is_file() && path != exempt {
            needles.find(&fs::read(&path).unwrap(), &path.display().to_string(), finds);
            files += 1;
        }
    }
    files
}
