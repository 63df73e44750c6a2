//! The bytes of a plan: the file `rotation`, authenticated under the root key. Source: `docs/formats.md`, "rotation".

use std::collections::BTreeSet;

use super::rotation::{Phase, PlanId, RotationPlan};
use crate::{
    crypto::{Digest, RootName, Uuid, kdf::MacLabel, root_key::RootKey},
    keyring::{key_id::KeyId, time::Time},
    memory::SecretError,
    text::{self, LineReader, LineWriter, TextError, base64, base64_array, hex_array},
};

/// The greatest length of the file in bytes.
pub const ROTATION_MAX: usize = 512 * 1024;
const KIND: &str = "rotation";
const COMPROMISE: &str = "compromise";

/// Why the plan of a rotation was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadPlanError {
    /// The grammar or the HMAC is wrong.
    #[error("the plan of the rotation: {0}")]
    Text(#[from] TextError),
    /// The plan belongs to another keyring.
    #[error("the plan of the rotation belongs to keyring {}, expected {}", found.to_hex(), expected.to_hex())]
    OtherKeyring {
        /// The uuid in the plan.
        found: Uuid,
        /// The uuid of the keyring here.
        expected: Uuid,
    },
    /// The plan is from before a rekey: it is under an earlier root key.
    #[error("the plan of the rotation is under another root key")]
    OtherRootKey,
    /// The contents are valid, but the encoder would have written other bytes.
    #[error("the plan of the rotation is not in its canonical form")]
    NotCanonical,
    /// No memory could be locked for the key that authenticates the plan.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

impl RotationPlan {
    /// Returns the bytes of the plan of keyring `uuid`, authenticated under `root`.
    ///
    /// # Errors
    /// When no memory can be locked.
    pub fn encode(&self, uuid: Uuid, root: &RootKey) -> Result<Vec<u8>, SecretError> {
        let mut writer = LineWriter::new(KIND);
        writer.owner(uuid);
        writer.root_id(root.id(uuid));
        writer.line(&format!("id {}", self.id));
        writer.line(&format!("phase {}", self.phase.as_str()));
        writer.line(&format!("since {}", self.since));
        writer.line(&format!("began {}", base64(&self.began.0)));
        writer.line(&format!("newest {}", self.newest));
        if self.is_compromise {
            writer.line(COMPROMISE);
        }
        if let Some(key) = self.key {
            writer.line(&format!("key {key}"));
        }
        if let Some(report) = self.report {
            writer.line(&format!("report {}", base64(&report.0)));
        }
        for key in &self.left {
            writer.line(&format!("-> left {}", base64(key)));
        }
        Ok(writer.finish(&root.mac(uuid, MacLabel::State)?))
    }

    /// Reads the plan of the keyring `expected` under `root`.
    ///
    /// # Errors
    /// When it is another keyring's or under another root key, or was changed or damaged.
    pub fn decode(bytes: &[u8], root: &RootKey, expected: Uuid) -> Result<Self, ReadPlanError> {
        let mut lines = LineReader::open(bytes, KIND, ROTATION_MAX)?;
        let RootName { uuid: found, root_id } = lines.root_name()?;
        if found != expected {
            return Err(ReadPlanError::OtherKeyring { found, expected });
        }
        if root_id != root.id(expected) {
            return Err(ReadPlanError::OtherRootKey);
        }
        text::authenticate(bytes, &root.mac(expected, MacLabel::State)?)?;
        let plan = read(&mut lines)?;
        if plan.encode(expected, root)? == bytes { Ok(plan) } else { Err(ReadPlanError::NotCanonical) }
    }
}

fn read(lines: &mut LineReader<'_>) -> Result<RotationPlan, TextError> {
    const PHASE: &str = "`phase prepare`, `promote`, `sweep` or `done`";
    let id = lines.field("id", "`id <32 hex>`", |text| hex_array(text).map(PlanId))?;
    let phase = lines.field("phase", PHASE, |word| Phase::ALL.into_iter().find(|phase| phase.as_str() == word))?;
    let since = lines.field("since", "`since <time>`", Time::parse)?;
    let began = lines.field("began", "`began <base64 SHA-256>`", |text| base64_array(text).map(Digest))?;
    let newest = lines.field("newest", "`newest <number>`, up to 2^31", text::seq)?;
    let is_compromise = optional(lines, COMPROMISE, "`compromise`", |rest| rest.is_empty().then_some(()))?.is_some();
    let key = optional(lines, "key ", "`key <key_id>`", |text| text.parse::<KeyId>().ok())?;
    let report = optional(lines, "report ", "`report <base64 SHA-256>`", |text| base64_array(text).map(Digest))?;
    let mut left = BTreeSet::new();
    while let Some(key) = optional(lines, "-> left ", "`-> left <base64 key>`", text::base64_bytes)? {
        left.insert(key);
    }
    lines.end()?;
    Ok(RotationPlan { id, phase, began, newest, is_compromise, key, left, since, report })
}

fn optional<T>(
    lines: &mut LineReader<'_>,
    prefix: &str,
    expected: &'static str,
    read: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, TextError> {
    lines.line_after(prefix).map(|text| read(text).ok_or_else(|| lines.wrong(expected))).transpose()
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::{
        super::rotation::{Aim, BeganAt},
        *,
    };
    use crate::keyring::testing::now;

    const UUID: Uuid = Uuid([7; 16]);

    fn text(root: &RootKey, change: impl FnOnce(&str) -> String) -> Vec<u8> {
        let left = BTreeSet::from([b"a".to_vec(), b"b".to_vec()]);
        let plan = RotationPlan::begin(
            PlanId([1; 16]),
            BeganAt { record: Digest([2; 32]), newest: 1 },
            Aim::NewKey,
            left,
            now(),
        );
        let bytes = plan.encode(UUID, root).unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let (lines, _) = text.split_once("---").unwrap();
        let mut writer = LineWriter::new("rotation");
        change(lines).lines().skip(1).for_each(|line| writer.line(line));
        writer.finish(&root.mac(UUID, MacLabel::State).unwrap())
    }

    #[test]
    fn no_forged_plan_is_read_even_under_a_valid_hmac() {
        let root = RootKey::generate(&mut SysRng).unwrap();
        let read = |change: &dyn Fn(&str) -> String| {
            RotationPlan::decode(&text(&root, change), &root, UUID).map_err(|error| error.to_string())
        };
        assert!(read(&ToOwned::to_owned).is_ok());
        let canonical = "the plan of the rotation is not in its canonical form";
        let unsorted = |lines: &str| lines.replace("YQ==", "x").replace("Yg==", "YQ==").replace('x', "Yg==");
        assert_eq!(read(&|lines| lines.replacen("-> left YQ==", "-> left Yg==", 1)).unwrap_err(), canonical, "twice");
        assert!(read(&unsorted).is_err());
        for (from, to, expected) in [
            ("phase prepare", "phase later", "`phase prepare`, `promote`, `sweep` or `done`"),
            ("id 01", "id 0", "`id <32 hex>`"),
            ("since ", "since 1", "`since <time>`"),
            ("began ", "began !", "`began <base64 SHA-256>`"),
            ("newest 1", "newest 01", "`newest <number>`, up to 2^31"),
            ("-> left YQ==", "compromise 1", "`compromise`"),
            ("-> left YQ==", "key k", "`key <key_id>`"),
            ("-> left YQ==", "report k", "`report <base64 SHA-256>`"),
            ("-> left YQ==", "-> left YQ", "`-> left <base64 key>`"),
        ] {
            let refused = read(&|lines| lines.replacen(from, to, 1)).unwrap_err();
            assert!(refused.ends_with(&format!("expected {expected}")), "{from} to {to}: {refused}");
        }
    }
}
