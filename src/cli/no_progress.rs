//! Takes the place of `progress` if claviger is built without that feature: a scan is silent until it ends.

/// The stand-in for the meter of a scan, which shows nothing.
pub(super) struct Meter;

impl Meter {
    pub(super) fn bytes(_: bool, _: u64) -> Self {
        Self
    }

    pub(super) fn objects(_: bool) -> Self {
        Self
    }

    #[allow(clippy::unused_self, reason = "as the meter that shows something")]
    pub(super) fn share(&mut self, _: u64, _: u64) {}

    #[cfg(feature = "reencrypt")]
    #[allow(clippy::unused_self, reason = "as the meter that shows something")]
    pub(super) fn waits(&mut self) {}

    #[allow(clippy::unused_self, reason = "as the meter that shows something")]
    pub(super) fn of(&mut self, _: u64, _: u64) {}
}
