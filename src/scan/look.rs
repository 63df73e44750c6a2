//! Finds the prefixes of API servers in a live etcd, by a few small requests: the first keys, then the first keys after
//! the directory that those are in, and so on.

use super::prefixes::{Prefixes, after, end_of};
use crate::etcd::{Client, EtcdError, Query};

/// The greatest number of requests of one look, and the number of keys in one answer. kine may send their values, too.
const HOPS: usize = 32;
const KEYS: u32 = 16;

/// The directory that every API server has, below its prefix.
const NAMESPACES: &str = "/namespaces";

/// Returns the prefixes of API servers that are likely in this etcd. If etcd refuses, these are the ones that were
/// found before: a client may be allowed to read its own prefix only.
pub async fn look(client: &mut Client) -> Vec<String> {
    let mut prefixes = Prefixes::default();
    if hop(client, &mut prefixes).await.is_ok() {
        for prefix in prefixes.all() {
            if has_namespaces(client, &prefix).await.unwrap_or(false) {
                prefixes.note_namespaces(&prefix);
            }
        }
    }
    prefixes.likely()
}

/// Returns the prefix of an API server that contains `prefix`, if there is one. `prefix` ends with a slash.
pub async fn look_around(client: &mut Client, prefix: &str) -> Option<String> {
    let ends = prefix.trim_end_matches('/').match_indices('/').map(|(at, _)| at).skip(1).take(HOPS);
    for end in ends {
        if has_namespaces(client, &prefix[..end]).await.unwrap_or(false) {
            return Some(prefix[..end].to_owned());
        }
    }
    None
}

async fn hop(client: &mut Client, prefixes: &mut Prefixes) -> Result<(), EtcdError> {
    // All keys of API servers begin with a slash.
    let mut from = b"/".to_vec();
    for _ in 0..HOPS {
        let page = client.range(&keys(from.clone(), b"0".to_vec(), KEYS)).await?;
        page.entries.iter().for_each(|entry| prefixes.note(&entry.key));
        let next = page.entries.last().map(|last| after(&last.key)).filter(|next| page.more && *next > from);
        match next {
            Some(next) if !prefixes.are_full() => from = next,
            _ => break,
        }
    }
    Ok(())
}

/// Whether there are namespaces below `prefix`, which every API server makes.
///
/// # Errors
/// When etcd does not answer or refuses.
pub async fn has_namespaces(client: &mut Client, prefix: &str) -> Result<bool, EtcdError> {
    let path = format!("{}{NAMESPACES}", prefix.trim_end_matches('/')).into_bytes();
    let page = client.range(&keys([&path, &b"/"[..]].concat(), end_of(&path), 1)).await?;
    Ok(!page.entries.is_empty())
}

fn keys(from: Vec<u8>, to: Vec<u8>, limit: u32) -> Query {
    Query { from, to, limit, revision: 0, keys_only: true }
}
