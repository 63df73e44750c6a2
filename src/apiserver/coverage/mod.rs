//! What an EncryptionConfiguration says about a resource. It is read as kube-apiserver reads it.
//!
//! ```text
//! lookup, local -> rules -> config_file, error
//! ```
//!
//! Source: `k8s.io/apiserver`, `pkg/server/options/encryptionconfig/config.go` and
//! `pkg/apis/apiserver/validation/validation_encryption.go`. A file that those refuse is refused here, too, because an
//! API server does not start with it. [`local_keys`] returns the keys in a file. [`Coverage`] looks only at their
//! lengths. Both wipe them after use.

mod config_file;
mod error;
#[cfg(feature = "recover")]
mod local;
mod lookup;
mod rules;

pub use config_file::IDENTITY;
pub use error::{BrokenRule, CoverageError};
#[cfg(feature = "recover")]
pub use local::{LocalCipher, LocalKey, local_keys};
pub use lookup::{CONFIG_MAX, Coverage, EntryProviders};
pub use rules::KmsV1;
