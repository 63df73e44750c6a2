//! `claviger reencrypt`: has the API server write every stale object again, and proves it by a scan.
//!
//! ```text
//! run -> args, hints -> text -> report -> rounds -> census
//! ```

mod args;
mod census;
mod hints;
mod report;
mod rounds;
mod run;
mod text;

pub(super) use self::{
    args::{KubeArgs, Rate, ReencryptArgs, rate},
    census::{Census, ValueSum},
    rounds::{Rounds, Sweeping},
    run::run,
};
