//! Drives a rotation: asks the planner for the next step, has its caller do it, and asks again.
//!
//! ```text
//! drive -> clock
//! ```
//!
//! Nothing here decides. The planner decides from what the hands see, and the hands do one step at a time. So a
//! rotation can be ended and begun again between any two lines.

mod clock;
mod drive;

pub use self::{
    clock::{BootClock, RotationClock, now},
    drive::{Acted, Hands, RotationEnd, drive},
};
