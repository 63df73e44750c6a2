//! The metrics of the process that Prometheus expects of every program. The kernel reports them at a scrape.

use std::fs;

use prometheus_client::{metrics::gauge::Gauge, registry::Registry};

/// Returns the present metrics of this process. A metric that the kernel does not report is left out.
pub(super) fn now() -> Registry {
    let mut registry = Registry::default();
    let known = [
        ("process_resident_memory_bytes", "Memory that is resident, in bytes", resident_bytes()),
        ("process_open_fds", "Open file descriptors", open_descriptors()),
    ];
    for (name, help, value) in known {
        if let Some(value) = value.and_then(|value| value.try_into().ok()) {
            let gauge = Gauge::<i64>::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        }
    }
    registry
}

fn resident_bytes() -> Option<usize> {
    let pages: usize = fs::read_to_string("/proc/self/statm").ok()?.split(' ').nth(1)?.parse().ok()?;
    pages.checked_mul(rustix::param::page_size())
}

fn open_descriptors() -> Option<usize> {
    // Subtracts the descriptor that reads this directory.
    fs::read_dir("/proc/self/fd").ok()?.count().checked_sub(1)
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn the_process_is_as_the_kernel_has_it() {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let kilobytes = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let reported: usize = kilobytes.trim().strip_suffix(" kB").unwrap().parse().unwrap();
        let resident = resident_bytes().unwrap() / 1024;
        assert!((reported / 2..reported * 2).contains(&resident), "{resident} kB, and the kernel says {reported} kB");
        let _files: Vec<File> = (0..100).map(|_| File::open("/dev/null").unwrap()).collect();
        assert!((100..10_000).contains(&open_descriptors().unwrap()));
    }
}
