//! claviger with another clock, on which minutes pass at once. The program itself has no such option. The tests of
//! rotations run this program.

#[path = "hurried_clock.rs"]
mod hurried_clock;

#[global_allocator]
static ALLOCATOR: zeroizing_alloc::ZeroAlloc<std::alloc::System> = zeroizing_alloc::ZeroAlloc(std::alloc::System);

fn main() -> std::process::ExitCode {
    hurried_clock::run(&std::env::args_os().collect::<Vec<_>>())
}
