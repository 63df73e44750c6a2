//! Reads the keys of a live etcd page after page, or as a stream, in a thread of its own.
//!
//! A server that repeats keys, sends them without end or too slowly, or sends fewer than it counted, ends the scan.

use std::{
    sync::mpsc::SyncSender,
    time::{Duration, Instant},
};

use crate::etcd::{Client, EtcdError, KeyValue, Page, Query};

/// The number of keys in the first page. The number in later pages depends on the length of the values so far.
pub(super) const FIRST_LIMIT: u32 = 500;

/// The greatest number of keys in a page, and its approximate size in bytes. Pages are large, because for each page
/// etcd counts all keys after it.
const LIMIT_MAX: u32 = 50_000;
const PAGE_BYTES: usize = 16 << 20;

/// How many more keys than twice its count a server may send, because keys are written meanwhile. A server that sends
/// more is treated as endless.
const MORE_KEYS: u64 = 10_000;

/// The greatest number of keys in an etcd. The largest database that etcd recommends, 8 GiB, has room for fewer.
const MOST_KEYS: u64 = 100_000_000;

/// How long a scan may wait for all answers together. It may wait one more second for every `SLOWEST_RATE` bytes that
/// came. A key with its value counts as at least `SMALL_KEY` bytes.
const PATIENCE: Duration = Duration::from_mins(2);
const SLOWEST_RATE: u64 = 16 << 10;
const SMALL_KEY: u64 = 256;

/// A part of a range: keys with their values, in ascending order.
pub(super) struct AnsweredPage {
    pub(super) page: Vec<KeyValue>,
    /// The revision at which the keys were read.
    pub(super) revision: u64,
    pub(super) cluster_id: u64,
    /// The number of keys that etcd has from the first key of the page on.
    pub(super) left: u64,
}

/// The reader of a range of keys, in a thread of its own.
struct PageReader<'p> {
    client: Client,
    query: Query,
    cluster_id: u64,
    /// The number of keys that etcd has from the beginning of the query on.
    left: u64,
    /// The number of keys that etcd counted for the first page. `None` if the keys are read at several revisions.
    counted: Option<u64>,
    /// The total number of keys, as etcd counted it when it was last asked for its newest revision.
    expected: u64,
    sent: u64,
    pace: Pace,
    pages: &'p SyncSender<Result<AnsweredPage, EtcdError>>,
}

/// The receiver of the pages was dropped, so the scan has ended.
struct ReceiverGone;

/// The range of keys that is read.
pub(super) struct KeyRange {
    /// The first key of the range.
    pub(super) from: Vec<u8>,
    /// The first key after the range.
    pub(super) to: Vec<u8>,
}

/// Reads to the end of the range. Sends every page, or an error.
pub(super) async fn read(client: Client, range: KeyRange, pages: &SyncSender<Result<AnsweredPage, EtcdError>>) {
    let KeyRange { from, to } = range;
    let query = Query { to, from, limit: FIRST_LIMIT, revision: 0, keys_only: false };
    let pace = Pace::default();
    let mut reader =
        PageReader { client, query, cluster_id: 0, left: 0, counted: None, expected: 0, sent: 0, pace, pages };
    if let Err(error) = reader.read().await {
        // If the receiver was dropped, the scan has ended already.
        let _ = pages.send(Err(error));
    }
}

impl PageReader<'_> {
    /// Reads the first page, and then the rest in one stream if etcd has streams, or page after page.
    async fn read(&mut self) -> Result<(), EtcdError> {
        let mut has_streams = true;
        loop {
            let before = Instant::now();
            let page = self.page().await;
            self.pace.waited += before.elapsed();
            let Page { entries, more, count, revision, cluster_id } = page?;
            if count > MOST_KEYS {
                return Err(self.client.incredible(count));
            }
            if self.query.revision == 0 {
                self.query.revision = revision;
                self.counted = (self.sent == 0).then_some(count);
                self.expected = self.sent.saturating_add(count);
            }
            (self.cluster_id, self.left) = (cluster_id, count);
            self.query.limit = next_limit(&entries);
            let is_last = !more || entries.is_empty();
            if self.send(entries).is_err() {
                return Ok(());
            }
            if is_last {
                return self.check_count();
            }
            self.check_end()?;
            if has_streams {
                match self.stream().await {
                    Ok(Streamed::Stopped) => return Ok(()),
                    Ok(Streamed::All) => return self.check_count(),
                    Ok(Streamed::NotSupported) => has_streams = false,
                    Ok(Streamed::Endless) => return self.check_end(),
                    // The next page shows how to continue: another endpoint may answer, or the revision may be gone.
                    Err(_) => {}
                }
            }
        }
    }

    /// Reads a page at the revision of the pages before, or at the newest revision if that one is gone.
    async fn page(&mut self) -> Result<Page, EtcdError> {
        loop {
            match self.client.range(&self.query).await {
                Err(EtcdError::Compacted(_)) if self.query.revision != 0 => self.query.revision = 0,
                Err(EtcdError::TooLarge { .. }) if self.query.limit > 1 => {
                    // A limit of zero would request all keys.
                    self.query.limit = (self.query.limit / 4).max(1);
                }
                page => return page,
            }
        }
    }

    /// Reads the rest of the range in one stream.
    async fn stream(&mut self) -> Result<Streamed, EtcdError> {
        let before = Instant::now();
        let parts = self.client.stream(&self.query).await;
        self.pace.waited += before.elapsed();
        let Some(mut parts) = parts? else { return Ok(Streamed::NotSupported) };
        loop {
            let before = Instant::now();
            let part = parts.next().await;
            self.pace.waited += before.elapsed();
            let Some(page) = part? else { return Ok(Streamed::All) };
            if self.send(page).is_err() {
                return Ok(Streamed::Stopped);
            }
            if self.check_end().is_err() {
                return Ok(Streamed::Endless);
            }
        }
    }

    /// Checks that the server does not send more keys than it can have.
    fn check_end(&self) -> Result<(), EtcdError> {
        let most = self.expected.saturating_mul(2).saturating_add(MORE_KEYS).min(MOST_KEYS);
        if self.sent > most {
            return Err(self.client.endless(self.sent, self.expected));
        }
        if self.pace.is_too_slow() { Err(self.client.slow(self.sent, self.pace.waited)) } else { Ok(()) }
    }

    fn check_count(&self) -> Result<(), EtcdError> {
        match self.counted {
            Some(counted) if self.sent < counted => Err(self.client.cut_short(self.sent, counted)),
            _ => Ok(()),
        }
    }

    /// Sends a page. The query then continues with the least key after the last key of the page.
    fn send(&mut self, page: Vec<KeyValue>) -> Result<(), ReceiverGone> {
        if let Some(last) = page.last() {
            self.query.from = next_key(&last.key);
        }
        self.sent += page.len() as u64;
        self.pace.earn(&page);
        let left = self.left;
        self.left = left.saturating_sub(page.len() as u64);
        let answer = AnsweredPage { page, revision: self.query.revision, cluster_id: self.cluster_id, left };
        self.pages.send(Ok(answer)).map_err(|_| ReceiverGone)
    }
}

/// The time that this client has waited for answers, and the bytes that came. Without a limit, a server that sends a
/// key now and then would hold a scan for ever.
#[derive(Debug, Default)]
struct Pace {
    waited: Duration,
    /// The bytes of keys and values. A small key with its value counts as [`SMALL_KEY`].
    bytes: u64,
}

impl Pace {
    fn earn(&mut self, page: &[KeyValue]) {
        let size = |entry: &KeyValue| ((entry.key.len() + entry.value.len()) as u64).max(SMALL_KEY);
        self.bytes += page.iter().map(size).sum::<u64>();
    }

    fn is_too_slow(&self) -> bool {
        self.waited > PATIENCE + Duration::from_secs(self.bytes / SLOWEST_RATE)
    }
}

/// The outcome of reading a stream.
enum Streamed {
    /// The stream contained all keys that were left.
    All,
    /// The receiver wanted no more keys.
    Stopped,
    /// This etcd has no streams, so nothing was read.
    NotSupported,
    /// The server sends more keys than it can have, or sends them too slowly.
    Endless,
}

/// Returns how many keys make about one page, if they are as long as those of `entries`.
fn next_limit(entries: &[KeyValue]) -> u32 {
    let bytes: usize = entries.iter().map(|entry| entry.key.len() + entry.value.len()).sum();
    let each = (bytes / entries.len().max(1)).max(1);
    u32::try_from(PAGE_BYTES / each).unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX)
}

/// Returns the least key after `key`.
pub(super) fn next_key(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;
    use crate::etcd::Servers;

    /// Returns a reader of the etcd at `url`, which has sent nothing yet.
    fn reader<'p>(url: &str, pages: &'p SyncSender<Result<AnsweredPage, EtcdError>>) -> PageReader<'p> {
        let servers = Servers { urls: vec![url.to_owned()], ..Servers::default() };
        let query = Query { from: Vec::new(), to: Vec::new(), limit: 1, revision: 7, keys_only: false };
        let (client, pace) = (Client::new(&servers).unwrap(), Pace::default());
        PageReader { client, query, cluster_id: 0, left: 0, counted: None, expected: 3, sent: 0, pace, pages }
    }

    #[test]
    fn fewer_keys_than_were_counted_are_an_error() {
        let check = |sent, counted| {
            let (sender, _receiver) = sync_channel(1);
            let reader = PageReader { counted, sent, ..reader("unix:///kine.sock", &sender) };
            reader.check_count().and_then(|()| reader.check_end()).map_err(|error| error.to_string())
        };
        assert_eq!(check(3, Some(3)), Ok(()));
        assert_eq!(check(3, None), Ok(()));
        // Keys that are written during the scan may be sent, too.
        assert_eq!(check(4, Some(3)), Ok(()));
        let text = "etcd unix:///kine.sock counted 3 keys and sent only 2 of them";
        assert_eq!(check(2, Some(3)), Err(text.to_owned()));
        let text = "etcd unix:///kine.sock counted 3 keys and has sent 10007 without an end";
        assert_eq!((check(10_006, None), check(10_007, None)), (Ok(()), Err(text.to_owned())));
    }

    #[test]
    fn keys_that_come_now_and_then_are_too_slow() {
        let check = |waited, keys: usize, length: usize| {
            let (sender, _receiver) = sync_channel(keys);
            let pace = Pace { waited: Duration::from_secs(waited), bytes: 0 };
            let mut reader = PageReader { expected: u64::MAX, pace, ..reader("http://a", &sender) };
            let one = |_| KeyValue { key: b"/r/a"[..].into(), value: vec![0; length].into(), mod_revision: 1 };
            assert!(reader.send((0..keys).map(one).collect()).is_ok());
            reader.check_end().map_err(|error| error.to_string())
        };
        // A busy etcd needs its time for the first page, and a slow line for large values.
        assert_eq!((check(120, 1, 0), check(8000, 100, 1_300_000)), (Ok(()), Ok(())));
        assert_eq!(check(122, 121, 0), Err("etcd http://a sent only 121 keys in 122 s, which is too slow".to_owned()));
        assert!(check(8100, 100, 1_300_000).is_err());
    }

    #[test]
    fn no_etcd_has_more_keys_than_fit_into_its_database() {
        let (sender, _receiver) = sync_channel(1);
        let reader = PageReader { expected: 1 << 63, sent: MOST_KEYS + 1, ..reader("http://a", &sender) };
        let error = reader.check_end().unwrap_err().to_string();
        assert!(error.ends_with("and has sent 100000001 without an end"), "{error}");
    }
}
