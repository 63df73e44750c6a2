//! Makes a validated [`Config`] of text. Every check happens here, once. A flag overrides the file, and the file
//! overrides the default.
//!
//! ```text
//! load -> settings, error -> metrics;   load, error -> kinds
//! ```

mod error;
mod kinds;
mod load;
mod metrics;
mod settings;

pub use self::{
    error::ConfigError,
    kinds::{DEFAULT_SOCKET, DEFAULT_STATE_DIR, KINDS, ValueKind, nearest, nearest_of},
    metrics::MetricsAddress,
    settings::{ApiServerProcess, Backups, Cluster, Config, Settings},
};
