//! Reads single keys of a live etcd, without reading the others.
//!
//! All keys are read at one revision, as long as etcd has it. If one of them is not there, a few more requests show
//! whether the prefix is an API server's.

use std::{collections::BTreeSet, ops::ControlFlow};

use super::{
    bolt::DamageList,
    live::{LiveError, runtime},
    look::{has_namespaces, look},
    object::{Object, Sink},
    outcome::{Incomplete, OutsideValues, PrefixFit, ScanOutcome},
    prefixes::end_of_prefix,
    source::ScanSource,
    stored::ObjectValue,
    summarizer::Summarizer,
};
use crate::etcd::{Client, EtcdError, KeyValue, Page, Query, Servers};

/// Passes the objects with these keys to `sink`, in the order of the keys. Skips keys that etcd does not have.
///
/// # Errors
/// When etcd cannot be reached, refuses, or sends another key.
pub fn lookup<S: Sink>(
    servers: &Servers,
    keys: &BTreeSet<Vec<u8>>,
    mut summarizer: Summarizer,
    sink: &mut S,
) -> Result<ScanOutcome, LiveError> {
    let (runtime, mut client) = (runtime()?, Client::new(servers)?);
    let mut source = ScanSource::etcd(servers.urls.clone());
    let (mut revision, mut found, mut incomplete) = (0, 0, Vec::new());
    for key in keys {
        let page = runtime.block_on(one(&mut client, key, &mut revision))?;
        source.pin(revision, page.cluster_id);
        if let Some(entry) = page.entries.first() {
            check_key(entry, key, servers)?;
            found += 1;
            if hand_on(entry, &mut summarizer, sink).is_break() {
                incomplete.push(Incomplete::Ended);
                break;
            }
        }
    }
    if source.pins.len() == 1 {
        source.pins.clear();
    }
    let (fit, other_prefixes) = if found == keys.len() {
        (PrefixFit::Fits, Vec::new())
    } else {
        runtime.block_on(fit(&mut client, &summarizer))
    };
    let (overrides, damage) = (Vec::new(), DamageList::default());
    Ok(ScanOutcome { source, overrides, damage, incomplete, outside: OutsideValues::default(), fit, other_prefixes })
}

/// Reads one key at the revision of the earlier keys. If that revision is gone, reads at the newest revision.
async fn one(client: &mut Client, key: &[u8], revision: &mut u64) -> Result<Page, EtcdError> {
    loop {
        let to = [key, &[0]].concat();
        let query = Query { from: key.to_vec(), to, limit: 1, revision: *revision, keys_only: false };
        match client.range(&query).await {
            Err(EtcdError::Compacted(_)) if *revision != 0 => *revision = 0,
            page => {
                let page = page?;
                if *revision == 0 {
                    *revision = page.revision;
                }
                return Ok(page);
            }
        }
    }
}

fn check_key(entry: &KeyValue, key: &[u8], servers: &Servers) -> Result<(), LiveError> {
    if entry.key == key {
        return Ok(());
    }
    Err(LiveError::Order { url: servers.urls.join(","), key: String::from_utf8_lossy(&entry.key).into_owned() })
}

fn hand_on<S: Sink>(entry: &KeyValue, summarizer: &mut Summarizer, sink: &mut S) -> ControlFlow<()> {
    let summary = summarizer.summarize(&entry.key, &entry.value);
    let Some(summary) = summary else { return ControlFlow::Continue(()) };
    let value = S::NEEDS_VALUES.then_some(ObjectValue::InMemory(&entry.value));
    sink.object(&Object { key: &entry.key, mod_revision: entry.mod_revision, summary, value })
}

/// Judges the prefix after a key was not found below it. If the look fails, for example because the client
/// may read its own keys only, nothing speaks against the prefix.
async fn fit(client: &mut Client, summarizer: &Summarizer) -> (PrefixFit, Vec<String>) {
    let prefix = String::from_utf8_lossy(summarizer.names().prefix()).into_owned();
    match has_namespaces(client, &prefix).await {
        Ok(false) => (PrefixFit::without_resource(has_keys(client, prefix.as_bytes()).await), look(client).await),
        Ok(true) | Err(_) => (PrefixFit::Fits, Vec::new()),
    }
}

async fn has_keys(client: &mut Client, prefix: &[u8]) -> bool {
    let query = Query { from: prefix.to_vec(), to: end_of_prefix(prefix), limit: 1, revision: 0, keys_only: true };
    client.range(&query).await.is_ok_and(|page| !page.entries.is_empty())
}
