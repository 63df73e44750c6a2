//! Reads places, and adds up which keys their values need.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use super::{
    super::{
        judge::Judge,
        names::Names,
        outcome::{Progress, ScanOutcome},
        place::{ScanPlace, ScanPlaceError},
        snapshot::Options,
        source::ScanSource,
        summarizer::Summarizer,
        tally::{Counts, Tally},
    },
    left::{LeavingTally, LeftValue},
    locked::{LockedValues, ValueLock, by_lock},
    needed::{NeededKeys, NeedsDoubt, NeedsDoubts},
};
use crate::memory::RandomError;

/// A function that receives the place, the amount done, and the total: parts of a file, or objects of a live etcd.
pub type PlaceProgress<'a> = &'a mut dyn FnMut(&ScanPlace, u64, u64);

/// Why a place could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NeedsError {
    /// The place cannot be scanned.
    #[error(transparent)]
    Scan(#[from] ScanPlaceError),
    /// The random source of the system failed.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Reads all `places`, and adds up what their live values below `prefix` need. A value that is in two places counts
/// twice. Values whose keys in etcd are in `left` do not count, and are kept.
///
/// # Errors
/// When one of the places cannot be read at all. If only a part of a place cannot be read, that is a doubt, and no
/// error.
pub fn read_needs(
    places: &[ScanPlace],
    prefix: &str,
    left: &BTreeSet<Vec<u8>>,
    progress: PlaceProgress<'_>,
) -> Result<NeededKeys, NeedsError> {
    let (mut needed, names) = (NeededKeys::default(), Names::new(prefix));
    for place in places {
        let (outcome, counts, left) = count_but(place, &names, left, progress)?;
        needed.left.extend(left);
        needed.add(place, &outcome, counts, &String::from_utf8_lossy(names.prefix()));
    }
    if places.is_empty() {
        needed.doubts.push(NeedsDoubt::NothingRead);
    }
    Ok(needed)
}

/// The keys that the live values in a snapshot need.
#[derive(Debug)]
pub struct SnapshotNeeds {
    /// The file of the snapshot, with its digest and revision.
    pub source: ScanSource,
    /// All live values below the prefix, grouped by what opens them.
    pub by_lock: BTreeMap<ValueLock, LockedValues>,
    needed: NeededKeys,
}

impl SnapshotNeeds {
    /// Returns the keys of claviger that the values need.
    pub fn keys(&self) -> &NeededKeys {
        &self.needed
    }

    /// Checks that the result contains all keys that the values need.
    ///
    /// # Errors
    /// When something may be missing, or when the values are not an API server's.
    pub fn check_complete(&self) -> Result<(), NeedsDoubts> {
        self.needed.check_complete()
    }
}

/// Reads a snapshot, and groups all of its live values by what opens them.
///
/// # Errors
/// When it cannot be read at all. If only a part of it cannot be read, that is a doubt, and no error.
pub fn read_snapshot(file: &Path, prefix: &str, progress: Progress<'_>) -> Result<SnapshotNeeds, NeedsError> {
    let (names, place) = (Names::new(prefix), ScanPlace::Snapshot(file.to_owned()));
    let (outcome, counts) = count(&place, &names, Options { digest: true, progress })?;
    let (by_lock, mut needed) = (by_lock(&counts), NeededKeys::default());
    needed.add(&place, &outcome, counts, &String::from_utf8_lossy(names.prefix()));
    Ok(SnapshotNeeds { source: outcome.source, by_lock, needed })
}

/// Counts the values of one place, without those in `names_left`. Returns these.
fn count_but(
    place: &ScanPlace,
    names: &Names,
    names_left: &BTreeSet<Vec<u8>>,
    progress: PlaceProgress<'_>,
) -> Result<(ScanOutcome, Counts, Vec<LeftValue>), NeedsError> {
    let mut progress = |done, of| progress(place, done, of);
    if names_left.is_empty() {
        let (outcome, counts) = count(place, names, Options { digest: false, progress: &mut progress })?;
        return Ok((outcome, counts, Vec::new()));
    }
    let (summarizer, judge) = (Summarizer::seeded(names.clone())?, Judge::default());
    let (tally, groups) = (Tally::new(&judge, summarizer.groups(), None), summarizer.groups());
    let mut sink = LeavingTally { tally, names: names_left, groups, left: Vec::new() };
    let outcome = place.scan(&summarizer, &mut sink, Options { digest: false, progress: &mut progress })?;
    Ok((outcome, sink.tally.finish(), sink.left))
}

/// Counts the values of one place.
fn count(place: &ScanPlace, names: &Names, options: Options<'_>) -> Result<(ScanOutcome, Counts), NeedsError> {
    let (summarizer, judge) = (Summarizer::seeded(names.clone())?, Judge::default());
    let mut tally = Tally::new(&judge, summarizer.groups(), None);
    let outcome = place.scan(&summarizer, &mut tally, options)?;
    Ok((outcome, tally.finish()))
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use tempfile::NamedTempFile;

    use super::{
        super::{
            super::{
                forge::{self, Change, Shape},
                group::GROUPS_MAX,
            },
            needed::{KEYS_MAX, NAMES_MAX, Need},
        },
        *,
    };
    use crate::apiserver::FlagDoubt;
    use crate::{
        crypto::Commitment,
        etcd::Servers,
        harness::{etcd::Etcd, processes::Run},
    };

    #[test]
    fn what_hides_values_in_the_flags_is_a_doubt() {
        let mut needed = NeededKeys::default();
        let variable = |flag| FlagDoubt::Variable { flag, name: "$A".to_owned() };
        needed.add_doubts_about_flags(&[variable("etcd-servers-overrides"), variable("encryption-provider-config")]);
        let doubts = needed.check_complete().unwrap_err().to_string();
        let expected = "flags of kube-apiserver: --etcd-servers-overrides contains $A, whose value is not known; ";
        assert!(doubts.starts_with(expected) && !doubts.contains("provider-config"), "{doubts}");
    }

    /// Returns a commitment whose bytes are all `byte`.
    fn commitment(byte: u8) -> Commitment {
        Commitment([byte; 32])
    }

    fn key_id(seq: u32, commitment: &Commitment) -> String {
        format!("k{seq}-{}", base16ct::lower::encode_string(&commitment.first_half()))
    }

    /// Returns a wrapped seed of claviger's shape.
    fn seed(commitment: &Commitment) -> Vec<u8> {
        [b"KW\x01\x01".as_slice(), &commitment.0, &[9; 72]].concat()
    }

    /// Returns a whole value of KMS v2.
    fn value(provider: &str, key_id: &str, seed: &[u8]) -> Vec<u8> {
        let mut bytes = format!("k8s:enc:kms:v2:{provider}:").into_bytes();
        prost::encoding::bytes::encode(1, &vec![7; 60], &mut bytes);
        prost::encoding::string::encode(2, &key_id.to_owned(), &mut bytes);
        prost::encoding::bytes::encode(3, &seed.to_vec(), &mut bytes);
        bytes.extend([0x28, 1]);
        bytes
    }

    /// Returns a whole value under the key with this commitment. The value names the key with the number `seq`.
    fn under(provider: &str, seq: u32, commitment: &Commitment) -> Vec<u8> {
        value(provider, &key_id(seq, commitment), &seed(commitment))
    }

    /// Returns the bytes of a snapshot with these changes, each at a revision of its own. A change without a value is a
    /// deletion.
    fn database(changes: &[(&str, Option<Vec<u8>>)]) -> Vec<u8> {
        let changes: Vec<Change<'_>> = changes
            .iter()
            .zip(2..)
            .map(|((key, value), revision)| ((revision, 0), key.as_bytes(), value.as_deref()))
            .collect();
        forge::database(Shape::default(), &changes)
    }

    fn file(bytes: &[u8]) -> NamedTempFile {
        let file = NamedTempFile::new().unwrap();
        fs::write(file.path(), bytes).unwrap();
        file
    }

    fn snapshot(path: &Path) -> ScanPlace {
        ScanPlace::Snapshot(path.to_owned())
    }

    fn read(places: &[ScanPlace], prefix: &str) -> NeededKeys {
        read_needs(places, prefix, &BTreeSet::new(), &mut |_, _, _| {}).unwrap()
    }

    /// Returns the keys that a snapshot with these changes needs below `/registry`.
    fn needs_of(changes: &[(&str, Option<Vec<u8>>)]) -> NeededKeys {
        let file = file(&database(changes));
        read(&[snapshot(file.path())], "/registry")
    }

    /// Returns the doubts as text, with FILE in place of the name of a temporary file.
    fn doubts(needs: &NeededKeys) -> Vec<String> {
        let text = |doubt: &NeedsDoubt| match doubt {
            NeedsDoubt::Place { place: ScanPlace::Snapshot(_), reason } => format!("FILE: {reason}"),
            doubt => doubt.to_string(),
        };
        needs.doubts.iter().map(text).collect()
    }

    /// Returns the number of live values that need a key.
    fn objects(needs: &NeededKeys) -> u64 {
        needs.iter().map(|(_, need)| need.objects).sum()
    }

    fn need(key_ids: &[&str], objects: u64, sample: &str) -> Need {
        let key_ids = key_ids.iter().map(|key_id| (*key_id).to_owned()).collect();
        Need { key_ids, objects, sample: sample.to_owned() }
    }

    #[test]
    fn live_values_of_all_places_are_added_up_whatever_their_provider() {
        let (one, two, three) = (commitment(1), commitment(2), commitment(3));
        let first = file(&database(&[
            ("/registry/secrets/a/new", Some(under("claviger", 2, &two))),
            ("/registry/secrets/a/old", Some(under("renamed", 1, &one))),
            ("/registry/secrets/a/rewritten", Some(under("claviger", 1, &one))),
            ("/registry/secrets/a/rewritten", Some(under("claviger", 2, &two))),
            ("/registry/secrets/a/gone", Some(under("claviger", 3, &three))),
            ("/registry/secrets/a/gone", None),
            ("/registry/secrets/a/foreign", Some(value("vault", "projects/p", b"wrapped elsewhere"))),
            ("/registry/pods/a/plain", Some(b"{}".to_vec())),
            ("/elsewhere/secrets/a/b", Some(under("claviger", 3, &three))),
        ]));
        let second = file(&database(&[
            ("/registry/configmaps/a/old", Some(under("claviger", 1, &one))),
            ("/registry/secrets/a/old", Some(under("claviger", 1, &one))),
        ]));
        let mut seen = Vec::new();
        let places = [snapshot(first.path()), snapshot(second.path())];
        let needs = read_needs(&places, "registry/", &BTreeSet::new(), &mut |place, done, of| {
            seen.push((place.clone(), done == of));
        })
        .unwrap();

        assert_eq!(needs.of(&one), Some(&need(&[&key_id(1, &one)], 3, "/registry/configmaps/a/old")));
        assert_eq!(needs.of(&two), Some(&need(&[&key_id(2, &two)], 2, "/registry/secrets/a/new")));
        assert_eq!(needs.of(&three), None, "deleted, or outside of the prefix");
        assert_eq!(needs.iter().map(|(commitment, _)| *commitment).collect::<Vec<_>>(), [one, two]);
        assert_eq!((objects(&needs), doubts(&needs), needs.named(&key_id(1, &one))), (5, vec![], None));
        for place in places {
            assert!(seen.contains(&(place.clone(), true)), "the end of {place:?} is reported");
        }
    }

    #[test]
    fn values_that_are_left_by_name_do_not_count_and_are_kept() {
        let (one, two) = (commitment(1), commitment(2));
        let (key, value) = ("/registry/secrets/a/left", under("claviger", 1, &one));
        let file = file(&database(&[
            ("/registry/namespaces/default", Some(b"{}".to_vec())),
            (key, Some(value.clone())),
            ("/registry/secrets/a/other", Some(under("claviger", 1, &one))),
            ("/registry/secrets/a/unclear", Some(b"k8s:enc:kms:v2:claviger:x".to_vec())),
            ("/registry/secrets/a/plain", Some(b"{}".to_vec())),
        ]));
        let names = [key, "/registry/secrets/a/plain", "/registry/secrets/a/unclear", "/registry/secrets/a/none"];
        let left: BTreeSet<Vec<u8>> = names.iter().map(|name| name.as_bytes().to_vec()).collect();
        let needs = read_needs(&[snapshot(file.path())], "/registry", &left, &mut |_, _, _| {}).unwrap();
        assert_eq!(needs.of(&one), Some(&need(&[&key_id(1, &one)], 1, "/registry/secrets/a/other")));
        assert!(needs.check_complete().is_ok(), "the unclear value is left");
        let mut found = needs.left().to_vec();
        found.sort_by(|a, b| a.key.cmp(&b.key));
        assert_eq!(found.iter().map(|left| String::from_utf8_lossy(&left.key)).collect::<Vec<_>>(), names[..3]);
        assert_eq!(found[0].value, value);
        let may_need =
            |key: &Commitment, name: &str| -> Vec<bool> { found.iter().map(|left| left.may_need(key, name)).collect() };
        assert_eq!(may_need(&one, &key_id(1, &one)), [true, false, true]);
        assert_eq!(may_need(&two, &key_id(2, &two)), [false, false, true]);
        assert_eq!(may_need(&two, &key_id(1, &one)), [true, false, true], "the name counts, too");
    }

    #[test]
    fn the_values_of_a_snapshot_are_grouped_by_what_opens_them() {
        let (one, two) = (commitment(1), commitment(2));
        let name = key_id(1, &one);
        let mut changes: Vec<(String, Option<Vec<u8>>)> =
            (0..8).map(|number| (format!("/registry/secrets/a/{number}"), Some(under("claviger", 1, &one)))).collect();
        for (key, value) in [
            ("configmaps/a/renamed", under("renamed", 1, &one)),
            ("namespaces/a", b"{}".to_vec()),
            ("secrets/b/another-name", value("claviger", "another-name", &seed(&one))),
            ("secrets/b/no-seed", value("claviger", &name, b"not claviger's")),
            ("secrets/b/other-seed", value("claviger", &name, &seed(&two))),
            ("secrets/b/vault", value("vault", "projects/p", b"not claviger's")),
            ("secrets/b/v1", b"k8s:enc:kms:v1:old:x".to_vec()),
            ("secrets/b/cbc", b"k8s:enc:aescbc:v1:k:x".to_vec()),
            ("secrets/b/damaged", b"k8s:enc:kms:v2:claviger:x".to_vec()),
            ("secrets/b/newer", b"k8s:enc:kms:v3:claviger:x".to_vec()),
            ("secrets/b/plain", b"{}".to_vec()),
            ("secrets/b/gone", under("claviger", 2, &two)),
        ] {
            changes.push((format!("/registry/{key}"), Some(value)));
        }
        changes.push(("/registry/secrets/b/gone".to_owned(), None));
        changes.push(("/elsewhere/secrets/b/c".to_owned(), Some(under("claviger", 2, &two))));
        let changes: Vec<_> = changes.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let file = file(&database(&changes));
        let needs = read_snapshot(file.path(), "/registry", &mut |_, _| {}).unwrap();

        let misnamed = |key_id: &str| ValueLock::Misnamed { key_id: key_id.to_owned() };
        let foreign = |provider: &str, key_id: Option<&str>| ValueLock::Foreign {
            provider: provider.to_owned(),
            key_id: key_id.map(ToOwned::to_owned),
        };
        let count = |lock: ValueLock| needs.by_lock.get(&lock).map(|values| values.objects);
        let claviger = ValueLock::Claviger { key_id: name.clone(), commitment: one };
        assert_eq!(count(claviger.clone()), Some(9), "of every resource and provider");
        assert_eq!(count(ValueLock::Claviger { key_id: key_id(2, &two), commitment: two }), None, "deleted or outside");
        assert_eq!((count(misnamed("another-name")), count(misnamed(&name))), (Some(1), Some(2)));
        assert_eq!(count(foreign("kms:v2:vault", Some("projects/p"))), Some(1));
        assert_eq!((count(foreign("kms:v1:old", None)), count(foreign("aescbc:v1:k", None))), (Some(1), Some(1)));
        assert_eq!((count(ValueLock::Unclear), count(ValueLock::Plaintext)), (Some(2), Some(2)));
        assert_eq!(needs.by_lock.values().map(|values| values.objects).sum::<u64>(), 19);
        let samples = ["configmaps/a/renamed", "secrets/a/0", "secrets/a/1", "secrets/a/2", "secrets/a/3"];
        assert_eq!(needs.by_lock[&claviger].samples, samples.map(|key| format!("/registry/{key}")));
        let doubts = needs.check_complete().unwrap_err().to_string();
        assert!(doubts.contains("2 values are damaged or of a newer kind"), "{doubts}");
        assert_eq!(needs.source.digest.unwrap().sha256.len(), 64, "even if the file does not end with one");
        assert!(needs.source.revision > 0);
    }

    #[test]
    fn only_below_the_prefix_of_an_api_server_there_are_namespaces() {
        let file = file(&database(&[
            ("/registry/namespaces/default", Some(b"{}".to_vec())),
            ("/registry/secrets/a/b", Some(under("claviger", 1, &commitment(1)))),
            ("/registry/pods/a/b", Some(b"{}".to_vec())),
        ]));
        for (prefix, is_root) in [("/registry", true), ("/registry/pods", false), ("/registry/secrets", false)] {
            let needs = read(&[snapshot(file.path())], prefix);
            let complete = needs.check_complete().map_err(|doubts| doubts.to_string());
            let doubt = "there are no namespaces, so this is not the etcd and the prefix of an API server";
            assert_eq!(complete.is_ok(), is_root, "{prefix}");
            assert!(complete.is_ok() || complete.unwrap_err().ends_with(doubt), "{prefix}");
        }
    }

    #[test]
    fn a_key_is_known_by_all_of_its_commitment_and_a_name_alone_counts_too() {
        let own = commitment(1);
        let mut twin = own;
        twin.0[31] = 2;
        let name = key_id(1, &own);
        let needs = needs_of(&[
            ("/registry/secrets/a/own", Some(under("claviger", 1, &own))),
            ("/registry/secrets/a/twin", Some(under("claviger", 1, &twin))),
            ("/registry/secrets/a/other-name", Some(value("claviger", "another-name", &seed(&own)))),
            ("/registry/secrets/b/misnamed", Some(value("claviger", &name, &seed(&commitment(5))))),
            ("/registry/secrets/b/no-seed", Some(value("claviger", &name, b"not claviger's"))),
            ("/registry/secrets/b/foreign", Some(value("vault", "projects/p", b"not claviger's"))),
        ]);
        assert_eq!(needs.of(&own), Some(&need(&["another-name", &name], 2, "/registry/secrets/a/other-name")));
        assert_eq!(needs.of(&twin), Some(&need(&[&name], 1, "/registry/secrets/a/twin")));
        assert_eq!(needs.of(&commitment(5)).unwrap().objects, 1, "a misnamed value needs the key of its seed");
        assert_eq!(
            needs.named(&name),
            Some(&need(&[&name], 2, "/registry/secrets/b/misnamed")),
            "and the one it names"
        );
        assert_eq!((needs.named("projects/p"), needs.named("another-name")), (None, None));
        assert_eq!((objects(&needs), doubts(&needs)), (4, vec![]));
    }

    #[test]
    fn values_that_do_not_show_their_key_are_a_doubt_if_it_may_be_ours() {
        let whole = under("claviger", 1, &commitment(1));
        let (key, other) = ("/registry/secrets/a/b", "/registry/secrets/a/a");
        let doubts_of = |values: &[(&str, &[u8])]| {
            let changes: Vec<_> = values.iter().map(|(key, value)| (*key, Some(value.to_vec()))).collect();
            doubts(&needs_of(&changes))
        };
        let cut = &whole[..whole.len() - 10];
        let newer = [&whole[..whole.len() - 1], &[2]].concat();
        let one =
            ["FILE: 1 value is damaged or of a newer kind, and may need any key, for example /registry/secrets/a/b"];
        for value in [cut, &newer, b"k8s:enc:kms:v3:claviger:x", b"k8s:enc:", b"k8s:enc:kms:v2:"] {
            assert_eq!(doubts_of(&[(key, value)]), one, "{}", String::from_utf8_lossy(value));
        }
        let two =
            "FILE: 2 values are damaged or of a newer kind, and may need any key, for example /registry/secrets/a/a";
        assert_eq!(doubts_of(&[(key, cut), (other, b"k8s:enc:kms:v2:x:y")]), [two]);
        // No key of claviger opens these values.
        for value in
            [&b"k8s:enc:kms:v1:old:x"[..], b"k8s:enc:aescbc:v1:k:x", b"k8s:enc:new:v1:k:x", b"{", b"raw", &whole]
        {
            assert_eq!(doubts_of(&[(key, value)]), [""; 0], "{}", String::from_utf8_lossy(value));
        }
    }

    #[test]
    fn everything_that_may_hide_a_value_is_a_doubt() {
        let keys: Vec<String> = (0..40).map(|number| format!("/registry/secrets/a/{number:02}")).collect();
        let changes: Vec<_> = keys.iter().map(|key| (key.as_str(), Some(under("c", 1, &commitment(1))))).collect();
        let whole = database(&changes);
        let spoilt = |bytes: &[u8], prefix: &str| {
            let file = file(bytes);
            let needs = read(&[snapshot(file.path())], prefix);
            doubts(&needs).iter().map(|doubt| doubt.strip_prefix("FILE: ").unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(spoilt(&whole, "/registry"), [""; 0]);
        assert_eq!(
            spoilt(&whole, "/registri"),
            ["there is no key below /registri/; an API server's objects are below /registry"]
        );
        let mut page = whole.clone();
        page[2 * 4096..3 * 4096].fill(0);
        assert_eq!(spoilt(&page, "/registry"), ["1 page or revision cannot be read"]);
        let mut meta = whole.clone();
        meta[20] ^= 1;
        let lost = "meta page 0 is damaged: what the last transaction wrote may be missing";
        assert!(spoilt(&meta, "/registry").contains(&lost.to_owned()));
        let digest = [&whole[..], &[0; 32]].concat();
        let other = "the file does not match the digest at its end";
        assert_eq!(spoilt(&digest, "/registry"), [other]);
        assert_eq!(doubts(&read(&[], "/registry")), ["no etcd and no snapshot was read"]);
    }

    #[test]
    fn a_place_that_cannot_be_read_is_an_error() {
        let whole = file(&database(&[("/registry/secrets/a/b", Some(under("c", 1, &commitment(1))))]));
        let text = file(b"not a database");
        let error = |place| {
            let places = [snapshot(whole.path()), place];
            read_needs(&places, "/registry", &BTreeSet::new(), &mut |_, _, _| {}).unwrap_err().to_string()
        };
        let missing = error(ScanPlace::Snapshot("/nowhere/etcd.db".into()));
        assert_eq!(missing, "/nowhere/etcd.db: opening failed: No such file or directory (os error 2)");
        let garbled = error(ScanPlace::Snapshot(text.path().to_owned()));
        assert!(garbled.starts_with(&format!("{}: ", text.path().display())), "{garbled}");
        let servers = |url: &str| ScanPlace::Etcd(Servers { urls: vec![url.to_owned()], ..Servers::default() });
        let dead = error(servers("http://127.0.0.1:1"));
        assert!(dead.starts_with("etcd http://127.0.0.1:1 does not answer: "), "{dead}");
        let wrong = error(servers("127.0.0.1:1"));
        assert_eq!(
            wrong,
            "etcd endpoint \"127.0.0.1:1\": expected http://host:port, https://host:port, unix:///path or unixs:///path"
        );
    }

    /// Returns a snapshot in which each value is under another key, which it names by one of these numbers.
    fn made_up(numbers: std::ops::Range<u32>) -> NamedTempFile {
        let values = numbers.map(|number| {
            let mut commitment = commitment(0);
            commitment.0[..4].copy_from_slice(&number.to_be_bytes());
            (format!("/registry/secrets/a/{number:06}"), under("c", 1, &commitment))
        });
        let values: Vec<_> = values.collect();
        let changes: Vec<_> = values.iter().map(|(key, value)| (key.as_str(), Some(value.clone()))).collect();
        file(&database(&changes))
    }

    #[test]
    fn keys_that_somebody_made_up_do_not_fill_the_memory() {
        let most = u32::try_from(KEYS_MAX).unwrap();
        let (one, other) = (made_up(0..most / 2), made_up(most / 2..most + 10));
        let all = read(&[snapshot(one.path()), snapshot(other.path())], "/registry");
        assert_eq!((all.iter().count(), objects(&all)), (KEYS_MAX, u64::from(most)));
        let full = "FILE: the values name more than 8192 keys, and not all of them were counted";
        assert_eq!(doubts(&all), [full]);

        let one = made_up(0..u32::try_from(GROUPS_MAX).unwrap() + 3);
        let all = read(&[snapshot(one.path())], "/registry");
        assert_eq!(objects(&all), GROUPS_MAX as u64);
        let groups = "there are more than 8192 combinations of resource, provider and key: the values of all others are counted as one";
        let unclear = "3 values are damaged or of a newer kind, and may need any key, for example /registry/secrets/a/";
        assert!(doubts(&all)[0] == format!("FILE: {groups}"), "{:?}", doubts(&all));
        assert!(doubts(&all)[1].starts_with(&format!("FILE: {unclear}")), "{:?}", doubts(&all));

        let names: Vec<String> = (0..40).map(|number| format!("name-{number:02}")).collect();
        let changes: Vec<_> = names.iter().map(|name| value("c", name, &seed(&commitment(1)))).collect();
        let keys: Vec<String> = names.iter().map(|name| format!("/registry/secrets/a/{name}")).collect();
        let changes: Vec<_> = keys.iter().map(String::as_str).zip(changes.into_iter().map(Some)).collect();
        let many = needs_of(&changes);
        let many = many.of(&commitment(1)).unwrap();
        assert_eq!((many.objects, many.key_ids.len(), many.key_ids.is_sorted()), (40, NAMES_MAX, true));
    }

    #[test]
    fn live_etcds_and_a_snapshot_say_the_same_of_two_keys_and_two_providers() {
        let (one, two) = (commitment(1), commitment(2));
        let run = Run::new().unwrap();
        let [main, events] = [(), ()].map(|()| Etcd::start(&run, 1).unwrap());
        for (etcd, key, value) in [
            (&main, "/registry/secrets/a/old", under("renamed", 1, &one)),
            (&main, "/registry/secrets/a/rewritten", under("claviger", 1, &one)),
            (&main, "/registry/secrets/a/rewritten", under("claviger", 2, &two)),
            (&main, "/registry/secrets/a/new", under("claviger", 2, &two)),
            (&main, "/registry/pods/a/plain", b"{}".to_vec()),
            (&main, "/other/secrets/a/old", under("claviger", 1, &one)),
            (&events, "/registry/events/a/old", under("renamed", 1, &one)),
            (&events, "/registry/events/a/new", under("renamed", 2, &two)),
        ] {
            etcd.put(key, &value).unwrap();
        }
        let live = |etcd: &Etcd| ScanPlace::Etcd(Servers { urls: etcd.client_urls(), ..Servers::default() });
        let file = run.path("main.db");
        main.snapshot(&file).unwrap();
        let names = (key_id(1, &one), key_id(2, &two));
        for main_etcd in [live(&main), snapshot(&file)] {
            let all = read(&[main_etcd.clone(), live(&events)], "/registry");
            assert_eq!(all.of(&one), Some(&need(&[&names.0], 2, "/registry/events/a/old")), "{main_etcd:?}");
            assert_eq!(all.of(&two), Some(&need(&[&names.1], 3, "/registry/events/a/new")), "{main_etcd:?}");
            assert_eq!((objects(&all), doubts(&all)), (5, vec![]), "{main_etcd:?}");
            let other = read(std::slice::from_ref(&main_etcd), "/other");
            assert_eq!(other.of(&one), Some(&need(&[&names.0], 1, "/other/secrets/a/old")), "{main_etcd:?}");
            assert_eq!(objects(&other), 1, "{main_etcd:?}");
        }
        // With a wrong prefix nothing is read, so nothing is proven.
        let url = main.endpoints();
        let nothing = read(&[live(&main)], "/nothing");
        let others = "an API server's objects are below /registry, and others below /other";
        let doubt = format!("{url}: there is no key below /nothing/; {others}");
        assert_eq!((objects(&nothing), doubts(&nothing)), (0, vec![doubt]));
    }
}
