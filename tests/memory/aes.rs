//! Computes what AES-256 and XAES-256-GCM derive from a key and keep in memory: round keys, and the key of each
//! message.
//!
//! From two consecutive round keys, the whole key can be computed. Source: FIPS 197, section 5.2;
//! <https://c2sp.org/XAES-256-GCM>.

use xaes_256_gcm::aes::{
    Aes256,
    cipher::{BlockCipherEncrypt, KeyInit},
};

pub(super) type Block = [u8; 16];

/// Returns the round keys of `key` for encryption and decryption, without the first two, which are the key itself.
pub(super) fn round_keys(key: &[u8; 32]) -> Vec<Block> {
    let forward = expand(key);
    let backward = forward[1..14].iter().map(inverse_mix_columns);
    forward[2..].iter().copied().chain(backward).collect()
}

fn expand(key: &[u8; 32]) -> Vec<Block> {
    let mut words: Vec<[u8; 4]> = key.as_chunks().0.to_vec();
    let mut round_constant = 1;
    for at in 8..60 {
        let mut word = words[at - 1];
        if at % 8 == 0 {
            word.rotate_left(1);
            word = word.map(substitute);
            word[0] ^= round_constant;
            round_constant = times(round_constant, 2);
        } else if at % 8 == 4 {
            word = word.map(substitute);
        }
        let before = words[at - 8];
        words.push(std::array::from_fn(|byte| word[byte] ^ before[byte]));
    }
    words.as_flattened().as_chunks().0.to_vec()
}

fn inverse_mix_columns(block: &Block) -> Block {
    std::array::from_fn(|at| {
        let column = &block[at / 4 * 4..][..4];
        [14, 11, 13, 9]
            .into_iter()
            .enumerate()
            .fold(0, |sum, (step, factor)| sum ^ times(column[(at + step) % 4], factor))
    })
}

/// Returns the S-box: the inverse in the field, then the affine map.
fn substitute(byte: u8) -> u8 {
    let inverse = (0..254).fold(1, |power, _| times(power, byte));
    (0..5).fold(0x63, |sum, turn| sum ^ inverse.rotate_left(turn))
}

/// Multiplies in the field of AES.
fn times(mut a: u8, mut b: u8) -> u8 {
    let mut product = 0;
    while b > 0 {
        product ^= a * (b & 1);
        a = (a << 1) ^ ((a >> 7) * 0x1b);
        b >>= 1;
    }
    product
}

/// Computes the keys under which XAES-256-GCM encrypts single messages.
pub(super) struct MessageKeys {
    aes: Aes256,
    subkey: u128,
}

impl MessageKeys {
    pub(super) fn of(key: &[u8; 32]) -> Self {
        let aes = Aes256::new(key.into());
        let image = u128::from_be_bytes(encrypt(&aes, [0; 16]));
        Self { aes, subkey: (image << 1) ^ ((image >> 127) * 0b1000_0111) }
    }

    /// Returns the key of the message whose nonce this is.
    pub(super) fn of_nonce(&self, nonce: &[u8; 24]) -> [u8; 32] {
        let half = |counter| {
            let input = [&[0, counter, b'X', 0], &nonce[..12]].concat();
            let input = u128::from_be_bytes(input.try_into().unwrap());
            encrypt(&self.aes, (input ^ self.subkey).to_be_bytes())
        };
        [half(1), half(2)].concat().try_into().unwrap()
    }
}

fn encrypt(aes: &Aes256, block: Block) -> Block {
    let mut block = block.into();
    aes.encrypt_block(&mut block);
    block.into()
}

#[test]
fn round_keys_are_those_of_fips_197() {
    let hex = |text| base16ct::lower::decode_vec(text).unwrap();
    let key = hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4").try_into().unwrap();
    let keys = expand(&key);
    assert_eq!(keys.len(), 15);
    assert_eq!(keys[2].to_vec(), hex("9ba354118e6925afa51a8b5f2067fcde"));
    assert_eq!(keys[14].to_vec(), hex("fe4890d1e6188d0b046df344706c631e"));
    let column = hex("8e4da1bc9fdc589d01010101c6c6c6c6").try_into().unwrap();
    assert_eq!(inverse_mix_columns(&column).to_vec(), hex("db135345f20a225c01010101c6c6c6c6"));
}

#[test]
fn message_keys_open_what_was_sealed() {
    use xaes_256_gcm::{Xaes256Gcm, aead::Aead};
    let (key, nonce) = ([7; 32], [9; 24]);
    let sealed = Xaes256Gcm::new(&key.into()).encrypt(&nonce.into(), &b"seed"[..]).unwrap();
    let sealed = [&nonce[12..], &sealed].concat();
    assert_eq!(crate::oracle::aes_gcm(&MessageKeys::of(&key).of_nonce(&nonce), &sealed, &[]), b"seed");
}
