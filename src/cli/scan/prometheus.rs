//! The report as metrics, for the textfile collector of Prometheus' node exporter. `docs/scan.md` lists them.

use std::sync::atomic::AtomicU64;

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

use crate::{
    scan::{judge::FindingKind, report::ScanReport},
    telemetry::escape,
};

use super::super::failure::{Exit, Failure};

type Number = Gauge<u64, AtomicU64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct GroupLabels {
    resource: String,
    provider: String,
    key_id: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    kind: &'static str,
}

/// Returns the metrics as text.
///
/// # Errors
/// Never in practice, because the text is written to memory.
pub(super) fn text(report: &ScanReport) -> Result<String, Failure> {
    let mut registry = Registry::with_prefix("claviger_scan");
    let (objects, older_values, seeds) =
        (Family::<GroupLabels, Number>::default(), Family::default(), Family::<GroupLabels, Number>::default());
    for row in &report.groups {
        let labels = GroupLabels {
            resource: escape::line(&row.resource),
            provider: escape::line(&row.provider),
            key_id: row.key_id.as_deref().map(escape::line).unwrap_or_default(),
        };
        // Rows that differ only in the commitment have the same labels, so they are added up. Invisible characters are
        // escaped, and the encoder escapes the backslash again, as the format demands.
        objects.get_or_create(&labels).inc_by(row.objects);
        seeds.get_or_create(&labels).inc_by(row.seeds);
        if let Some(count) = row.older_values {
            Family::<GroupLabels, Number>::get_or_create(&older_values, &labels).inc_by(count);
        }
    }
    let found = Family::<KindLabels, Number>::default();
    for kind in FindingKind::ALL {
        found.get_or_create(&KindLabels { kind: kind.as_str() }).set(report.found.get(&kind).copied().unwrap_or(0));
    }
    registry.register("objects", "Live objects", objects);
    registry.register("older_values", "Older values that are still in the database", older_values);
    registry.register("seeds", "Distinct wrapped seeds of live objects", seeds);
    registry.register(
        "found",
        "Objects with something wrong about them, and pages and revisions that cannot be read, by kind",
        found,
    );
    let single = |value: u64| {
        let gauge = Number::default();
        gauge.set(value);
        gauge
    };
    registry.register("revision", "The revision of etcd that was scanned", single(report.source.revision));
    registry.register(
        "older_readable",
        "Older values in the file that are in plaintext and should be encrypted; 0 of a live etcd",
        single(report.older_readable()),
    );
    registry.register("incomplete", "Whether something could not be read", single(report.is_incomplete().into()));
    let seconds = report.time.parse::<jiff::Timestamp>().map_or(0, jiff::Timestamp::as_second);
    registry.register("timestamp_seconds", "When the scan ended", single(u64::try_from(seconds).unwrap_or(0)));
    let mut text = String::new();
    encode(&mut text, &registry).map_err(|error| Failure::new(Exit::Refused, &error, None))?;
    // The textfile collector reads Prometheus' own format, which has no end mark.
    Ok(text.trim_end_matches("# EOF\n").to_owned())
}
