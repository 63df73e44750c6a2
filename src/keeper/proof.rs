//! Reports of verifications, under the root key of a keyring.

use super::open::Opened;
use crate::{
    crypto::RootId,
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

    /// Reads a report of this keyring. One under an earlier root key is refused: anyone who kept that key could have
    /// made it.
    ///
    /// # Errors
    /// When it is about another keyring or under another root key, or was changed or damaged.
    pub fn read_report(&self, bytes: &[u8]) -> Result<VerifyReport, ReadReportError> {
        let uuid = self.keyring.uuid();
        let (found, root_id) = VerifyReport::owner(bytes)?;
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
            testing::{opened, set_up},
        },
        proof::testing::report,
        root::Means,
    };

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
