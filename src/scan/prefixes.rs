//! Finds out below which prefixes API servers store their objects, judging by keys: `/k8s/prod/secrets/default/a` shows
//! the prefix `/k8s/prod`.
//!
//! A key shows a prefix if one of its segments is a path where API servers store a built-in resource. A key with
//! `group.with.dots/resource` shows one, too, but other programs write such keys as well, so these prefixes count only
//! if there is no better one. Every API server stores namespaces, so they are the best evidence.
//!
//! Invariant: at most [`PREFIXES_MAX`] prefixes are kept, and the most frequent ones are never dropped. If there is no
//! room, each prefix loses one key (Misra and Gries, 1982).

use super::names::is_built_in;

/// The greatest number of prefixes that are kept.
pub const PREFIXES_MAX: usize = 8;

/// The greatest length in bytes of a prefix that is kept, and the greatest number of segments that are examined.
const LENGTH_MAX: usize = 256;
const SEGMENTS_MAX: usize = 8;

/// The quality of the evidence for a prefix, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Evidence {
    /// The key has the form of a custom resource's key.
    Custom,
    /// The key has the path of a built-in resource.
    BuiltIn,
    /// The key has the path of namespaces.
    Namespaces,
}

/// The prefix that a key shows.
#[derive(Debug, Clone, Copy)]
struct ShownPrefix {
    /// The length of the prefix, without the slash after it.
    prefix: usize,
    /// The length of the key up to and including the slash after its resource.
    directory: usize,
    evidence: Evidence,
}

/// A prefix without a slash at its end. It is empty if the keys begin with their resource.
#[derive(Debug, Clone)]
struct Candidate {
    prefix: String,
    evidence: Evidence,
    keys: u64,
}

/// The prefixes that the keys of a source show.
#[derive(Debug, Clone, Default)]
pub struct Prefixes {
    candidates: Vec<Candidate>,
    /// The directory of the last key, and the prefix that it shows. Most keys are in the same directory as the one
    /// before.
    last: Option<(Box<[u8]>, ShownPrefix)>,
}

impl Prefixes {
    /// Notes the prefix that `key` shows.
    pub fn note(&mut self, key: &[u8]) {
        let known = self.last.as_ref().filter(|(directory, _)| key.starts_with(directory)).map(|(_, shown)| *shown);
        let Some(shown) = known.or_else(|| shown_by(key)) else { return };
        let Ok(prefix) = std::str::from_utf8(&key[..shown.prefix]) else { return };
        self.add(prefix, shown.evidence, 1);
        if known.is_none() {
            self.last = Some((key[..=shown.directory].into(), shown));
        }
    }

    /// Notes that there are namespaces below `prefix`.
    pub fn note_namespaces(&mut self, prefix: &str) {
        self.add(prefix.trim_end_matches('/'), Evidence::Namespaces, 1);
    }

    /// Adds the prefixes that other keys have shown.
    pub fn merge(&mut self, other: Self) {
        for Candidate { prefix, evidence, keys } in other.candidates {
            self.add(&prefix, evidence, keys);
        }
    }

    /// Whether [`PREFIXES_MAX`] prefixes are kept.
    pub fn are_full(&self) -> bool {
        self.candidates.len() >= PREFIXES_MAX
    }

    /// Returns all prefixes, without a slash at their end.
    pub fn all(&self) -> Vec<String> {
        self.candidates.iter().map(|candidate| candidate.prefix.clone()).collect()
    }

    /// Returns the prefix of an API server that contains `prefix`, if one does.
    pub fn around(&self, prefix: &str) -> Option<String> {
        let is_around =
            |candidate: &&Candidate| candidate.evidence == Evidence::Namespaces && is_inside(prefix, &candidate.prefix);
        self.candidates.iter().find(is_around).map(|candidate| candidate.prefix.clone())
    }

    /// Returns the prefixes with the best evidence, as `--etcd-prefix` takes them. A prefix of more keys comes first.
    pub fn likely(mut self) -> Vec<String> {
        let best = self.candidates.iter().map(|candidate| candidate.evidence).max();
        self.candidates.retain(|candidate| Some(candidate.evidence) == best);
        self.candidates.sort_by(|a, b| b.keys.cmp(&a.keys).then_with(|| a.prefix.cmp(&b.prefix)));
        let mut likely: Vec<String> = Vec::new();
        for Candidate { prefix, .. } in self.candidates {
            // A custom resource may have the name of a built-in one. Then a part of a prefix with more keys looks like
            // a prefix itself.
            if !likely.iter().any(|other| is_inside(&prefix, other)) {
                likely.push(prefix);
            }
        }
        likely.into_iter().map(|prefix| if prefix.is_empty() { "/".to_owned() } else { prefix }).collect()
    }

    fn add(&mut self, prefix: &str, evidence: Evidence, keys: u64) {
        if let Some(known) = self.candidates.iter_mut().find(|candidate| candidate.prefix == prefix) {
            known.keys += keys;
            known.evidence = known.evidence.max(evidence);
        } else if !self.are_full() {
            self.candidates.push(Candidate { prefix: prefix.to_owned(), evidence, keys });
        } else {
            self.candidates.iter_mut().for_each(|candidate| candidate.keys = candidate.keys.saturating_sub(keys));
            self.candidates.retain(|candidate| candidate.keys > 0);
        }
    }
}

/// Whether `inner` is a path below `outer`, which is not empty.
fn is_inside(inner: &str, outer: &str) -> bool {
    !outer.is_empty() && inner.strip_prefix(outer).is_some_and(|rest| rest.len() > 1 && rest.starts_with('/'))
}

/// Returns the first key after all keys below the prefix that `key` shows. If it shows none, returns the first key
/// after all keys with the same first two segments.
pub fn after(key: &[u8]) -> Vec<u8> {
    let end = match shown_by(key).filter(|shown| shown.prefix > 0) {
        Some(shown) => shown.prefix,
        None => slashes(key).nth(2).or_else(|| slashes(key).nth(1)).unwrap_or(key.len()),
    };
    end_of(&key[..end])
}

/// Returns the first key after all keys below the directory `path`, which has no slash at its end.
pub fn end_of(path: &[u8]) -> Vec<u8> {
    // `0` is the character after the slash.
    [path, b"0"].concat()
}

/// Returns the first key after all keys below the prefix, which may end with a slash.
pub fn end_of_prefix(prefix: &[u8]) -> Vec<u8> {
    end_of(prefix.strip_suffix(b"/").unwrap_or(prefix))
}

/// Returns the positions of the slashes in a key.
fn slashes(key: &[u8]) -> impl Iterator<Item = usize> + '_ {
    key.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at)
}

/// Returns the prefix that a key shows, with the evidence for it.
fn shown_by(key: &[u8]) -> Option<ShownPrefix> {
    let key = key[..key.len().min(LENGTH_MAX)].utf8_chunks().next()?.valid();
    if !key.starts_with('/') {
        return None;
    }
    let ends: Vec<usize> = slashes(key.as_bytes()).take(SEGMENTS_MAX + 2).collect();
    let mut custom = None;
    for (at, (start, end)) in ends.iter().copied().zip(ends.iter().copied().skip(1)).enumerate() {
        let segment = &key[start + 1..end];
        if key[..start].chars().any(char::is_control) {
            return None;
        }
        let shown = |directory, evidence| Some(ShownPrefix { prefix: start, directory, evidence });
        match (segment, ends.get(at + 2)) {
            ("namespaces", _) => return shown(end, Evidence::Namespaces),
            ("services", Some(next)) if is_built_in(&key[start + 1..*next]) => return shown(*next, Evidence::BuiltIn),
            (_, _) if is_built_in(segment) => return shown(end, Evidence::BuiltIn),
            (_, Some(next)) if start > 0 && segment.contains('.') && custom.is_none() => {
                custom = shown(*next, Evidence::Custom);
            }
            _ => {}
        }
    }
    custom
}

#[cfg(test)]
mod tests {
    use super::*;

    fn likely(keys: &[&str]) -> Vec<String> {
        let mut prefixes = Prefixes::default();
        for key in keys {
            prefixes.note(key.as_bytes());
        }
        prefixes.likely()
    }

    #[test]
    fn a_key_of_an_api_server_shows_its_prefix() {
        for (key, expected) in [
            ("/registry/secrets/default/a", "/registry"),
            ("/k8s/prod/configmaps/ns/n", "/k8s/prod"),
            ("/kubernetes.io/secrets/ns/n", "/kubernetes.io"),
            ("/registry/services/specs/default/a", "/registry"),
            ("/registry/minions/node.example.com", "/registry"),
            ("/registry/ranges/serviceips", "/registry"),
            ("/registry/example.com/widgets/default/a", "/registry"),
            ("/secrets/default/a", "/"),
        ] {
            assert_eq!(likely(&[key]), [expected], "{key}");
        }
        for key in [
            "compact_rev_key",
            "/registry/secrets",
            "/registry/services/a/b",
            "/example.com/widgets/default/a",
            "/calico/ipam/v2/a",
            "/a\u{1b}[31m/secrets/default/a",
            "secrets/default/a",
            "",
        ] {
            assert_eq!(likely(&[key]), [""; 0], "{key}");
        }
        let long = format!("/{}/secrets/default/a", "x".repeat(LENGTH_MAX));
        assert_eq!(likely(&[&long]), [""; 0]);
    }

    #[test]
    fn the_best_evidence_counts_and_then_the_number_of_keys() {
        let calico = "/calico/v3/projectcalico.org/bgpconfigurations/default";
        assert_eq!(likely(&[calico, calico, "/registry/pods/a/b"]), ["/registry"]);
        assert_eq!(likely(&["/a/pods/x/y", "/a/pods/x/z", "/b/namespaces/x"]), ["/b"]);
        assert_eq!(likely(&["/a/namespaces/x", "/b/namespaces/x", "/b/namespaces/y"]), ["/b", "/a"]);
        let custom = "/registry/crd.projectcalico.org/networkpolicies/a/b";
        assert_eq!(likely(&["/registry/pods/a/b", "/registry/pods/a/c", custom]), ["/registry"]);
    }

    #[test]
    fn prefixes_that_somebody_made_up_do_not_displace_the_one_of_most_keys() {
        let mut prefixes = Prefixes::default();
        for number in 0..10_000 {
            prefixes.note(format!("/made-up-{number}/pods/a/b").as_bytes());
            prefixes.note(format!("/registry/pods/a/{number}").as_bytes());
        }
        assert!(prefixes.candidates.len() <= PREFIXES_MAX);
        assert_eq!(prefixes.likely()[0], "/registry");
    }

    #[test]
    fn a_prefix_inside_of_another_one_is_noticed() {
        let mut prefixes = Prefixes::default();
        prefixes.note(b"/registry/pods/a/b");
        assert_eq!(prefixes.around("/registry/secrets"), None, "there are no namespaces");
        prefixes.note_namespaces("/registry");
        assert_eq!(prefixes.around("/registry/secrets"), Some("/registry".to_owned()));
        for other in ["/registry", "/registryx", "/other", "/"] {
            assert_eq!(prefixes.around(other), None, "{other}");
        }
    }

    #[test]
    fn a_search_hops_over_what_it_knows() {
        for (key, expected) in [
            ("/registry/pods/a/b", "/registry0"),
            ("/k8s/prod/pods/a/b", "/k8s/prod0"),
            ("/calico/ipam/v2/a", "/calico/ipam0"),
            ("/calico/a", "/calico0"),
            ("/calico", "/calico0"),
            ("/pods/a/b", "/pods/a0"),
        ] {
            assert_eq!(String::from_utf8(after(key.as_bytes())).unwrap(), expected, "{key}");
        }
    }
}
