//! claviger without the allocator that wipes. The search has to find seeds in its memory. Otherwise the search proves
//! nothing.

fn main() -> std::process::ExitCode {
    claviger::run()
}
