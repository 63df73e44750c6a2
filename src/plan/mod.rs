//! Decides the next step of a rotation.
//!
//! Pure: what is known goes in, one step comes out. There is no input, no output and no clock here, so the model
//! checker in `model` explores the very functions that a rotation calls. Every gate is decided again at each call: the
//! plan of a rotation that was interrupted is a hint and proves nothing.
//!
//! ```text
//! next -> step, progress, world;   progress -> world;   encoding -> rotation;   world, step -> rotation
//! ```
//!
//! Source: `docs/rotation.md`.

mod encoding;
#[cfg(test)]
mod model;
mod next;
mod progress;
mod rotation;
mod step;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
mod world;

pub use self::{
    encoding::{ROTATION_MAX, ReadPlanError},
    next::next,
    progress::RotationProgress,
    rotation::{Phase, PlanId, RotationPlan},
    step::{Action, Hold, NextStep, Refused, Wait},
    world::{ApiServers, ClusterNow, KeyNow, NodeNow, RecordNow, Scanned, ServedNow, Ticks, Timeouts},
};
