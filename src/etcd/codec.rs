//! Decodes the messages of etcd, and refuses those with very many fields: a key without content takes two bytes in an
//! answer, and far more in memory.

use std::marker::PhantomData;

use prost::{
    Message,
    bytes::Buf,
    encoding::{WireType, decode_key, decode_varint},
};
use tonic::{
    Status,
    codec::{self, BufferSettings, DecodeBuf},
};
use tonic_prost::{ProstCodec, ProstEncoder};

/// The greatest number of fields in an answer: far more than the keys of one page need.
pub(super) const FIELDS_MAX: usize = 250_000;

/// The message of the status that reports an answer with more fields.
pub(super) const CROWDED: &str = "an answer with too many fields";

/// The protobuf tag of the field that contains the answer in a message of a stream.
const NESTED: u32 = 1;

/// Encodes messages of type `T`, and decodes messages of type `U`.
#[derive(Debug, Clone)]
pub struct EtcdCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for EtcdCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> codec::Codec for EtcdCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = EtcdDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::default())
    }

    fn decoder(&mut self) -> Self::Decoder {
        EtcdDecoder(PhantomData)
    }
}

/// Decodes messages of type `U`, and refuses those with too many fields.
#[derive(Debug, Clone)]
pub struct EtcdDecoder<U>(PhantomData<U>);

impl<U: Message + Default> codec::Decoder for EtcdDecoder<U> {
    type Item = U;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<U>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        if has_too_many_fields(&bytes) {
            return Err(Status::out_of_range(CROWDED));
        }
        U::decode(bytes).map(Some).map_err(|error| Status::internal(error.to_string()))
    }
}

/// Whether a message has more than [`FIELDS_MAX`] fields, including the fields of the message in its first field. If
/// the bytes are no message, the fields before the first error count.
fn has_too_many_fields(message: &[u8]) -> bool {
    let mut count = 0;
    let mut parts = vec![message];
    let mut is_outer = true;
    while let Some(mut rest) = parts.pop() {
        while let Some((tag, content)) = field(&mut rest) {
            count += 1;
            if count > FIELDS_MAX {
                return true;
            }
            if is_outer && tag == NESTED {
                parts.extend(content);
            }
        }
        is_outer = false;
    }
    false
}

/// Reads a field. Returns its tag, and its content if it is a message or bytes.
fn field<'b>(rest: &mut &'b [u8]) -> Option<(u32, Option<&'b [u8]>)> {
    let (tag, wire_type) = decode_key(rest).ok()?;
    let length = match wire_type {
        WireType::Varint => {
            decode_varint(rest).ok()?;
            return Some((tag, None));
        }
        WireType::LengthDelimited => usize::try_from(decode_varint(rest).ok()?).ok()?,
        WireType::SixtyFourBit => 8,
        WireType::ThirtyTwoBit => 4,
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    let (content, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some((tag, Some(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_with_very_many_keys_is_noticed_before_it_is_decoded() {
        let keys = |count: usize| [0x12, 0].repeat(count);
        assert!(!has_too_many_fields(&keys(FIELDS_MAX)));
        assert!(has_too_many_fields(&keys(FIELDS_MAX + 1)));
        // Counts the fields in the same way inside a message of a stream.
        let nested = |count| {
            let mut bytes = Vec::new();
            prost::encoding::bytes::encode(1, &keys(count), &mut bytes);
            bytes
        };
        assert!(!has_too_many_fields(&nested(FIELDS_MAX - 1)));
        assert!(has_too_many_fields(&nested(FIELDS_MAX)));
        for other in [&b"\x08\x01\x12\x02ab"[..], b"\x12\x7f", b"\xff", b"\x0b", b""] {
            assert!(!has_too_many_fields(other));
        }
    }
}
