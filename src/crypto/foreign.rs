//! The ciphers with which kube-apiserver encrypts values. claviger opens such values, and never makes one.
//!
//! | provider | stored | cipher |
//! |---|---|---|
//! | KMS, `aesgcm` | `nonce12`, ciphertext, `tag16` | AES-GCM; the associated data is the key in etcd |
//! | `aescbc` | `iv16`, whole blocks | AES-CBC, PKCS #7; not authenticated |
//! | `secretbox` | `nonce24`, `tag16`, ciphertext | XSalsa20-Poly1305 |
//!
//! Source: NIST SP 800-38A and 800-38D; NaCl's `crypto_secretbox`; `k8s.io/apiserver`, `pkg/storage/value/encrypt`.

use aes::{Aes128, Aes192, Aes256};
use aes_gcm::{
    Aes128Gcm, Aes256Gcm, AesGcm, Nonce, Tag,
    aead::{
        AeadInOut, KeyInit,
        consts::{U12, U16},
    },
};
use cbc::{
    Decryptor,
    cipher::{BlockModeDecrypt, KeyIvInit, block_padding::Pkcs7},
};
use crypto_secretbox::{XSalsa20Poly1305, aead::AeadInPlace as _};
use zeroize::Zeroizing;

use super::kdf::hmac_sha256;
use crate::memory::without_traces;

const GCM_NONCE: usize = 12;
const CBC_IV: usize = 16;
const BOX_NONCE: usize = 24;
const TAG: usize = 16;

/// The length in bytes of the random `info` from which kube-apiserver derives the key of one object.
pub const INFO: usize = 32;

/// The value does not open: the key, the associated data or the bytes differ from those of the encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotOpened;

/// The key of a foreign cipher.
#[derive(Clone, Copy)]
pub struct ForeignKey<'k>(&'k [u8]);

type OpenedValueBytes = Result<Zeroizing<Vec<u8>>, NotOpened>;

impl<'k> ForeignKey<'k> {
    /// Borrows the bytes of a key, without a copy.
    pub fn new(bytes: &'k [u8]) -> Self {
        Self(bytes)
    }

    /// Opens AES-GCM under a key of 16, 24 or 32 bytes.
    ///
    /// # Errors
    /// When the key has another length, or the key, the associated data or the bytes are others.
    pub fn open_gcm(self, sealed: &[u8], aad: &[u8]) -> OpenedValueBytes {
        match self.0.len() {
            16 => gcm::<Aes128Gcm>(self.0, sealed, aad),
            24 => gcm::<AesGcm<Aes192, U12>>(self.0, sealed, aad),
            32 => gcm::<Aes256Gcm>(self.0, sealed, aad),
            _ => Err(NotOpened),
        }
    }

    /// Opens AES-256-GCM under the key of one object: `HMAC-SHA-256(seed, info | 01)`, where this key is the seed.
    /// Source: `k8s.io/apiserver`, `encrypt/aes/aes_extended_nonce.go`.
    ///
    /// # Errors
    /// When the seed, the associated data or the bytes are others.
    pub fn open_derived(self, info: &[u8; INFO], sealed: &[u8], aad: &[u8]) -> OpenedValueBytes {
        let key = Zeroizing::new(hmac_sha256(self.0, &[info, &[1]]));
        ForeignKey(&*key).open_gcm(sealed, aad)
    }

    /// Opens AES-CBC under a key of 16, 24 or 32 bytes. It is not authenticated: with a wrong key, about one attempt in
    /// 256 returns wrong bytes and not an error.
    ///
    /// # Errors
    /// When the key has another length, or the bytes do not end in padding.
    pub fn open_cbc(self, sealed: &[u8]) -> OpenedValueBytes {
        match self.0.len() {
            16 => cbc::<Decryptor<Aes128>>(self.0, sealed),
            24 => cbc::<Decryptor<Aes192>>(self.0, sealed),
            32 => cbc::<Decryptor<Aes256>>(self.0, sealed),
            _ => Err(NotOpened),
        }
    }

    /// Opens a secretbox under a key of 32 bytes.
    ///
    /// # Errors
    /// When the key has another length, or the key or the bytes are others.
    pub fn open_secretbox(self, sealed: &[u8]) -> OpenedValueBytes {
        secretbox(self.0, sealed)
    }
}

fn gcm<Cipher>(key: &[u8], sealed: &[u8], aad: &[u8]) -> OpenedValueBytes
where
    Cipher: KeyInit + AeadInOut<NonceSize = U12, TagSize = U16>,
{
    let (nonce, rest) = sealed.split_first_chunk::<GCM_NONCE>().ok_or(NotOpened)?;
    let (body, tag) = rest.split_last_chunk::<TAG>().ok_or(NotOpened)?;
    let mut plaintext = Zeroizing::new(body.to_vec());
    let (nonce, tag) = (Nonce::from(*nonce), Tag::from(*tag));
    without_traces(|| {
        let cipher = Cipher::new_from_slice(key).map_err(|_| NotOpened)?;
        let opened = cipher.decrypt_inout_detached(&nonce, aad, plaintext.as_mut_slice().into(), &tag);
        opened.map_err(|_| NotOpened)
    })?;
    Ok(plaintext)
}

fn cbc<Cipher: KeyIvInit + BlockModeDecrypt>(key: &[u8], sealed: &[u8]) -> OpenedValueBytes {
    let (iv, blocks) = sealed.split_at_checked(CBC_IV).ok_or(NotOpened)?;
    let mut plaintext = Zeroizing::new(blocks.to_vec());
    let length = without_traces(|| {
        let cipher = Cipher::new_from_slices(key, iv).map_err(|_| NotOpened)?;
        cipher.decrypt_padded::<Pkcs7>(&mut plaintext).map(<[u8]>::len).map_err(|_| NotOpened)
    })?;
    plaintext.truncate(length);
    Ok(plaintext)
}

fn secretbox(key: &[u8], sealed: &[u8]) -> OpenedValueBytes {
    use crypto_secretbox::KeyInit;

    let (nonce, rest) = sealed.split_first_chunk::<BOX_NONCE>().ok_or(NotOpened)?;
    let (tag, body) = rest.split_first_chunk::<TAG>().ok_or(NotOpened)?;
    let mut plaintext = Zeroizing::new(body.to_vec());
    without_traces(|| {
        let cipher = XSalsa20Poly1305::new_from_slice(key).map_err(|_| NotOpened)?;
        let opened = cipher.decrypt_in_place_detached(&(*nonce).into(), &[], &mut plaintext, &(*tag).into());
        opened.map_err(|_| NotOpened)
    })?;
    Ok(plaintext)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test cases 4, 10 and 16 of "The Galois/Counter Mode of Operation" by McGrew and Viega: keys of 16, 24 and 32
    /// bytes with one nonce, one plaintext and one AAD.
    const KEY: &str = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308";
    const NONCE_OF_ALL: &str = "cafebabefacedbaddecaf888";
    const AAD: &str = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
    const PLAINTEXT: &str = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";
    const SEALED: [(usize, &str, &str); 3] = [
        (
            16,
            "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091",
            "5bc94fbc3221a5db94fae95ae7121a47",
        ),
        (
            24,
            "3980ca0b3c00e841eb06fac4872a2757859e1ceaa6efd984628593b40ca1e19c7d773d00c144c525ac619d18c84a3f4718e2448b2fe324d9ccda2710",
            "2519498e80f1478f37ba55bd6d27618c",
        ),
        (
            32,
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662",
            "76fc6ece0f4e1768cddf8853bb2d551b",
        ),
    ];

    fn open_gcm(key: &[u8], sealed: &[u8], aad: &[u8]) -> OpenedValueBytes {
        ForeignKey::new(key).open_gcm(sealed, aad)
    }

    fn open_cbc(key: &[u8], sealed: &[u8]) -> OpenedValueBytes {
        ForeignKey::new(key).open_cbc(sealed)
    }

    fn open_secretbox(key: &[u8], sealed: &[u8]) -> OpenedValueBytes {
        ForeignKey::new(key).open_secretbox(sealed)
    }

    fn unhex(text: &str) -> Vec<u8> {
        base16ct::lower::decode_vec(text).unwrap()
    }

    #[test]
    fn the_published_cases_open_and_no_changed_byte_does() {
        let (key, aad) = (unhex(KEY), unhex(AAD));
        for (length, body, tag) in SEALED {
            let sealed = unhex(&[NONCE_OF_ALL, body, tag].concat());
            assert_eq!(*open_gcm(&key[..length], &sealed, &aad).unwrap(), unhex(PLAINTEXT), "{length}");
            for at in 0..sealed.len() {
                let mut changed = sealed.clone();
                changed[at] ^= 1;
                assert_eq!(open_gcm(&key[..length], &changed, &aad), Err(NotOpened), "byte {at}");
            }
            assert_eq!(open_gcm(&key[..length], &sealed, &aad[1..]), Err(NotOpened));
            assert_eq!(open_gcm(&key[..length], &sealed[..27], &aad), Err(NotOpened));
            assert_eq!(open_gcm(&key[..length - 1], &sealed, &aad), Err(NotOpened));
        }
    }

    /// NIST SP 800-38A, F.2.2, F.2.4 and F.2.6, followed by a block of padding that OpenSSL computed.
    #[test]
    fn cbc_opens_what_nist_published() {
        let plaintext = unhex("6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51");
        let iv = "000102030405060708090a0b0c0d0e0f";
        for (key, blocks) in [
            ("2b7e151628aed2a6abf7158809cf4f3c", "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"),
            (
                "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
                "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a",
            ),
            (
                "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
                "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d",
            ),
        ] {
            // Without the padding block, the reader takes the end of the plaintext for padding and refuses it.
            let sealed = unhex(&[iv, blocks].concat());
            assert_eq!(open_cbc(&unhex(key), &sealed), Err(NotOpened), "{key}");
            let padded = padded_cbc(&unhex(key), &unhex(iv), &plaintext);
            assert_eq!(padded[..sealed.len()], sealed, "{key}");
            assert_eq!(*open_cbc(&unhex(key), &padded).unwrap(), plaintext, "{key}");
            assert_eq!(open_cbc(&unhex(key)[1..], &padded), Err(NotOpened));
            assert_eq!(open_cbc(&unhex(key), &padded[..padded.len() - 1]), Err(NotOpened));
            assert_eq!(open_cbc(&unhex(key), &padded[..CBC_IV]), Err(NotOpened));
        }
    }

    fn padded_cbc(key: &[u8], iv: &[u8], plaintext: &[u8]) -> Vec<u8> {
        use cbc::{Encryptor, cipher::BlockModeEncrypt};
        let mut bytes = [plaintext, &[0; 16]].concat();
        let length = plaintext.len();
        match key.len() {
            16 => Encryptor::<Aes128>::new_from_slices(key, iv).unwrap().encrypt_padded::<Pkcs7>(&mut bytes, length),
            24 => Encryptor::<Aes192>::new_from_slices(key, iv).unwrap().encrypt_padded::<Pkcs7>(&mut bytes, length),
            _ => Encryptor::<Aes256>::new_from_slices(key, iv).unwrap().encrypt_padded::<Pkcs7>(&mut bytes, length),
        }
        .unwrap();
        [iv, &bytes].concat()
    }

    /// The example of "Cryptography in NaCl" by Bernstein, section 10.
    #[test]
    fn a_secretbox_opens_as_nacl_published_it_and_with_no_byte_changed() {
        let key = unhex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389");
        let sealed = unhex(concat!(
            "69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37",
            "f3ffc7703f9400e52a7dfb4b3d3305d9",
            "8e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0dfc17c98dce87b4da7f011ec48c97271",
            "d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da9983",
            "2b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5",
        ));
        let plaintext = open_secretbox(&key, &sealed).unwrap();
        assert_eq!(plaintext[..8], unhex("be075fc53c81f2d5"));
        assert_eq!(plaintext.len(), 131);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(open_secretbox(&key, &changed), Err(NotOpened), "byte {at}");
        }
        assert_eq!(open_secretbox(&key[1..], &sealed), Err(NotOpened));
        assert_eq!(open_secretbox(&key, &sealed[..39]), Err(NotOpened));
    }
}
