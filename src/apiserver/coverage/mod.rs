//! What an EncryptionConfiguration says about a resource. It is read as kube-apiserver reads it.
//!
//! ```text
//! lookup -> rules -> config_file, error
//! ```
//!
//! Source: `k8s.io/apiserver`, `pkg/server/options/encryptionconfig/config.go` and
//! `pkg/apis/apiserver/validation/validation_encryption.go`. A file that those refuse is refused here, too, because an
//! API server does not start with it. Only the length of a secret is looked at, and the secret is wiped at once.

mod config_file;
mod error;
mod lookup;
mod rules;

pub use config_file::IDENTITY;
pub use error::{BrokenRule, CoverageError};
pub use lookup::{CONFIG_MAX, Coverage, EntryProviders};
pub use rules::KmsV1;
