//! Reads a live etcd: pages by key, at one revision, for as long as etcd has it.
//!
//! API servers compact every five minutes. If the revision is gone before the last page, the next page pins anew: what follows is then
//! of a later revision, and the report says so. Each key is read once, so none is counted twice; older revisions are not to be had.
//! One page is asked for while another is looked at.

use std::{
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use super::{
    Progress, Scan,
    judge::Judge,
    names::Names,
    report::Source,
    tally::{List, Observer, Tally},
};
use crate::etcd::{Client, EtcdError, Page, Query, Servers};

/// Keys of the first page; later ones are as long as their values allow.
const FIRST_LIMIT: u32 = 500;

/// At most so many keys, and about so many bytes, in a page.
const LIMIT_MAX: u32 = 10_000;
const PAGE_BYTES: usize = 4 << 20;

/// Pages that were read and not yet looked at.
const AHEAD: usize = 2;

/// Why a live etcd could not be scanned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// The system gave no event loop.
    #[error("starting the event loop: {0}")]
    Runtime(#[source] std::io::Error),
    /// etcd gave no answer.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
}

/// Scans the keys below the observer's prefix.
///
/// # Errors
/// When etcd cannot be reached, refuses, or stops to answer before the last page.
pub fn scan(
    servers: &Servers,
    names: &Names,
    mut observer: Observer,
    judge: &Judge,
    (list, progress): (Option<List<'_>>, Progress<'_>),
) -> Result<Scan, LiveError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(LiveError::Runtime)?;
    let client = Client::new(servers)?;
    let mut tally = Tally::new(judge, observer.groups(), list);
    let mut source = Source::etcd(servers.urls.clone());
    let (sender, pages) = sync_channel(AHEAD);
    let prefix = names.prefix().to_vec();
    thread::scope(|scope| {
        scope.spawn(move || runtime.block_on(read(client, prefix, &sender)));
        let mut done = 0;
        for (page, pin) in received(&pages) {
            let page = page?;
            source.pin(pin, page.cluster_id);
            for entry in &page.entries {
                if let Some(sighting) = observer.observe(&entry.key, &entry.value) {
                    tally.live(&entry.key, entry.mod_revision, &sighting);
                }
            }
            done += page.entries.len() as u64;
            progress(done, done.max(page.count));
        }
        Ok::<_, EtcdError>(())
    })?;
    Ok(Scan { source, tallied: tally.finish(), damage: Vec::new(), incomplete: Vec::new(), outside: 0 })
}

type Answer = (Result<Page, EtcdError>, u64);

fn received(pages: &Receiver<Answer>) -> impl Iterator<Item = Answer> + '_ {
    pages.iter()
}

/// Reads page after page, and hands each on with the revision that it is of.
async fn read(mut client: Client, prefix: Vec<u8>, pages: &SyncSender<Answer>) {
    let mut query = Query { to: end_of(&prefix), from: prefix, limit: FIRST_LIMIT, revision: 0 };
    loop {
        let page = match client.range(&query).await {
            Err(EtcdError::Compacted(_)) if query.revision != 0 => {
                query.revision = 0;
                continue;
            }
            Err(EtcdError::TooLarge { .. }) if query.limit > 1 => {
                query.limit /= 4;
                continue;
            }
            page => page,
        };
        if let Ok(page) = &page {
            if query.revision == 0 {
                query.revision = page.revision;
            }
            query.limit = next_limit(page);
            if let Some(last) = page.entries.last() {
                // The least key behind it.
                query.from = [&last.key, &[0][..]].concat();
            }
        }
        let is_last = page.as_ref().map_or(true, |page| !page.more || page.entries.is_empty());
        if pages.send((page, query.revision)).is_err() || is_last {
            return;
        }
    }
}

/// As many keys as made about one page of bytes.
fn next_limit(page: &Page) -> u32 {
    let bytes: usize = page.entries.iter().map(|entry| entry.key.len() + entry.value.len()).sum();
    let each = (bytes / page.entries.len().max(1)).max(1);
    u32::try_from(PAGE_BYTES / each).unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX)
}

/// The first key behind all that begin with `prefix`, which ends in a slash.
fn end_of(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}
