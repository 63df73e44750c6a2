//! Searches for many secrets in all their forms at once.
//!
//! Raw bytes are looked for in pieces of 8, so a register that was saved to the stack is found. Each needle is found by
//! its first 8 bytes, in one pass over the haystack. Invariant: every find was compared in full.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

use base64ct::{Base64Unpadded, Base64UrlUnpadded, Encoding};

/// The least length of a needle. A needle is found by its first bytes of this length.
const HEAD: usize = 8;

/// The number of bits of the hash that lets the search skip most of a haystack.
const FILTER_BITS: u32 = 22;

/// The secrets that are looked for.
pub(super) struct Needles {
    all: Vec<Needle>,
    secrets: usize,
    by_head: HashMap<u64, Vec<usize>>,
    /// A bit for each possible hash of a head. It is set if a needle has that head.
    filter: Vec<bool>,
}

struct Needle {
    secret: usize,
    name: String,
    form: &'static str,
    bytes: Vec<u8>,
}

/// The secrets that were found, by name, form and place.
#[derive(Default)]
pub(super) struct Finds(BTreeMap<(String, &'static str, String), BTreeSet<usize>>);

impl Default for Needles {
    fn default() -> Self {
        Self { all: Vec::new(), secrets: 0, by_head: HashMap::new(), filter: vec![false; 1 << FILTER_BITS] }
    }
}

impl Needles {
    /// Adds a secret that is looked for in all its forms.
    pub(super) fn add(&mut self, name: &str, secret: &[u8]) {
        self.add_raw(name, secret);
        for (form, text) in texts(secret) {
            self.push(name, form, text.into_bytes());
        }
    }

    /// Adds a secret that is looked for as raw bytes only, because nobody would print it.
    pub(super) fn add_raw(&mut self, name: &str, secret: &[u8]) {
        self.secrets += 1;
        for piece in secret.as_chunks::<HEAD>().0 {
            self.push(name, "raw", piece.to_vec());
        }
    }

    /// Adds all needles of `others`.
    pub(super) fn append(&mut self, others: Self) {
        let before = self.secrets;
        self.secrets += others.secrets;
        for Needle { secret, name, form, bytes } in others.all {
            let head = head(&bytes);
            self.filter[hash(head)] = true;
            self.by_head.entry(head).or_default().push(self.all.len());
            self.all.push(Needle { secret: before + secret, name, form, bytes });
        }
    }

    fn push(&mut self, name: &str, form: &'static str, bytes: Vec<u8>) {
        let head = head(&bytes);
        self.filter[hash(head)] = true;
        self.by_head.entry(head).or_default().push(self.all.len());
        self.all.push(Needle { secret: self.secrets, name: name.to_owned(), form, bytes });
    }

    /// Looks through `haystack`. `place` is its name.
    pub(super) fn find(&self, haystack: &[u8], place: &str, finds: &mut Finds) {
        let mut head = 0;
        for (end, byte) in (1_usize..).zip(haystack) {
            head = head << 8 | u64::from(*byte);
            if end < HEAD || !self.filter[hash(head)] {
                continue;
            }
            let candidates = self.by_head.get(&head).into_iter().flatten().map(|number| &self.all[*number]);
            for needle in candidates.filter(|needle| haystack[end - HEAD..].starts_with(&needle.bytes)) {
                finds.add(needle, place);
            }
        }
    }
}

fn head(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(*bytes.first_chunk::<HEAD>().unwrap())
}

fn hash(head: u64) -> usize {
    let mixed = head.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - FILTER_BITS);
    usize::try_from(mixed).unwrap()
}

/// Returns the texts in which a program may write bytes.
fn texts(secret: &[u8]) -> Vec<(&'static str, String)> {
    let mut texts = vec![
        ("hex", base16ct::lower::encode_string(secret)),
        ("upper-case hex", base16ct::upper::encode_string(secret)),
        ("list of numbers", format!("{secret:?}").trim_matches(['[', ']']).to_owned()),
    ];
    for before in 0..3 {
        texts.push(("base64", inside_base64::<Base64Unpadded>(secret, before)));
        texts.push(("base64url", inside_base64::<Base64UrlUnpadded>(secret, before)));
    }
    texts
}

/// Returns the digits that depend on `secret` alone, if `before` bytes come before it and any bytes after it.
fn inside_base64<E: Encoding>(secret: &[u8], before: usize) -> String {
    let text = E::encode_string(&[&vec![0; before], secret].concat());
    let (first, end) = ((before * 8).div_ceil(6), (before + secret.len()) * 8 / 6);
    text[first..end].to_owned()
}

impl Finds {
    fn add(&mut self, needle: &Needle, place: &str) {
        let what = (needle.name.clone(), needle.form, place.to_owned());
        self.0.entry(what).or_default().insert(needle.secret);
    }

    /// Removes all needles except those with these names.
    pub(super) fn keep(&mut self, names: &[&str]) {
        self.0.retain(|(name, ..), _| names.contains(&name.as_str()));
    }

    /// Returns all finds except those with these names.
    pub(super) fn without(mut self, names: &[&str]) -> Self {
        self.0.retain(|(name, ..), _| !names.contains(&name.as_str()));
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the number of secrets of this name that were found in any place.
    pub(super) fn of(&self, name: &str) -> usize {
        let found = self.0.iter().filter(|((of, ..), _)| of == name);
        found.flat_map(|(_, secrets)| secrets).collect::<BTreeSet<_>>().len()
    }
}

/// Prints a line for each name, form and place, and never a secret.
impl fmt::Debug for Finds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for ((name, form, place), secrets) in &self.0 {
            write!(f, "\n{} × {name}, {form}, in {place}", secrets.len())?;
        }
        Ok(())
    }
}

#[test]
fn every_form_is_found_wherever_it_stands() {
    let secret: [u8; 32] = std::array::from_fn(|at| u8::try_from(200 - at * 5).unwrap());
    let mut needles = Needles::default();
    needles.add("secret", &secret);
    let found = |haystack: &[u8], form: &str| {
        let mut finds = Finds::default();
        needles.find(haystack, "haystack", &mut finds);
        format!("{finds:?}").contains(&format!("1 × secret, {form}, in haystack"))
    };
    assert!(found(&[b"x", &secret[8..16]].concat(), "raw"));
    assert!(found(base16ct::lower::encode_string(&secret).as_bytes(), "hex"));
    assert!(found(base16ct::upper::encode_string(&secret).as_bytes(), "upper-case hex"));
    assert!(found(format!("Request {{ plaintext: {secret:?} }}").as_bytes(), "list of numbers"));
    for before in 0..3 {
        let message = [&b"ab"[..before], &secret, b"and more"].concat();
        assert!(found(base64ct::Base64::encode_string(&message).as_bytes(), "base64"), "{before}");
        assert!(found(base64ct::Base64Url::encode_string(&message).as_bytes(), "base64url"), "{before}");
    }
    assert!(!found(&secret[1..8], "raw") && !found(&[0; 99], "raw"));
}
