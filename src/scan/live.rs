//! Reads a live etcd: one page, and then the rest as one stream (etcd 3.7 and newer) or page after page.
//!
//! All is read at one revision, as long as etcd has it: API servers compact every five minutes. If the revision is
//! gone, the next page is read at the newest one, and the report names both. Each key is read once, so none is counted
//! twice. A live etcd does not show older values. While the sink processes a page, the next one is already requested.
//! After a scan at one revision, the number of keys must equal the count in the first page: if kine loses its database,
//! it ends a broken answer as if it were complete. If the keys are not an API server's, the prefix is wrong, and a few
//! more requests show which prefixes there are.

use std::{ops::ControlFlow, sync::mpsc::sync_channel, thread};

use tokio::runtime::Runtime;

use super::{
    bolt::DamageList,
    look::{look, look_around},
    object::{Object, Sink},
    outcome::{Incomplete, OutsideValues, PrefixFit, Progress, ScanOutcome},
    page_reader::{AnsweredPage, KeyRange, next_key, read},
    prefixes::end_of_prefix,
    source::ScanSource,
    stored::ObjectValue,
    summarizer::Summarizer,
};
use crate::etcd::{Client, EtcdError, KeyValue, Servers, ServersError};

/// The number of pages that may be read before the sink takes them.
const AHEAD: usize = 1;

/// The key that kine keeps below the prefix for the health check of API servers, and its value. It is no object.
const HEALTH_OF_KINE: (&[u8], &[u8]) = (b"/registry/health", br#"{"health":"true"}"#);

/// Why a live etcd could not be scanned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LiveError {
    /// The system did not start the event loop.
    #[error("starting the event loop: {0}")]
    Runtime(#[source] std::io::Error),
    /// etcd did not answer, or refused the request.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
    /// etcd sent a key that does not come after the one before, or that lies outside the range.
    #[error("etcd {url} sent the key {key:?} out of order, which is not how etcd answers")]
    Order {
        /// The addresses of the endpoints.
        url: String,
        /// The key, shown as text.
        key: String,
    },
    /// The configured addresses and certificates make no client.
    #[error(transparent)]
    Servers(#[from] ServersError),
}

/// Passes the objects below the summarizer's prefix to `sink`. `progress` is called with the number of objects read so
/// far, and with the total.
///
/// # Errors
/// When etcd cannot be reached, refuses, or stops answering before the last page.
pub fn scan<S: Sink>(
    servers: &Servers,
    summarizer: Summarizer,
    sink: &mut S,
    progress: Progress<'_>,
) -> Result<ScanOutcome, LiveError> {
    let from = summarizer.names().prefix().to_vec();
    let mut taker = PageTaker::new(servers, summarizer, sink);
    let end = hand_on(servers, from, &mut taker, progress)?;
    let PageTaker { summarizer, mut source, objects, .. } = taker;
    if source.pins.len() == 1 {
        source.pins.clear();
    }
    let incomplete = end.is_break().then_some(Incomplete::Ended).into_iter().collect();
    let (fit, other_prefixes) = match source.revision {
        // Nobody has written to this etcd yet.
        ..=1 => (PrefixFit::Fits, Vec::new()),
        _ => fit(servers, &summarizer, objects > 0)?,
    };
    let (overrides, damage) = (Vec::new(), DamageList::default());
    Ok(ScanOutcome { source, overrides, damage, incomplete, outside: OutsideValues::default(), fit, other_prefixes })
}

/// Passes the objects after `key`, which is below the summarizer's prefix, to `sink`. Reports nothing about the source.
/// Returns whether the sink has ended the scan.
///
/// # Errors
/// As [`scan`].
pub fn scan_after<S: Sink>(
    servers: &Servers,
    summarizer: Summarizer,
    key: &[u8],
    sink: &mut S,
) -> Result<ControlFlow<()>, LiveError> {
    let mut taker = PageTaker::new(servers, summarizer, sink);
    taker.order.begin_after(key);
    hand_on(servers, next_key(key), &mut taker, &mut |_, _| ())
}

/// Reads from the key `from` to the end of the prefix in a thread of its own, and takes the pages in this thread.
fn hand_on<S: Sink>(
    servers: &Servers,
    from: Vec<u8>,
    taker: &mut PageTaker<'_, S>,
    progress: Progress<'_>,
) -> Result<ControlFlow<()>, LiveError> {
    let runtime = runtime()?;
    let client = Client::new(servers)?;
    let range = KeyRange { from, to: taker.order.to.clone() };
    let (sender, pages) = sync_channel(AHEAD);
    thread::scope(|scope| {
        scope.spawn(move || runtime.block_on(read(client, range, &sender)));
        for answer in pages {
            if taker.take(answer?, progress)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Starts an event loop for a client, in this thread.
///
/// # Errors
/// When the system does not give what it needs.
pub(super) fn runtime() -> Result<Runtime, LiveError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(LiveError::Runtime)
}

/// Judges the prefix after its objects were read. If it is wrong, looks for the prefixes that there are.
fn fit(servers: &Servers, summarizer: &Summarizer, has_keys: bool) -> Result<(PrefixFit, Vec<String>), LiveError> {
    let (runtime, mut client) = (runtime()?, Client::new(servers)?);
    let prefix = String::from_utf8_lossy(summarizer.names().prefix()).into_owned();
    let has_resource = has_keys && summarizer.groups().have_known_resource();
    let fit = if has_resource { PrefixFit::Fits } else { PrefixFit::without_resource(has_keys) };
    Ok(runtime.block_on(async {
        if fit == PrefixFit::Fits {
            let around = look_around(&mut client, &prefix).await;
            (around.map_or(fit, PrefixFit::Inside), Vec::new())
        } else {
            (fit, look(&mut client).await)
        }
    }))
}

/// Takes the pages, in the thread that passes objects to the sink.
struct PageTaker<'s, S> {
    summarizer: Summarizer,
    sink: &'s mut S,
    source: ScanSource,
    order: KeyOrder,
    /// The number of keys that were taken.
    keys: u64,
    /// The number of taken keys that are objects.
    objects: u64,
}

impl<'s, S: Sink> PageTaker<'s, S> {
    fn new(servers: &Servers, summarizer: Summarizer, sink: &'s mut S) -> Self {
        let order = KeyOrder::new(summarizer.names().prefix(), servers.urls.join(","));
        let source = ScanSource::etcd(servers.urls.clone());
        Self { summarizer, sink, source, order, keys: 0, objects: 0 }
    }

    /// Checks a page, and passes its objects to the sink until the sink ends the scan.
    fn take(&mut self, answer: AnsweredPage, progress: Progress<'_>) -> Result<ControlFlow<()>, LiveError> {
        let AnsweredPage { page, revision, cluster_id, left } = answer;
        self.order.check(&page)?;
        self.source.pin(revision, cluster_id);
        let of = self.keys + left;
        self.keys += page.len() as u64;
        let mut page = page.iter().filter(|entry| (&*entry.key, &*entry.value) != HEALTH_OF_KINE);
        let end = page.try_for_each(|entry| self.hand_on(entry));
        progress(self.keys, of.max(self.keys));
        Ok(end)
    }

    fn hand_on(&mut self, entry: &KeyValue) -> ControlFlow<()> {
        self.objects += 1;
        let summary = self.summarizer.summarize(&entry.key, &entry.value);
        let Some(summary) = summary else { return ControlFlow::Continue(()) };
        let value = S::NEEDS_VALUES.then_some(ObjectValue::InMemory(&entry.value));
        self.sink.object(&Object { key: &entry.key, mod_revision: entry.mod_revision, summary, value })
    }
}

/// Checks that keys ascend and lie in the range that was asked for. Otherwise a server that repeats a key would be read
/// for ever.
struct KeyOrder {
    url: String,
    before: Vec<u8>,
    to: Vec<u8>,
    is_begun: bool,
}

impl KeyOrder {
    fn new(prefix: &[u8], url: String) -> Self {
        Self { url, before: prefix.to_vec(), to: end_of_prefix(prefix), is_begun: false }
    }

    /// Expects only keys after `key` from now on.
    fn begin_after(&mut self, key: &[u8]) {
        self.before = key.to_vec();
        self.is_begun = true;
    }

    /// Checks the keys of the next page.
    fn check(&mut self, page: &[KeyValue]) -> Result<(), LiveError> {
        for KeyValue { key, .. } in page {
            let is_after = if self.is_begun { **key > *self.before } else { **key >= *self.before };
            if !is_after || **key >= *self.to {
                let key = String::from_utf8_lossy(key).into_owned();
                return Err(LiveError::Order { url: self.url.clone(), key });
            }
            self.is_begun = true;
            self.before.clear();
            self.before.extend_from_slice(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpStream,
    };

    use super::{
        super::{names::Names, page_reader::FIRST_LIMIT},
        *,
    };
    use crate::harness::{binaries::EtcdVersion, etcd::Etcd, processes::Run};

    /// The number of keys in the test: more than the first page has.
    const KEYS: usize = 600;

    /// The number of operations that etcd accepts in a transaction.
    const OPERATIONS: usize = 100;

    /// Puts keys below `/registry/`, through the JSON interface of etcd.
    fn fill(etcd: &Etcd) {
        let base64 = <base64ct::Base64 as base64ct::Encoding>::encode_string;
        let puts: Vec<String> = (0..KEYS)
            .map(|number| base64(format!("/registry/configmaps/a/{number:04}").as_bytes()))
            .map(|key| format!(r#"{{"requestPut":{{"key":"{key}","value":"e30="}}}}"#))
            .collect();
        let url = etcd.endpoints();
        let address = url.strip_prefix("http://").unwrap();
        for puts in puts.chunks(OPERATIONS) {
            let body = format!(r#"{{"success":[{}]}}"#, puts.join(","));
            let head = format!("POST /v3/kv/txn HTTP/1.0\r\nHost: etcd\r\nContent-Length: {}\r\n\r\n", body.len());
            let mut stream = TcpStream::connect(address).unwrap();
            stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
        }
    }

    /// A sink that ends the scan at its `last` object.
    struct Stopping {
        last: usize,
        taken: usize,
    }

    impl Sink for Stopping {
        fn object(&mut self, _: &Object<'_>) -> ControlFlow<()> {
            self.taken += 1;
            if self.taken == self.last { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }

        fn forget(&mut self) -> bool {
            false
        }
    }

    #[test]
    fn keys_must_ascend_and_lie_in_the_range() {
        let page = |keys: &[&str]| -> Vec<KeyValue> {
            let entry =
                |key: &&str| KeyValue { key: key.as_bytes().to_vec().into(), value: b"v"[..].into(), mod_revision: 1 };
            keys.iter().map(entry).collect()
        };
        let check = |pages: &[&[&str]]| {
            let mut order = KeyOrder::new(b"/r/", "http://a".to_owned());
            pages.iter().try_for_each(|keys| order.check(&page(keys))).map_err(|error| error.to_string())
        };
        assert_eq!(check(&[&["/r/", "/r/a"], &[], &["/r/b"]]), Ok(()));
        for (pages, wrong) in [
            (&[&["/r/a", "/r/a"][..]][..], "/r/a"),
            (&[&["/r/a"], &["/r/a"]], "/r/a"),
            (&[&["/r/b"], &["/r/a"]], "/r/a"),
            (&[&["/q"]], "/q"),
            (&[&["/r/a", "/r0"]], "/r0"),
        ] {
            let text = format!("etcd http://a sent the key {wrong:?} out of order, which is not how etcd answers");
            assert_eq!(check(pages), Err(text));
        }
    }

    #[test]
    fn a_sink_that_stops_gets_no_further_object_and_the_scan_says_so() {
        let run = Run::new().unwrap();
        // The newest etcd sends the second page as a stream.
        for version in [EtcdVersion::V3_7, EtcdVersion::V3_6] {
            let etcd = Etcd::start_version(&run, version, 1).unwrap();
            fill(&etcd);
            let servers = Servers { urls: etcd.client_urls(), ..Servers::default() };
            let first_page = FIRST_LIMIT as usize;
            for last in [1, first_page, first_page + 1, KEYS, KEYS + 1] {
                let (mut sink, mut done) = (Stopping { last, taken: 0 }, Vec::new());
                let summarizer = Summarizer::new(Names::new("/registry"), [7; 16]);
                let outcome = scan(&servers, summarizer, &mut sink, &mut |keys, of| done.push((keys, of))).unwrap();
                assert_eq!(sink.taken, last.min(KEYS), "{version:?}");
                let is_whole = last > KEYS;
                assert_eq!(outcome.incomplete, if is_whole { Vec::new() } else { vec![Incomplete::Ended] }, "{last}");
                assert_eq!(outcome.fit, PrefixFit::Fits);
                assert_eq!(done[0], (500, 600), "{version:?}");
                assert_eq!(done.len() > 1, last > first_page, "{version:?}: {done:?}");
            }
        }
    }
}
