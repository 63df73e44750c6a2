//! Identities for tests.

use age::secrecy::ExposeSecret;

use super::identity::{Identities, Recipient};

/// Returns a new recipient, and its identity as `age-keygen` prints it.
pub fn identity() -> (Recipient, Identities) {
    let identity = age::x25519::Identity::generate();
    let text = format!("# created: now\n\n{}\n", identity.to_string().expose_secret());
    (identity.to_public().to_string().parse().unwrap(), Identities::parse(&text).unwrap())
}
