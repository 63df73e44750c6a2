//! Writes and reads the reports of verifications, authenticated under the root key of a keyring.

use super::open::Opened;
use crate::{
    crypto::{RootId, RootName},
    proof::{ReadReportError, VerifyReport, WriteReportError},
};

impl Opened {
    /// Returns the id of the root key that reports are under. During a rekey this is the new one.
    pub fn report_root_id(&self) -> RootId {
        self.current.id(self.keyring.uuid())
    }

    /// Returns the bytes of a report, authenticated under the root key.
    ///
    /// # Errors
    /// When the report is too long, or no memory can be locked.
    pub fn write_report(&self, report: &VerifyReport) -> Result<Vec<u8>, WriteReportError> {
        report.encode(&self.current)
    }

    /// Reads a report of this keyring. A report under an earlier root key is refused: anyone who kept that key could
    /// have made it.
    ///
    /// # Errors
    /// When it is about another keyring or under another root key, or was changed or damaged.
    pub fn read_report(&self, bytes: &[u8]) -> Result<VerifyReport, ReadReportError> {
        let uuid = self.keyring.uuid();
        let RootName { uuid: found, root_id } = VerifyReport::root_name(bytes)?;
        let is_earlier = || matches!(self.root_file.old(root_id, &self.current), Ok(Some(_)));
        if found == uuid && root_id != self.report_root_id() && is_earlier() {
            return Err(ReadReportError::EarlierRootKey);
        }
        VerifyReport::decode(bytes, &self.current, uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keeper::{
            rekey,
            testing::{backup, opened, restored, rotate, set_up},
        },
        proof::{Comparison, KeyringNow, testing::report},
        root::Means,
    };

    /// A keyring restored from a backup of its newest record voids the reports from before.
    #[test]
    fn a_keyring_that_was_restored_without_any_change_voids_a_report() {
        let now = |opened: &Opened| {
            let keyring = &opened.keyring;
            let made = report(&opened.current, keyring.uuid());
            let (generation, record, restored) = (keyring.generation(), opened.digest, keyring.restored());
            VerifyReport { keyring: KeyringNow { generation, record, restored, ..made.keyring }, ..made }
        };
        let voided = |before: &VerifyReport, opened: &Opened| {
            let comparison = Comparison::new(before, &now(opened), opened.keyring.past());
            comparison.voided.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let (_keep, dir) = set_up();
        let before = opened(&dir);
        let made = now(&before);
        rotate(&dir);
        assert_eq!(voided(&made, &opened(&dir)), [""; 0], "a change by hand voids nothing");
        let made = now(&opened(&dir));
        let (_keep, dir) = restored(backup(&dir));
        let after = opened(&dir);
        assert!(after.keyring.past().names(made.keyring.generation, made.keyring.record), "it is a successor");
        let expected = "the keyring was restored or merged at generation 4, after the report, which names generation 3";
        assert_eq!(voided(&made, &after), [expected]);
        rotate(&dir);
        assert_eq!(voided(&made, &opened(&dir)), [expected], "also after a rotation");
        assert_eq!(voided(&now(&after), &opened(&dir)), [""; 0], "a report from after the restore counts");
    }

    #[test]
    fn a_report_is_read_under_the_root_key_that_made_it_and_refused_after_a_rekey() {
        let (_keep, dir) = set_up();
        let before = opened(&dir);
        let made = report(&before.current, before.keyring.uuid());
        let bytes = before.write_report(&made).unwrap();
        assert_eq!(before.read_report(&bytes).unwrap(), made);
        rekey(&dir, &Means::default()).unwrap();
        let after = opened(&dir);
        assert_ne!(after.report_root_id(), before.report_root_id());
        let refused = after.read_report(&bytes).unwrap_err().to_string();
        let expected =
            "the report is under a root key from before a rekey: anyone who kept that key could have made it";
        assert_eq!(refused, expected);
        let (_keep, stranger) = set_up();
        assert!(matches!(opened(&stranger).read_report(&bytes), Err(ReadReportError::OtherKeyring { .. })));
        assert!(matches!(after.read_report(b"nothing"), Err(ReadReportError::Text(_))));
    }
}
