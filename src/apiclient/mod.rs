//! The objects that an API server serves: where its API has them, and how it is made to rewrite one.
//!
//! ```text
//! client -> access, admission, served, answer, migration;   access -> program;   client, access, program -> reason
//! ```
//!
//! An object is rewritten by an empty merge patch, which changes nothing in it. The answer has the object's
//! metadata only. Its annotations may be confidential, because `kubectl apply` keeps what it applied there. Nothing but
//! the revision is kept of it.
//!
//! Sources: `k8s.io/apiserver`, `pkg/endpoints/handlers/patch.go` and `pkg/storage/etcd3/store.go` (an update that
//! changes nothing is written if, and only if, the stored value is stale); `k8s.io/apimachinery`, `pkg/apis/meta/v1`
//! (`Status`, `APIResourceList`, `PartialObjectMetadata`).

mod access;
mod admission;
mod answer;
mod client;
mod migration;
mod program;
mod reason;
mod served;

pub use access::{AccessError, KubeAccess};
pub use admission::Admission;
pub use answer::{ObjectAnswer, RewriteAnswer, Unanswered};
pub use client::{ApiClient, ApiError, ObjectApi};
pub use migration::MigrationState;
pub use reason::{CredentialsError, KubeconfigFault, is_server_distrusted};
pub use served::{ObjectRef, ServedResource};
