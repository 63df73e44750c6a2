//! Tests `claviger reencrypt` with a real kube-apiserver and etcd: which objects it rewrites, which it leaves, and
//! which rights it needs.
//!
//! ```text
//! sweeps, refusals, full -> rig;   migrator -> refusals, rig
//! ```

mod full;
mod migrator;
mod refusals;
pub(crate) mod rig;
mod sweeps;
