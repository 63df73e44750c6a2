//! The sentences with which a report begins. Each thing that makes a report bad news is in one of them, so the
//! sentence, the colour and the exit code never contradict each other.

use super::{
    count::Count,
    judge::FindingKind,
    outcome::Incomplete,
    report::{GroupRow, ReadableCount, ScanReport},
};

impl ScanReport {
    /// Returns the most important sentences of the report, the worst first. If the prefix is wrong, nothing else
    /// matters.
    pub fn headline(&self) -> String {
        if let Some(sentence) = self.reasons.iter().find_map(wrong_prefix) {
            return sentence;
        }
        let plaintext = "New Secrets are written in plaintext, because `identity` comes first in the EncryptionConfiguration; \
                         the next write of an encrypted Secret decrypts it";
        let parts = [
            self.identity_first.then(|| plaintext.to_owned()),
            self.unreadable(),
            Some(self.in_etcd()),
            self.others_readable(),
            self.damaged(),
            self.found_in(FindingKind::NotFirstProvider)
                .map(|objects| format!("{objects} not under the provider and key that the API server writes with")),
            self.found_in(FindingKind::OldKey).map(|objects| format!("{objects} not under the primary key")),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(". ")
    }

    /// Says how many objects the API server cannot read, and for how many the keyring has no key.
    fn unreadable(&self) -> Option<String> {
        let cannot = self.of_rows(|row| row.is_undecryptable() && !row.lacks_only_key());
        let lacks = self.of_rows(GroupRow::lacks_only_key);
        let cannot = cannot.map(|objects| format!("The API server cannot read {objects}"));
        let lacks = lacks.map(|objects| format!("The keyring has no key for {objects}"));
        let sentences: Vec<String> = cannot.into_iter().chain(lacks).collect();
        (!sentences.is_empty()).then(|| sentences.join(". "))
    }

    /// Says how many objects are in the rows for which `is_one` is true, Secrets first.
    fn of_rows(&self, is_one: impl Fn(&GroupRow) -> bool) -> Option<String> {
        let (secrets, others): (Vec<&GroupRow>, Vec<&GroupRow>) =
            self.groups.iter().filter(|row| is_one(row)).partition(|row| row.resource == "secrets");
        let count = |rows: &[&GroupRow]| rows.iter().map(|row| row.objects).sum::<u64>();
        let (secrets, others) = (count(&secrets), count(&others));
        let of_secrets = format!("{} of {} Secrets", Count(secrets), Count(self.secrets.objects));
        match (secrets, others) {
            (0, 0) => None,
            (0, _) => Some(Count(others).of("object")),
            (_, 0) => Some(of_secrets),
            _ => Some(format!("{of_secrets}, and {}", Count(others).of("other object"))),
        }
    }

    /// Returns the sentence about Secrets, or about the prefix if it has no object.
    fn in_etcd(&self) -> String {
        let ReadableCount { objects, readable, .. } = self.secrets;
        let missing = if self.is_incomplete() { ", as far as it can be read" } else { "" };
        let is = if readable == 1 { "is" } else { "are" };
        let older = self.older_readable();
        let older = (older > 0).then(|| format!("; {} can be read in this file", Count(older).of("older value")));
        // If the report counts older values, the sentence is about everything in the file.
        let (live, place) = if older.is_some() { ("live ", "") } else { ("", " in etcd") };
        let older = older.unwrap_or_default();
        if self.reasons.contains(&Incomplete::Groups) {
            return format!(
                "There are too many kinds of values to count the Secrets; at least {} {is} readable{place}{older}",
                Count(readable)
            );
        }
        match (objects, readable) {
            (0, _) if self.all.objects == 0 => format!("There is no object below {}{older}", self.prefix),
            (0, _) => {
                format!("There are no {live}Secrets among {}{missing}{older}", Count(self.all.objects).of("object"))
            }
            (1, 0) => format!("The only {live}Secret is encrypted{place}{missing}{older}"),
            (_, 0) => format!("All {} {live}Secrets are encrypted{place}{missing}{older}", Count(objects)),
            (1, _) => format!("The only {live}Secret is readable{place}{missing}{older}"),
            _ => {
                let (readable, objects) = (Count(readable), Count(objects));
                format!("{readable} of {objects} {live}Secrets {is} readable{place}{missing}{older}")
            }
        }
    }

    fn others_readable(&self) -> Option<String> {
        let kinds = [FindingKind::PlaintextAlthoughCovered, FindingKind::Plaintext];
        let is_other = |row: &&GroupRow| row.resource != "secrets" && kinds.iter().any(|kind| row.found.contains(kind));
        let objects = self.groups.iter().filter(is_other).map(|row| row.objects).sum();
        let they = if objects == 1 { "it" } else { "they" };
        (objects > 0)
            .then(|| format!("{} readable, although {they} should be encrypted", plural_is(objects, "other object")))
    }

    fn damaged(&self) -> Option<String> {
        let found = *self.found.get(&FindingKind::Damaged)?;
        let what =
            if found == 1 { "1 value or page is".to_owned() } else { format!("{} values or pages are", Count(found)) };
        Some(format!("{what} damaged"))
    }

    /// Says how many objects have a finding of this kind, without the objects that the API server cannot read.
    fn found_in(&self, kind: FindingKind) -> Option<String> {
        let rows = self.groups.iter().filter(|row| row.found.contains(&kind) && !row.is_undecryptable());
        let objects: u64 = rows.map(|row| row.objects).sum();
        (objects > 0).then(|| plural_is(objects, "object"))
    }
}

fn wrong_prefix(reason: &Incomplete) -> Option<String> {
    match reason {
        Incomplete::Nothing { prefix, .. } => Some(format!("There is no object below {prefix}")),
        Incomplete::NoResource { prefix, .. } => {
            Some(format!("The objects below {prefix} are not an API server's: this is the wrong prefix"))
        }
        Incomplete::Inside { prefix, .. } => {
            Some(format!("Only a part of the API server's objects was scanned: {prefix} is the wrong prefix"))
        }
        _ => None,
    }
}

/// Returns the words `1 object is` or `2 objects are`, with `noun`.
fn plural_is(count: u64, noun: &str) -> String {
    format!("{} {}", Count(count).of(noun), if count == 1 { "is" } else { "are" })
}
