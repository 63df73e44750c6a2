//! Takes the place of `metrics` if claviger is built without that feature: nothing is counted.

use tonic::Code;

use super::method::Method;

/// The counters, which count nothing in this build.
#[derive(Debug, Default)]
pub struct Metrics;

/// A call that is being answered.
#[derive(Debug)]
pub struct Call;

/// A connection that is served.
#[derive(Debug)]
pub struct OpenConnection;

#[allow(clippy::unused_self, reason = "as the metrics that count")]
impl Metrics {
    /// Counts nothing. With metrics, counts a call that begins.
    pub fn call(&self, _: Method) -> Call {
        Call
    }

    /// Counts nothing. With metrics, counts a connection that is served.
    pub fn accepted(&self) -> OpenConnection {
        OpenConnection
    }

    /// Counts nothing. With metrics, counts a peer that may not call.
    pub fn peer_refused(&self) {}

    /// Counts nothing. With metrics, counts a connection that was closed because all places were taken.
    pub fn refused_for_room(&self) {}

    /// Counts nothing. With metrics, counts a connection that could not be accepted.
    pub fn accept_failed(&self) {}

    /// Notes nothing. With metrics, notes the outcome of a self-test of wrapping and unwrapping.
    pub fn self_test(&self, _: bool) {}
}

impl Call {
    /// Counts nothing. With metrics, counts a call that was answered.
    pub fn answered(self, _: Code) {}
}
