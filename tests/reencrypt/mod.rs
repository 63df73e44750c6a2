//! `claviger reencrypt` with a real kube-apiserver and etcd: what it rewrites, what it leaves, and what it needs.
//!
//! ```text
//! sweeps, refusals -> rig
//! ```

mod refusals;
pub(crate) mod rig;
mod sweeps;
