//! The binary `claviger`: calls the library with the arguments, exits with its code, and sets an allocator that wipes.

/// Wipes memory when it is freed. Buffers of the transport contain seeds, and code of other crates frees them.
#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> std::process::ExitCode {
    claviger::run()
}
