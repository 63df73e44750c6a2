//! `claviger rotate`: replaces the primary key, from the new key to the verified re-encryption.
//!
//! ```text
//! run -> args, give_up, remains, acts, foreseen;   acts, foreseen -> hands -> unsettled;   run, acts, hands -> stops -> words -> report
//! ```
//!
//! The planner decides, and `hands` does what it says: `acts` has a function for each step.

mod acts;
mod args;
mod foreseen;
mod give_up;
mod hands;
mod remains;
mod report;
mod run;
mod stops;
mod unsettled;
mod words;

pub(super) use self::{args::RotateArgs, run::run};
