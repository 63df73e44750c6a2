//! Shares of a recovery identity: any k of n give it back, and fewer reveal nothing about it.
//!
//! Each of the identity's 32 bytes is split by Shamir's scheme over GF(256). A share is one line of Bech32m, which can
//! be written on paper: its checksum finds up to four wrong characters. The line contains the name of the set, the
//! threshold, the number of the share, and a check of the identity. The check detects shares that do not belong
//! together, so a wrong identity is never returned. Source: `docs/formats.md`, "share"; BIP 173 and 350; A. Shamir, How
//! to share a secret (1979).

use age::secrecy::ExposeSecret;
use bech32::{Bech32m, Hrp, primitives::decode::CheckedHrpstring};
use rand::{TryCryptoRng, rand_core::UnwrapErr};
use vsss_rs::Gf256;
use zeroize::Zeroizing;

use super::line::{bare, is_share};
use crate::{
    crypto::{Digest, kdf::SHARE_LABEL},
    memory::{RandomError, fill_random},
};

/// The greatest number of shares of one identity.
pub const SHARES_MAX: u8 = 32;

const HRP: Hrp = Hrp::parse_unchecked("claviger-share");
const IDENTITY_HRP: &str = "age-secret-key-";
const SECRET: usize = 32;
const SET: usize = 4;
const CHECK: usize = 4;
/// The length of a share in bytes: set, check, threshold, number, and one byte for each byte of the identity.
const LENGTH: usize = SET + CHECK + 2 + SECRET;

/// The name of a set of shares, as hexadecimal digits.
pub type SetName = String;

/// One share of an identity. It has no `Debug`, so that nothing prints it.
pub struct Share {
    set: [u8; SET],
    check: [u8; CHECK],
    threshold: u8,
    number: u8,
    bytes: Zeroizing<[u8; SECRET]>,
}

/// Why shares do not give an identity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CombineError {
    /// A character of a share is wrong or missing.
    #[error("a share is damaged: a character in line {0} is wrong, or some are missing")]
    Damaged(usize),
    /// There are fewer shares than the threshold.
    #[error("too few shares of set {set}: found {found}, expected {threshold}")]
    TooFew {
        /// The name of the set of shares.
        set: SetName,
        /// The number of shares that were given.
        found: usize,
        /// The number of shares that are needed.
        threshold: u8,
    },
    /// The shares belong to several sets.
    #[error("shares of different sets: {}", .0.join(", "))]
    Mixed(Vec<SetName>),
    /// The share with this number was given twice.
    #[error("share {0} was given twice")]
    Twice(u8),
    /// The shares name one set, but do not combine to the identity that was split.
    #[error("the shares of set {0} do not belong together: they do not give the identity that was split")]
    Other(SetName),
}

/// Why an identity was not split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SplitError {
    /// The number of shares or the threshold is out of range.
    #[error(
        "{shares} shares with a threshold of {threshold}: expected 2 to {SHARES_MAX} shares, and a threshold from 2 to their number"
    )]
    Counts {
        /// The number of shares to make.
        shares: u8,
        /// The number of shares that give the identity back.
        threshold: u8,
    },
    /// The file contains no identity, or more than one.
    #[error("expected exactly one age identity to split")]
    Identity,
    /// The random source of the system failed.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl Share {
    /// Returns the name of the set that the share belongs to.
    pub fn set(&self) -> SetName {
        base16ct::lower::encode_string(&self.set)
    }

    /// Returns the number of the share in its set, from 1.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// Returns the line of this share, as it is written on paper: upper case, in groups of five characters.
    pub fn line(&self) -> Zeroizing<String> {
        const GROUP: usize = 5;
        let mut payload = Zeroizing::new(Vec::with_capacity(LENGTH));
        payload.extend(self.set);
        payload.extend(self.check);
        payload.extend([self.threshold, self.number]);
        payload.extend(*self.bytes);
        let Ok(text) = bech32::encode_upper::<Bech32m>(HRP, &payload).map(Zeroizing::new) else {
            unreachable!("its length is that of every share")
        };
        let (prefix, rest) = text.split_at(HRP.len() + 1);
        let mut line = Zeroizing::new(String::with_capacity(2 * text.len()));
        line.push_str(prefix);
        for (index, character) in rest.chars().enumerate() {
            if index % GROUP == 0 {
                line.push(' ');
            }
            line.push(character);
        }
        line
    }

    /// Reads one line of a file. `number` is the number of the line, for the error.
    ///
    /// # Errors
    /// When a character is wrong or missing.
    pub fn parse(line: &str, number: usize) -> Result<Self, CombineError> {
        let damaged = || CombineError::Damaged(number);
        let mut text = Zeroizing::new(String::with_capacity(line.len()));
        text.extend(line.chars().filter(|character| !character.is_whitespace()).map(|c| c.to_ascii_lowercase()));
        let checked = CheckedHrpstring::new::<Bech32m>(&text).map_err(|_| damaged())?;
        let mut payload = Zeroizing::new(Vec::with_capacity(LENGTH + 1));
        payload.extend(checked.byte_iter().take(LENGTH + 1));
        if checked.hrp() != HRP || payload.len() != LENGTH {
            return Err(damaged());
        }
        let (mut set, mut check) = ([0; SET], [0; CHECK]);
        set.copy_from_slice(&payload[..SET]);
        check.copy_from_slice(&payload[SET..SET + CHECK]);
        let (threshold, number) = (payload[SET + CHECK], payload[SET + CHECK + 1]);
        let mut bytes = Zeroizing::new([0; SECRET]);
        bytes.copy_from_slice(&payload[LENGTH - SECRET..]);
        if !(2..=SHARES_MAX).contains(&threshold) || !(1..=SHARES_MAX).contains(&number) {
            return Err(damaged());
        }
        Ok(Self { set, check, threshold, number, bytes })
    }
}

/// Reads all shares among the lines of `text`.
///
/// # Errors
/// When a character of a share is wrong or missing.
pub fn shares_in(text: &str) -> Result<Vec<Share>, CombineError> {
    let meant = text.lines().map(bare).enumerate().filter(|(_, line)| is_share(line));
    meant.map(|(index, line)| Share::parse(line, index + 1)).collect()
}

/// Splits `identity` into `shares`, any `threshold` of which give it back.
///
/// # Errors
/// When the counts make no sense, or the random source fails.
pub fn split(
    rng: &mut impl TryCryptoRng,
    identity: &age::x25519::Identity,
    threshold: u8,
    shares: u8,
) -> Result<Vec<Share>, SplitError> {
    let counts = SplitError::Counts { shares, threshold };
    if threshold < 2 || threshold > shares || shares > SHARES_MAX {
        return Err(counts);
    }
    let mut set = [0; SET];
    fill_random(rng, &mut set)?;
    let secret = secret_of(identity)?;
    let check = check_of(identity);
    // The library wants a random source that never fails. This one has just worked.
    let points = Gf256::split_bytes(threshold.into(), shares.into(), secret.as_slice(), UnwrapErr(rng));
    let points = points.map_err(|_| counts)?;
    let points = points.into_iter().map(Zeroizing::new);
    let share = |point: Zeroizing<Vec<u8>>| {
        let (number, rest) = point.split_first()?;
        let bytes = Zeroizing::new(<[u8; SECRET]>::try_from(rest).ok()?);
        Some(Share { set, check, threshold, number: *number, bytes })
    };
    points.map(share).collect::<Option<_>>().ok_or(SplitError::Identity)
}

/// Returns the identity that was split into `shares`, or `None` if there are no shares.
///
/// # Errors
/// When there are too few of them, they belong to several sets, one of them occurs twice, or they do not belong
/// together.
pub fn combine(shares: &[Share]) -> Result<Option<age::x25519::Identity>, CombineError> {
    let Some(first) = shares.first() else { return Ok(None) };
    check_together(first, shares)?;
    let point = |share: &Share| [&[share.number][..], &*share.bytes].concat();
    let points: Zeroizing<Vec<Vec<u8>>> = Zeroizing::new(shares.iter().map(point).collect());
    let secret = Gf256::combine_bytes(points.as_slice()).map(Zeroizing::new);
    let identity =
        secret.ok().and_then(|secret| identity_of(&secret)).filter(|identity| check_of(identity) == first.check);
    identity.map(Some).ok_or_else(|| CombineError::Other(first.set()))
}

/// Checks that `shares`, the first of which is `first`, can belong together, and that there are enough of them.
fn check_together(first: &Share, shares: &[Share]) -> Result<(), CombineError> {
    let mut sets: Vec<SetName> = shares.iter().map(Share::set).collect();
    sets.sort();
    sets.dedup();
    if sets.len() > 1 {
        return Err(CombineError::Mixed(sets));
    }
    let set = first.set();
    let is_alike = |share: &Share| (share.check, share.threshold) == (first.check, first.threshold);
    if !shares.iter().all(is_alike) {
        return Err(CombineError::Other(set));
    }
    for (index, share) in shares.iter().enumerate() {
        if shares[..index].iter().any(|other| other.number == share.number) {
            return Err(CombineError::Twice(share.number));
        }
    }
    let threshold = first.threshold;
    if shares.len() < threshold.into() {
        return Err(CombineError::TooFew { set, found: shares.len(), threshold });
    }
    Ok(())
}

/// Returns the check value of an identity. It is not secret: it is computed from the recipient.
fn check_of(identity: &age::x25519::Identity) -> [u8; CHECK] {
    let digest = Digest::of(format!("{SHARE_LABEL} {}", identity.to_public()).as_bytes());
    let mut check = [0; CHECK];
    check.copy_from_slice(&digest.0[..CHECK]);
    check
}

/// Returns the bytes of an identity, decoded from its text: age has no other way to read them.
fn secret_of(identity: &age::x25519::Identity) -> Result<Zeroizing<[u8; SECRET]>, SplitError> {
    let text = identity.to_string();
    let (_, bytes) = bech32::decode(text.expose_secret()).map_err(|_| SplitError::Identity)?;
    let bytes = Zeroizing::new(bytes);
    Ok(Zeroizing::new(bytes.as_slice().try_into().map_err(|_| SplitError::Identity)?))
}

fn identity_of(secret: &[u8]) -> Option<age::x25519::Identity> {
    let hrp = Hrp::parse(IDENTITY_HRP).ok()?;
    let text = Zeroizing::new(bech32::encode_upper::<bech32::Bech32>(hrp, secret).ok()?);
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use age::x25519::Identity;
    use proptest::prelude::*;
    use rand::rngs::SysRng;

    use super::*;

    fn again(shares: &[&Share]) -> Result<Identity, CombineError> {
        let read: Vec<Share> = shares.iter().map(|share| Share::parse(&share.line(), 1).unwrap()).collect();
        combine(&read).map(Option::unwrap)
    }

    /// Returns every subset of `shares` that has `count` elements.
    fn choices(shares: &[Share], count: u32) -> Vec<Vec<&Share>> {
        let is_chosen = |mask: u32, index: usize| mask >> index & 1 == 1;
        let masks = (0..1_u32 << shares.len()).filter(|mask| mask.count_ones() == count);
        masks
            .map(|mask| (0..shares.len()).filter(|index| is_chosen(mask, *index)).map(|index| &shares[index]).collect())
            .collect()
    }

    #[test]
    fn any_that_suffice_give_the_identity_back_and_one_fewer_is_refused() {
        for (threshold, count) in [(2, 2), (2, 3), (3, 5), (4, 6), (7, 7)] {
            let identity = Identity::generate();
            let shares = split(&mut SysRng, &identity, threshold, count).unwrap();
            assert_eq!(shares.iter().map(Share::number).collect::<Vec<_>>(), (1..=count).collect::<Vec<_>>());
            for chosen in choices(&shares, threshold.into()) {
                assert_eq!(again(&chosen).unwrap().to_public().to_string(), identity.to_public().to_string());
            }
            for chosen in choices(&shares, u32::from(threshold) - 1) {
                let found = usize::from(threshold) - 1;
                assert_eq!(again(&chosen).err(), Some(CombineError::TooFew { set: shares[0].set(), found, threshold }));
            }
            again(&shares.iter().collect::<Vec<_>>()).unwrap();
        }
        let identity = Identity::generate();
        for (threshold, count) in [(1, 3), (0, 0), (4, 3), (2, 33), (2, 1)] {
            assert!(matches!(split(&mut SysRng, &identity, threshold, count), Err(SplitError::Counts { .. })));
        }
        split(&mut SysRng, &identity, 32, 32).unwrap();
    }

    #[test]
    fn shares_that_do_not_belong_together_are_refused_by_name() {
        let identity = Identity::generate();
        let ours = split(&mut SysRng, &identity, 2, 3).unwrap();
        let others = split(&mut SysRng, &identity, 2, 3).unwrap();
        let mixed = again(&[&ours[0], &others[1]]).err().unwrap();
        assert!(matches!(&mixed, CombineError::Mixed(sets) if sets.len() == 2), "{mixed}");
        assert_eq!(again(&[&ours[1], &ours[1]]).err(), Some(CombineError::Twice(2)));
        // Somebody who knows the name of the set forges a share.
        let bytes = Zeroizing::new(*others[1].bytes);
        let forged = Share { set: ours[1].set, check: ours[1].check, threshold: 2, number: 2, bytes };
        let refused = again(&[&ours[0], &forged]).err().unwrap();
        assert_eq!(refused, CombineError::Other(ours[0].set()));
        let set = ours[0].set();
        let expected =
            format!("the shares of set {set} do not belong together: they do not give the identity that was split");
        assert_eq!(refused.to_string(), expected);
        let other = Share { threshold: 3, ..Share::parse(&ours[2].line(), 1).unwrap() };
        assert_eq!(again(&[&ours[0], &other]).err(), Some(CombineError::Other(ours[0].set())));
    }

    #[test]
    fn without_random_bytes_nothing_is_split() {
        let refused = split(&mut crate::memory::testing::Dry, &Identity::generate(), 2, 3).err().unwrap();
        assert_eq!(refused.to_string(), crate::memory::testing::no_random().to_string());
    }

    #[test]
    fn a_share_with_a_wrong_character_or_one_missing_is_refused_and_blanks_and_case_are_not() {
        let share = &split(&mut SysRng, &Identity::generate(), 2, 2).unwrap()[0];
        let line = share.line().to_string();
        assert!(line.len() < 120 && line.starts_with("CLAVIGER-SHARE1 "), "{line}");
        for spelt in [line.to_lowercase(), line.replace(' ', ""), line.replace(' ', "  \t"), format!("  {line}\r")] {
            assert!(is_share(&spelt));
            assert_eq!(Share::parse(&spelt, 1).unwrap().line(), share.line());
            assert_eq!(
                shares_in(&format!("\u{feff}{spelt}")).unwrap()[0].line(),
                share.line(),
                "after a byte order mark"
            );
        }
        let bare: Vec<char> = line.chars().filter(|character| *character != ' ').collect();
        for index in 0..bare.len() {
            let with = |change: &dyn Fn(&mut Vec<char>)| {
                let mut text = bare.clone();
                change(&mut text);
                text.iter().collect::<String>()
            };
            for other in "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L1OIB".chars().filter(|other| *other != bare[index]) {
                let changed = with(&|text| text[index] = other);
                assert_eq!(Share::parse(&changed, 7).err(), Some(CombineError::Damaged(7)), "{changed}");
            }
            assert!(Share::parse(&with(&|text| _ = text.remove(index)), 1).is_err());
            if index + 1 < bare.len() && bare[index] != bare[index + 1] {
                assert!(Share::parse(&with(&|text| text.swap(index, index + 1)), 1).is_err());
            }
        }
    }

    /// Splits one identity many times. Every byte of a share must have every value equally often, so that too few
    /// shares reveal nothing. A common mistake is a coefficient that is never zero: then a byte of a share never equals
    /// the byte of the identity.
    #[test]
    fn fewer_than_suffice_are_uniform() {
        const SPLITS: u32 = 25_600;
        let identity = Identity::generate();
        let mut counts = vec![vec![[0_u32; 256]; SECRET]; 2];
        for _ in 0..SPLITS {
            for (share, counts) in split(&mut SysRng, &identity, 2, 2).unwrap().iter().zip(&mut counts) {
                for (index, byte) in share.bytes.iter().enumerate() {
                    counts[index][usize::from(*byte)] += 1;
                }
            }
        }
        let expected = f64::from(SPLITS) / 256.0;
        for (index, counts) in counts.iter().flatten().enumerate() {
            // Chi-squared of 255 degrees of freedom: mean 255, deviation 22.6. A value above 430 has
            // a probability of 10^-10. There are 64 values.
            let chi: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
            assert!((130.0..430.0).contains(&chi), "index {index}: {chi}");
            // Each value occurs 100 times on average. The assertion fails if one value never occurs.
            assert!(counts.iter().all(|count| *count > 20), "index {index}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = Share::parse(&text, 1).map(|share| share.line());
            let _ = Share::parse(&format!("CLAVIGER-SHARE1{text}"), 1);
        }
    }
}
