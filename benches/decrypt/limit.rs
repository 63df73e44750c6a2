//! The limit: no program decrypts a file faster than the file can be read and passed through AES-GCM.

use std::{fs::File, num::NonZero, os::unix::fs::FileExt, path::Path, thread};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::harness::error::{Context, Error, Result};

/// The number of bytes that are read and encrypted at once.
const BLOCK: usize = 256 << 10;

/// Reads the file, and encrypts its bytes, each block once, on all cores. Encrypting and decrypting take the same time.
pub(crate) fn read_and_decrypt(path: &Path) -> Result<()> {
    let during = || format!("reading {}", path.display());
    let file = File::open(path).during(during)?;
    let length = file.metadata().during(during)?.len();
    let threads = thread::available_parallelism().map_or(1, NonZero::get) as u64;
    thread::scope(|scope| {
        let share = |number: u64| length * number / threads;
        let halves: Vec<_> = (0..threads)
            .map(|number| {
                scope.spawn({
                    let file = &file;
                    move || pass(file, share(number), share(number + 1))
                })
            })
            .collect();
        halves.into_iter().try_for_each(|half| half.join().map_err(|_| Error::new("a thread has panicked"))?)
    })
}

fn pass(file: &File, from: u64, to: u64) -> Result<()> {
    let refused = |_| Error::new("AES-GCM refused");
    let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).map_err(refused)?);
    let mut block = vec![0; BLOCK];
    let mut at = from;
    while at < to {
        let left = usize::try_from(to - at).unwrap_or(BLOCK);
        let wanted = &mut block[..left.min(BLOCK)];
        file.read_exact_at(wanted, at).during(|| "reading a block".to_owned())?;
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let _tag = key.seal_in_place_separate_tag(nonce, Aad::empty(), wanted).map_err(refused)?;
        at += wanted.len() as u64;
    }
    Ok(())
}
