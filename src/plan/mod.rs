//! Decides the next step of a rotation, and when a key may be given up.
//!
//! Pure: what is known goes in, one step comes out. There is no input, no output and no clock here, so the model
//! checker in `model` explores the very functions that the commands call. Every gate is decided again at each call: the
//! plan of a rotation that was interrupted is a hint and proves nothing.
//!
//! ```text
//! next -> step, progress;   step -> retire, rotation;   retire, next -> count -> rules, world;   encoding -> rotation;   progress -> world
//! ```
//!
//! Source: `docs/rotate.md`.

#[cfg(test)]
mod checking;
mod count;
mod encoding;
#[cfg(test)]
mod model;
mod next;
mod progress;
mod retire;
#[cfg(test)]
mod retire_model;
mod rotation;
#[cfg(test)]
mod rotations;
mod rules;
mod step;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod world;

pub use self::{
    count::CountDoubt,
    encoding::{ROTATION_MAX, ReadPlanError},
    next::next,
    progress::RotationProgress,
    retire::{History, KeyScan, RetireProgress, RetireStep, Unsettled, retire},
    rotation::{Aim, BeganAt, Phase, PlanId, RotationPlan},
    step::{Action, Hold, NextStep, Refused, Wait},
    world::{ApiServers, ClusterNow, ConnectionNow, KeyNow, NodeNow, RecordNow, Scanned, ServedNow, Ticks, Timeouts},
};
