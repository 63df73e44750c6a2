//! Scans the places of a cluster one after the other, and shows how far it is.

use std::path::Path;

use crate::{
    etcd::{EtcdError, Servers},
    scan::{
        judge::Judge,
        live::LiveError,
        names::Names,
        object::Sink,
        outcome::ScanOutcome,
        place::{ScanPlace, ScanPlaceError},
        snapshot::Options,
        summarizer::Summarizer,
        tally::{Counts, Lister, Tally},
    },
};

use super::{
    super::{
        Global,
        failure::{Failure, is_of_certificate},
        given::quoted,
    },
    declared::nowhere,
    etcdctl::etcdctl,
    meter::PlaceMeter,
};

/// What a scan does besides counting.
#[derive(Default)]
pub(in crate::cli) struct ScanExtras<'a> {
    /// Whether it computes the SHA-256 of a snapshot.
    pub(in crate::cli) digest: bool,
    /// Receives each object.
    pub(in crate::cli) lister: Option<Lister<'a>>,
}

/// Scans all places, the main etcd first.
///
/// # Errors
/// When a place cannot be read.
pub(in crate::cli) fn scan_places(
    places: &[ScanPlace],
    judge: &Judge,
    names: &Names,
    ScanExtras { digest, lister }: ScanExtras<'_>,
    global: &Global,
) -> Result<(ScanOutcome, Counts), Failure> {
    let summarizer = Summarizer::seeded(names.clone())?;
    let mut tally = Tally::new(judge, summarizer.groups(), lister);
    let mut outcome: Option<ScanOutcome> = None;
    for place in places {
        let read =
            read_place(place, &summarizer, &mut tally, digest, global).map_err(|error| not_read(error, place))?;
        match &mut outcome {
            Some(outcome) => outcome.add_override(read),
            None => outcome = Some(read),
        }
    }
    let outcome = outcome.ok_or_else(|| nowhere(&[]))?;
    Ok((outcome, tally.finish()))
}

/// Reads one place, and shows the progress.
///
/// # Errors
/// When the place cannot be read.
pub(in crate::cli) fn read_place(
    place: &ScanPlace,
    summarizer: &Summarizer,
    sink: &mut impl Sink,
    digest: bool,
    global: &Global,
) -> Result<ScanOutcome, ScanPlaceError> {
    let mut meter = PlaceMeter::new(place, global);
    let mut progress = |done, of| meter.show(done, of);
    place.scan(summarizer, sink, Options { digest, progress: &mut progress })
}

/// Returns the failure of a scan of `place`. If a snapshot is easier to read, the hint contains the command that saves
/// one.
fn not_read(error: ScanPlaceError, place: &ScanPlace) -> Failure {
    let servers = match (&error, place) {
        (
            ScanPlaceError::Live(LiveError::Etcd(EtcdError::TooLarge { url } | EtcdError::Slow { url, .. })),
            ScanPlace::Etcd(servers),
        ) => Some(Servers { urls: vec![url.clone()], ..servers.clone() }),
        _ => None,
    };
    let authority = authority(&error, place);
    let failure = Failure::from(error);
    if let (Some(hint), Some(authority)) = (failure.hint(), authority) {
        let hint =
            format!("{hint}; the certificate of etcd has to be signed by the authority in {}", quoted(authority));
        return failure.with_hint(&hint);
    }
    let Some(servers) = servers else { return failure };
    let etcdctl = etcdctl(Some(&servers));
    failure
        .with_hint(&format!("scan a snapshot instead: {etcdctl} snapshot save FILE && claviger scan --snapshot FILE"))
}

/// Returns the file of the certificate authority, if the certificate of an etcd is not accepted.
fn authority<'p>(error: &ScanPlaceError, place: &'p ScanPlace) -> Option<&'p Path> {
    let (ScanPlaceError::Live(LiveError::Etcd(EtcdError::Unreachable { reason, .. })), ScanPlace::Etcd(servers)) =
        (error, place)
    else {
        return None;
    };
    servers.cafile.as_deref().filter(|_| is_of_certificate(reason))
}
