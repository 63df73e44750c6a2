//! Memory that holds keys: where the bytes are, how they get there, and what is wiped afterwards.
//!
//! It knows no cryptography. Only the two files `secret.rs` and `traces.rs` have `unsafe` code.

mod random;
mod secret;
#[cfg(test)]
pub mod testing;
mod traces;

pub use self::{
    random::{RandomError, fill_random},
    secret::{Protection, Secret, SecretBytes, SecretError},
    traces::without_traces,
};
