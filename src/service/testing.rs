//! What the tests of several folders share: a service whose keyring is open.

use std::{sync::Arc, time::Instant};

use rand::rngs::SysRng;

use super::Service;
use crate::{
    crypto::{Uuid, root_key::RootKey},
    keeper::{Published, ServedKeys},
    keyring::{self, state::State},
};

/// Returns a service with an open keyring of a primary key and a disabled one.
pub fn open_service() -> Arc<Service> {
    let published = open_published();
    let layers = [("memory".to_owned(), "mlock".to_owned())];
    Arc::new(Service::new(published, layers.into()))
}

/// Returns a published keyring of a primary key and a disabled one.
pub fn open_published() -> Arc<Published> {
    let published = Arc::new(Published::default());
    open(&published);
    published
}

/// Publishes a keyring of a primary key and a disabled one.
pub fn open(published: &Published) {
    let root = RootKey::generate(&mut SysRng).unwrap();
    let keyring = keyring::testing::keyring(&root, Uuid([1; 16]));
    let keyring = keyring::testing::with_key(keyring, &root, State::Disabled);
    published.publish(ServedKeys::new(&keyring, Instant::now()));
}
