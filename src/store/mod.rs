//! Where the keyring record is kept: a versioned blob with compare-and-swap. It knows nothing of keys.

mod file;

pub use self::file::{Copy, FileStore, KEYRING, KEYRING_PREV, LEDGER, MARK};
