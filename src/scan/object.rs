//! The interface between readers and sinks: a reader passes one object of etcd after the other to a [`Sink`]. Snapshots
//! and live etcds are read by different code, and every use of their objects is a sink, so neither knows the other.

use std::ops::ControlFlow;

use super::{
    fingerprint::Fingerprint,
    stored::ObjectValue,
    value::{Encoding, ValueDamage},
};

/// The part of a value that a scan keeps. It is small, because the threads that read a file are ahead of the sink by
/// hundreds of thousands of values.
#[derive(Debug, Clone, Copy)]
pub struct Summary {
    /// The number of the value's group in [`super::group::Groups`].
    pub group: u32,
    /// The fingerprint of the value's wrapped seed, if it has one.
    pub seed: Option<Fingerprint>,
    /// The encoding of the object in the value.
    pub encoding: Encoding,
    /// The damage of the value, if it is damaged.
    pub damage: Option<ValueDamage>,
    /// The length of the value in bytes.
    pub length: u32,
}

/// One revision of one object, as a reader passes it to a sink.
#[derive(Debug, Clone, Copy)]
pub struct Object<'a> {
    /// The key of the object in etcd.
    pub key: &'a [u8],
    /// The revision at which the value was written.
    pub mod_revision: u64,
    /// The summary of the object's value.
    pub summary: Summary,
    /// The value itself, if the sink needs values.
    pub value: Option<ObjectValue<'a>>,
}

/// Takes the objects that a reader finds, one after the other.
pub trait Sink {
    /// Whether the sink needs [`Object::value`]. If not, the reader of a snapshot does not note where the values are.
    const NEEDS_VALUES: bool = false;

    /// Takes a live object. [`ControlFlow::Break`] ends the scan, which is then incomplete.
    fn object(&mut self, object: &Object<'_>) -> ControlFlow<()>;

    /// Takes an older value of an object, which etcd still has although the object was changed or deleted since.
    /// Snapshots contain such values, and a live etcd does not show them.
    fn older(&mut self, _object: &Object<'_>) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    /// Forgets all objects, so that the reader can begin again. Returns false if the sink cannot do that, because it
    /// has passed objects on. Then a snapshot is read in one careful pass, rather than in a quick pass that may have to
    /// be repeated.
    fn forget(&mut self) -> bool;
}
