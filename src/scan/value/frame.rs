//! The frame of a KMS v2 value: everything but its encrypted data. An API server writes many values under one seed, and
//! all of them have the same frame, so a scan parses the first of them and compares the others.

use super::{
    super::protobuf::Fields,
    body::{DATA, LEAST_UNDER_SEED},
    classify::{ENCRYPTED, Value},
};

/// The greatest length of a frame that is kept, in bytes. A value must not be able to fill the memory.
const FRAME_MAX: usize = 4096;

/// A KMS v2 value without its encrypted data.
#[derive(Debug, Clone)]
pub struct Frame {
    /// All bytes before the encrypted data, which is the first field.
    head: Box<[u8]>,
    /// All bytes after the encrypted data.
    tail: Box<[u8]>,
}

impl Frame {
    /// Takes the frame of `bytes`, which were classified as `value`. Returns `None` unless they are a whole KMS v2
    /// value in its usual form.
    pub fn of(bytes: &[u8], value: &Value<'_>) -> Option<Self> {
        value.key_id?;
        let (head, body) = bytes.split_at_checked(ENCRYPTED.len() + value.provider.len() + 1 + DATA.len())?;
        let mut fields = Fields(body);
        fields.bytes().filter(|_| head.ends_with(DATA))?;
        let tail = fields.0;
        let is_usual = head.len() + tail.len() <= FRAME_MAX && Fields(tail).all(|field| !matches!(field, Some((1, _))));
        is_usual.then(|| Self { head: head.into(), tail: tail.into() })
    }

    /// Whether `bytes` differ from this frame only in their encrypted data, so that they are classified in the same
    /// way.
    pub fn fits(&self, bytes: &[u8]) -> bool {
        let Some(data) = bytes.strip_prefix(&*self.head) else { return false };
        let mut fields = Fields(data);
        // The shortest possible data depends on the tail. Data of this length is always long enough.
        fields.bytes().is_some_and(|data| data.len() >= LEAST_UNDER_SEED) && *fields.0 == *self.tail
    }
}

#[cfg(test)]
mod tests {
    use proptest::{array::uniform2, prelude::*};

    use super::{
        super::{
            ValueDamage, classify,
            samples::{message, stored},
        },
        *,
    };

    proptest! {
        #[test]
        fn what_fits_a_frame_is_classified_alike(
            [one, other] in uniform2((0..80_usize, 0..3_usize, 0..3_u8, "[kl]{0,2}", 0..4_usize)),
        ) {
            let [one, other] = [one, other].map(|(data, seed, kind, key_id, more)| {
                let more = [&b""[..], b"\x22\x00", b"\x0a\x1d\x07\x07", b"\x0a\x01\x07"][more];
                stored("k8s:enc:kms:v2:p:", &[&message(data, &key_id, seed, kind), more].concat())
            });
            let (value, frame) = (classify(&one), Frame::of(&one, &classify(&one)));
            if frame.is_some_and(|frame| frame.fits(&other)) {
                prop_assert_eq!(classify(&other), value);
            }
        }
    }

    #[test]
    fn a_frame_fits_whatever_differs_in_its_data_alone() {
        let value = |data, key_id, seed, kind, prefix| stored(prefix, &message(data, key_id, seed, kind));
        let frame = |value: &[u8]| Frame::of(value, &classify(value));
        let one = value(60, "k", 9, 1, "k8s:enc:kms:v2:p:");
        let framed = frame(&one).unwrap();
        assert!(framed.fits(&one) && framed.fits(&value(9000, "k", 9, 1, "k8s:enc:kms:v2:p:")));
        for other in [
            value(59, "k", 9, 1, "k8s:enc:kms:v2:p:"),
            value(60, "l", 9, 1, "k8s:enc:kms:v2:p:"),
            value(60, "k", 8, 1, "k8s:enc:kms:v2:p:"),
            value(60, "k", 9, 0, "k8s:enc:kms:v2:p:"),
            value(60, "k", 9, 1, "k8s:enc:kms:v2:q:"),
            [&one[..], b"\x22\x00"].concat(),
            one[..one.len() - 1].to_vec(),
        ] {
            assert!(!framed.fits(&other), "{other:?}");
        }
        // These values have no frame: damaged values, values with two fields of data or with the data elsewhere, and
        // values of another provider.
        let twice = [&one[..], b"\x0a\x1c", &[7; 28]].concat();
        assert_eq!(classify(&twice).damage, Some(ValueDamage::Data));
        let twice = [&one[..], b"\x0a\x3c", &[7; 60]].concat();
        assert_eq!(classify(&twice).damage, None);
        let mut elsewhere = b"k8s:enc:kms:v2:p:\x12\x01k".to_vec();
        elsewhere.extend(&one["k8s:enc:kms:v2:p:".len()..]);
        assert_eq!(classify(&elsewhere).damage, None);
        let long = value(60, "k", 9, 1, &format!("k8s:enc:kms:v2:{}:", "p".repeat(1000)));
        let large = [&one[..], b"\x32\x80\x20", &[0; 4096]].concat();
        assert_eq!(classify(&large).damage, None);
        assert!(frame(&long).is_some());
        for other in [
            &twice,
            &elsewhere,
            &large,
            &one[..40].to_vec(),
            &b"k8s:enc:aesgcm:v1:k:\x0a0123456789012345678901234567".to_vec(),
        ] {
            assert!(frame(other).is_none(), "{other:?}");
        }
    }
}
