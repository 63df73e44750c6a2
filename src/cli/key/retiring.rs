//! The key that `key disable` or `key destroy` is about to give up, with the keyring that it is in.

use super::super::{Global, Site};
use crate::{
    keyring::{key_id::KeyId, state::Verb},
    rotate::RotationClock,
};

/// A key that is about to be given up, with the verb and the options of the command.
pub(super) struct Retiring<'a> {
    pub(super) site: &'a Site,
    pub(super) key: KeyId,
    /// The verb: [`Verb::Disable`] or [`Verb::Destroy`].
    pub(super) verb: Verb,
    /// The clock by which the command waits.
    #[cfg_attr(not(feature = "scan"), allow(dead_code, reason = "nothing waits then"))]
    pub(super) clock: &'a dyn RotationClock,
    pub(super) global: &'a Global,
}
