//! Reads a live etcd: a page, and behind it one stream (from etcd 3.7 on) or page after page, at one revision as long as etcd has it.
//!
//! API servers compact every five minutes. If the revision is gone before the last page, the next page pins anew: what follows is then
//! of a later revision, and the report says so. Each key is read once, so none is counted twice; older revisions are not to be had.
//! One page is asked for while another is looked at.

use std::{
    sync::mpsc::{SyncSender, sync_channel},
    thread,
};

use super::{
    Progress, Scan,
    judge::Judge,
    names::Names,
    report::Source,
    tally::{List, Observer, Tally},
};
use crate::etcd::{Client, EtcdError, KeyValue, Page, Query, Servers};

/// Keys of the first page; later ones are as long as their values allow.
const FIRST_LIMIT: u32 = 500;

/// At most so many keys, and about so many bytes, in a page: for each page etcd counts all keys behind it.
const LIMIT_MAX: u32 = 50_000;
const PAGE_BYTES: usize = 16 << 20;

/// Pages that were read and not yet looked at.
const AHEAD: usize = 1;

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
    let mut done = 0;
    thread::scope(|scope| {
        scope.spawn(move || runtime.block_on(read(client, prefix, &sender)));
        for answer in pages {
            let Answer { page, revision, cluster_id, left } = answer?;
            source.pin(revision, cluster_id);
            let of = done + left;
            for entry in &page {
                if let Some(sighting) = observer.observe(&entry.key, &entry.value) {
                    tally.live(&entry.key, entry.mod_revision, &sighting);
                }
            }
            done += page.len() as u64;
            progress(done, of.max(done));
        }
        Ok::<_, EtcdError>(())
    })?;
    if source.pins.len() == 1 {
        source.pins.clear();
    }
    let is_used = done > 0 || source.revision <= 1;
    Ok(Scan { source, tallied: tally.finish(), damage: Vec::new(), incomplete: Vec::new(), outside: 0, is_used })
}

/// Some keys with their values.
struct Answer {
    page: Vec<KeyValue>,
    /// The revision that they are of.
    revision: u64,
    cluster_id: u64,
    /// How many keys there are from the first of these on.
    left: u64,
}

/// What reads, and how far it is.
struct Reading<'p> {
    client: Client,
    query: Query,
    cluster_id: u64,
    left: u64,
    pages: &'p SyncSender<Result<Answer, EtcdError>>,
}

/// Who takes the pages is gone.
struct Gone;

/// Reads to the end, and hands on what comes, or what went wrong.
async fn read(client: Client, prefix: Vec<u8>, pages: &SyncSender<Result<Answer, EtcdError>>) {
    let query = Query { to: end_of(&prefix), from: prefix, limit: FIRST_LIMIT, revision: 0 };
    let mut reading = Reading { client, query, cluster_id: 0, left: 0, pages };
    if let Err(error) = reading.read().await {
        // Who counts is gone only after a failure.
        let _ = pages.send(Err(error));
    }
}

impl Reading<'_> {
    /// Reads page after page, but in one stream where etcd has it: for each page it counts all keys that are left.
    async fn read(&mut self) -> Result<(), EtcdError> {
        let mut has_streams = true;
        loop {
            let Page { entries, more, count, revision, cluster_id } = self.page().await?;
            if self.query.revision == 0 {
                self.query.revision = revision;
            }
            (self.cluster_id, self.left) = (cluster_id, count);
            self.query.limit = next_limit(&entries);
            let is_last = !more || entries.is_empty();
            if self.hand_on(entries).is_err() || is_last {
                return Ok(());
            }
            if has_streams {
                match self.stream().await {
                    Ok(Some(())) => return Ok(()),
                    Ok(None) => has_streams = false,
                    // The next page finds out: another endpoint may answer, or the revision be gone.
                    Err(_) => {}
                }
            }
        }
    }

    /// A page at the revision of those before, or at the newest if that is gone.
    async fn page(&mut self) -> Result<Page, EtcdError> {
        loop {
            match self.client.range(&self.query).await {
                Err(EtcdError::Compacted(_)) if self.query.revision != 0 => self.query.revision = 0,
                // Zero would be all of them.
                Err(EtcdError::TooLarge { .. }) if self.query.limit > 1 => {
                    self.query.limit = (self.query.limit / 4).max(1);
                }
                page => return page,
            }
        }
    }

    /// Reads all that is left in one stream; none if etcd has no such call.
    async fn stream(&mut self) -> Result<Option<()>, EtcdError> {
        let Some(mut parts) = self.client.stream(&self.query).await? else { return Ok(None) };
        while let Some(page) = parts.next().await? {
            if self.hand_on(page).is_err() {
                break;
            }
        }
        Ok(Some(()))
    }

    /// Hands keys on, and goes on with the least key behind the last of them.
    fn hand_on(&mut self, page: Vec<KeyValue>) -> Result<(), Gone> {
        if let Some(last) = page.last() {
            self.query.from = [&last.key, &[0][..]].concat();
        }
        let left = self.left;
        self.left = left.saturating_sub(page.len() as u64);
        let answer = Answer { page, revision: self.query.revision, cluster_id: self.cluster_id, left };
        self.pages.send(Ok(answer)).map_err(|_| Gone)
    }
}

/// As many keys as made about one page of bytes.
fn next_limit(entries: &[KeyValue]) -> u32 {
    let bytes: usize = entries.iter().map(|entry| entry.key.len() + entry.value.len()).sum();
    let each = (bytes / entries.len().max(1)).max(1);
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
