//! Compares `claviger scan` with the writes of real etcds, and with what real API servers wrote, read, rewrote and
//! refused.
//!
//! ```text
//! databases, damage, files, kine, live, providers -> truth -> values, writer, answers;   live -> proxy, scanned;   damage -> pages
//! words -> truth, values;   bounds -> forged;   control_plane, coverage, names -> history -> objects, scanned
//! ```

#![allow(
    clippy::needless_for_each,
    clippy::items_after_statements,
    clippy::too_many_lines,
    reason = "in a test the shorter form reads better"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::large_stack_arrays,
    reason = "numbers of a test are small, and its arrays few"
)]

mod answers;
mod bounds;
mod control_plane;
mod coverage;
mod damage;
mod databases;
mod files;
pub(crate) mod forged;
mod history;
mod kine;
mod live;
mod names;
mod objects;
mod pages;
mod providers;
pub(crate) mod proxy;
mod scanned;
mod truth;
mod values;
mod words;
pub(crate) mod writer;
