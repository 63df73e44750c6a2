//! What readers hand to sinks: one object of etcd after the other. Snapshots and live etcds are read by different code,
//! and every use of their objects is a [`Sink`], so that neither knows the other.

use std::ops::ControlFlow;

use super::{
    fingerprint::Fingerprint,
    stored::ObjectValue,
    value::{Encoding, ValueDamage},
};

/// What is kept of one value. It is small, because the threads that read a file are ahead of the sink by hundreds of
/// thousands of values.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    /// The number of its group in [`super::group::Groups`].
    pub group: u32,
    /// The fingerprint of its wrapped seed.
    pub seed: Option<Fingerprint>,
    /// The encoding of the object.
    pub encoding: Encoding,
    /// What is wrong with it.
    pub damage: Option<ValueDamage>,
    /// Its length in bytes.
    pub length: u32,
}

/// One revision of one object.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// Its key in etcd.
    pub key: &'a [u8],
    /// The revision at which it was written.
    pub mod_revision: u64,
    /// What its value shows.
    pub summary: Summary,
    /// Its value, if the sink needs values.
    pub value: Option<ObjectValue<'a>>,
}

/// Takes the objects that a reader finds.
pub trait Sink {
    /// Whether the sink needs [`Object::value`]. The reader of a snapshot does not note where they are for a sink that
    /// needs none.
    const NEEDS_VALUES: bool = false;

    /// Takes a live object. [`ControlFlow::Break`] ends the scan, which is then incomplete.
    fn object(&mut self, object: &Object<'_>) -> ControlFlow<()>;

    /// Takes an older value of an object, which etcd still has although the object was changed or deleted since.
    /// Snapshots have such values, and a live etcd does not show them.
    fn older(&mut self, _object: &Object<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Forgets all objects, so that the reader can begin again. Returns false if the sink cannot do that, because it
    /// has passed objects on. A snapshot is read in one careful pass then, rather than in a quick pass that may have to
    /// be repeated.
    fn forget(&mut self) -> bool;
}
