//! Encodes and decodes messages in buffers of about their size.
//!
//! By default tonic gives each message 8 KiB, and the allocator would wipe all of it after each call.

use std::marker::PhantomData;

use prost::Message;
use tonic::codec::{self, BufferSettings};
use tonic_prost::{ProstCodec, ProstDecoder, ProstEncoder};

/// The buffer sizes in bytes: a usual message with its prefix, whose buffer grows for a larger one; and a threshold for
/// streams of messages, which this API does not have.
const BUFFERS: (usize, usize) = (256, 8 * 1024);

/// Encodes messages of type `T`, and decodes messages of type `U`.
#[derive(Debug, Clone)]
pub(super) struct Codec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for Codec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> codec::Codec for Codec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = ProstEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<T, U>::raw_encoder(BufferSettings::new(BUFFERS.0, BUFFERS.1))
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(BUFFERS.0, BUFFERS.1))
    }
}
