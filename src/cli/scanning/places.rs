//! Scans the places of a cluster one after the other, and shows how far it is.

use rand::{TryRng, rngs::SysRng};

use crate::{
    etcd::{EtcdError, Servers},
    scan::{
        judge::Judge,
        live::{self, LiveError},
        names::Names,
        needs::ScanPlace,
        outcome::ScanOutcome,
        snapshot::{self, Options},
        summarizer::Summarizer,
        tally::{Counts, Lister, Tally},
    },
};

use super::{
    super::{
        Format, Global,
        failure::{Exit, Failure},
        progress::Meter,
    },
    declared::nowhere,
    etcdctl::etcdctl,
};

/// Scans all places, the main etcd first. `output` says whether the SHA-256 of a snapshot is wanted, and who is called
/// with each object.
///
/// # Errors
/// When a place cannot be read.
pub(in crate::cli) fn scan_places(
    places: &[ScanPlace],
    judge: &Judge,
    names: &Names,
    (digest, lister): (bool, Option<Lister<'_>>),
    global: &Global,
) -> Result<(ScanOutcome, Counts), Failure> {
    let mut random = [0; 16];
    SysRng.try_fill_bytes(&mut random).map_err(|error| Failure::new(Exit::Refused, &error, None))?;
    let summarizer = Summarizer::new(names.clone(), random);
    let mut tally = Tally::new(judge, summarizer.groups(), lister);
    let is_shown = !global.quiet && global.output == Format::Text;
    let mut outcome: Option<ScanOutcome> = None;
    for place in places {
        let read = read(place, &summarizer, &mut tally, digest, is_shown)?;
        match &mut outcome {
            Some(outcome) => outcome.add_override(read),
            None => outcome = Some(read),
        }
    }
    let outcome = outcome.ok_or_else(|| nowhere(&[]))?;
    Ok((outcome, tally.finish()))
}

fn read(
    place: &ScanPlace,
    summarizer: &Summarizer,
    tally: &mut Tally<'_>,
    digest: bool,
    is_shown: bool,
) -> Result<ScanOutcome, Failure> {
    match place {
        ScanPlace::Snapshot(file) => {
            let bytes = file.metadata().map_or(0, |metadata| metadata.len());
            let mut bar = Meter::bytes(is_shown, bytes);
            let mut progress = |done, of| bar.share(done, of);
            let options = Options { digest, progress: &mut progress };
            snapshot::scan(file, summarizer, tally, options).map_err(|error| Failure::snapshot(&error, file))
        }
        ScanPlace::Etcd(servers) => {
            let mut bar = Meter::objects(is_shown);
            let mut progress = |done, of| bar.of(done, of);
            live::scan(servers, summarizer.clone(), tally, &mut progress).map_err(|error| not_read(error, servers))
        }
    }
}

/// Returns the failure of a scan of `servers`. If a snapshot is easier to read, the hint says how to take it there.
fn not_read(error: LiveError, servers: &Servers) -> Failure {
    let url = match &error {
        LiveError::Etcd(EtcdError::TooLarge { url } | EtcdError::Slow { url, .. }) => Some(url.clone()),
        _ => None,
    };
    let failure = Failure::from(error);
    let Some(url) = url else { return failure };
    let etcdctl = etcdctl(Some(&Servers { urls: vec![url], ..servers.clone() }));
    failure
        .with_hint(&format!("scan a snapshot instead: {etcdctl} snapshot save FILE && claviger scan --snapshot FILE"))
}
