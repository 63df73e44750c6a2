//! Writes the Prometheus text format, version 0.0.4, with a crate that writes `OpenMetrics`.
//!
//! The formats differ in the names of counters: `OpenMetrics` leaves `_total` out of HELP and TYPE. A reader of 0.0.4,
//! such as `promtool check metrics`, would then find counters without a type. [`Total`] avoids that.

use std::fmt;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder},
    metrics::{MetricType, TypedMetric, counter::Counter},
};

/// A counter that is shown under its own name, which ends in `_total`.
#[derive(Debug, Default, Clone)]
pub(super) struct Total(Counter);

impl Total {
    pub(super) fn inc(&self) {
        self.0.inc();
    }

    pub(super) fn add(&self, count: u64) {
        self.0.inc_by(count);
    }
}

impl TypedMetric for Total {
    const TYPE: MetricType = MetricType::Counter;
}

impl EncodeMetric for Total {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        // The encoder treats it as a gauge, which gets no suffix. Its type is shown as counter.
        encoder.encode_gauge(&self.0.get())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// Metrics of one name with their labels, in a fixed order.
#[derive(Debug)]
pub(super) struct Series<L, M>(pub(super) Vec<(L, M)>);

impl<L: EncodeLabelSet, M: EncodeMetric + TypedMetric> EncodeMetric for Series<L, M> {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        self.0.iter().try_for_each(|(labels, metric)| metric.encode(encoder.encode_family(labels)?))
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}
