//! `claviger reencrypt`: has the API server write every stale object again, and proves it by a scan.
//!
//! ```text
//! run -> args, hints -> text -> report -> migrating -> rounds -> census
//! ```

mod args;
mod census;
mod hints;
mod migrating;
mod report;
mod rounds;
mod run;
mod text;

pub(super) use self::{
    args::{KubeArgs, Rate, ReencryptArgs, Via, rate},
    census::{Census, ValueSum},
    rounds::{Rounds, Sweeping},
    run::run,
};
