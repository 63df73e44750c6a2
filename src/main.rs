//! Arguments to exit code; nothing else.

/// Wipes on free: buffers of the transport hold seeds, and are freed by code that is not ours.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> std::process::ExitCode {
    claviger::run()
}
