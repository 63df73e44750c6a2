//! claviger without the allocator that wipes: what the search of memory has to find seeds in, or it proves nothing.

fn main() -> std::process::ExitCode {
    claviger::run()
}
