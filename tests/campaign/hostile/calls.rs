//! Makes inputs that are valid HTTP/2 and wrong above it: in gRPC's framing, in protobuf, or in the fields of the three
//! calls.
//!
//! [`super::exchange`] sends them and judges the answers.

use std::{collections::HashMap, os::unix::net::SocketAddr};

use prost::Message;
use tonic::Code;

use super::{
    good::{
        self,
        api::{DecryptRequest, EncryptRequest, key_management_service_client::KeyManagementServiceClient},
    },
    random::Random,
};

pub(super) const SEED: [u8; 32] = *b"the seed that they wrapped: 32 b";

/// The length limit of a message, as the daemon has it.
const MESSAGE_LIMIT: usize = 64 * 1024;

/// One input: a call with its message.
pub(super) struct Call {
    pub(super) method: &'static str,
    pub(super) encoding: Option<Vec<u8>>,
    pub(super) body: Vec<u8>,
}

/// A kind of input, with the codes that may answer it.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) codes: &'static [Code],
    pub(super) make: fn(&mut Random, &Sample) -> Call,
}

pub(super) const KINDS: [Kind; 24] = [
    kind("grpc: compressed, they say", &[Code::Internal, Code::Unimplemented], compressed),
    kind("grpc: unknown compression", &[Code::Unimplemented], encoding),
    kind("grpc: length too long", &[Code::Internal, Code::InvalidArgument], length_long),
    kind("grpc: length too short", MUTATED, length_short),
    kind("grpc: length of 2 GiB or more", &[Code::OutOfRange], length_negative),
    kind("grpc: message over 64 KiB", &[Code::OutOfRange], message_large),
    kind("grpc: several messages", MUTATED, message_several),
    kind("grpc: trailing bytes", MUTATED, message_trailing),
    kind("grpc: no message", &[Code::Internal], message_none),
    kind("grpc: random bytes", MUTATED, message_random),
    kind("protobuf: bits flipped", MUTATED, bits),
    kind("protobuf: cut off", MUTATED, cut),
    kind("protobuf: fields twice", MUTATED, twice),
    kind("protobuf: wrong wire type", MUTATED, wire_type),
    kind("protobuf: huge number", MUTATED, varint),
    kind("protobuf: deep groups", MUTATED, groups),
    kind("protobuf: text that is not UTF-8", &[Code::Internal], not_text),
    kind("protobuf: unknown fields", MUTATED, unknown_fields),
    kind("call: ciphertext with one bit flipped", &[Code::InvalidArgument], ciphertext_bit),
    kind("call: ciphertext with many bits flipped", &[Code::InvalidArgument], ciphertext_bits),
    kind("call: ciphertext of another length", &[Code::InvalidArgument], ciphertext_length),
    kind("call: odd key_id", &[Code::NotFound], key_id),
    kind("call: annotations", &[Code::InvalidArgument], annotations),
    kind("call: plaintext of no or many bytes", &[Code::InvalidArgument], plaintext_size),
];

/// The codes that may answer a mutated message: the change had no effect, a field is refused, or the bytes are no
/// message.
const MUTATED: &[Code] =
    &[Code::Ok, Code::InvalidArgument, Code::NotFound, Code::Internal, Code::OutOfRange, Code::Unimplemented];

const fn kind(name: &'static str, codes: &'static [Code], make: fn(&mut Random, &Sample) -> Call) -> Kind {
    Kind { name, codes, make }
}

/// The message of an honest client.
#[derive(Clone)]
pub(super) struct Sample(DecryptRequest);

impl Sample {
    /// Has the daemon wrap a seed.
    pub(super) fn ask(address: &SocketAddr) -> Self {
        good::runtime().block_on(async {
            let mut client = KeyManagementServiceClient::new(good::connect(address).await.unwrap());
            let request = EncryptRequest { plaintext: SEED.to_vec(), uid: "sample".to_owned() };
            let wrapped = client.encrypt(request).await.unwrap().into_inner();
            let (ciphertext, key_id) = (wrapped.ciphertext, wrapped.key_id);
            Self(DecryptRequest { ciphertext, uid: "sample".to_owned(), key_id, annotations: HashMap::new() })
        })
    }

    /// Returns a request of Encrypt or Decrypt, with its method.
    fn message(&self, random: &mut Random) -> (&'static str, Vec<u8>) {
        match random.below(3) {
            0 => ("Encrypt", EncryptRequest { plaintext: SEED.to_vec(), uid: "sample".to_owned() }.encode_to_vec()),
            _ => ("Decrypt", self.0.encode_to_vec()),
        }
    }

    /// Returns a Decrypt that was tampered with.
    fn decrypt(&self, tamper: impl FnOnce(&mut DecryptRequest)) -> Call {
        let mut request = self.0.clone();
        tamper(&mut request);
        framed("Decrypt", &request.encode_to_vec())
    }

    /// Returns a message that was tampered with.
    fn mutated(&self, random: &mut Random, tamper: impl FnOnce(&mut Random, &mut Vec<u8>)) -> Call {
        let (method, mut message) = self.message(random);
        tamper(random, &mut message);
        framed(method, &message)
    }
}

/// Returns a call of one message.
fn framed(method: &'static str, message: &[u8]) -> Call {
    Call { method, encoding: None, body: prefixed(0, message.len(), message) }
}

fn prefixed(flag: u8, length: usize, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &u32::try_from(length).unwrap().to_be_bytes(), message].concat()
}

fn compressed(random: &mut Random, sample: &Sample) -> Call {
    let (method, message) = sample.message(random);
    let flag = random.byte().max(1);
    Call { method, encoding: None, body: prefixed(flag, message.len(), &message) }
}

fn encoding(random: &mut Random, sample: &Sample) -> Call {
    let (method, message) = sample.message(random);
    let length = random.within(1, 4000);
    let encoding = random.pick(&[&b"gzip"[..], b"zstd", b"\xff\xfe", &vec![b'x'; length]]).to_vec();
    Call { encoding: Some(encoding), ..framed(method, &message) }
}

fn length_long(random: &mut Random, sample: &Sample) -> Call {
    let (method, message) = sample.message(random);
    let length = message.len() + random.within(1, 1000);
    Call { method, encoding: None, body: prefixed(0, length, &message) }
}

fn length_short(random: &mut Random, sample: &Sample) -> Call {
    let (method, message) = sample.message(random);
    let length = random.below(message.len());
    Call { method, encoding: None, body: prefixed(0, length, &message) }
}

fn length_negative(random: &mut Random, sample: &Sample) -> Call {
    let (method, message) = sample.message(random);
    let length = usize::try_from(random.word() | 1 << 31).unwrap();
    Call { method, encoding: None, body: prefixed(0, length, &message) }
}

fn message_large(random: &mut Random, _: &Sample) -> Call {
    let length = MESSAGE_LIMIT + random.within(1, 1000);
    framed("Decrypt", &vec![0; length])
}

fn message_several(random: &mut Random, sample: &Sample) -> Call {
    let (method, message) = sample.message(random);
    let mut call = framed(method, &message);
    call.body = call.body.repeat(random.within(2, 5));
    call
}

fn message_trailing(random: &mut Random, sample: &Sample) -> Call {
    let (method, message) = sample.message(random);
    let (mut call, length) = (framed(method, &message), random.within(1, 100));
    call.body.extend(random.bytes(length));
    call
}

fn message_none(random: &mut Random, sample: &Sample) -> Call {
    let (method, _) = sample.message(random);
    let body = vec![0; random.below(5)];
    Call { method, encoding: None, body }
}

fn message_random(random: &mut Random, sample: &Sample) -> Call {
    let ((method, _), length) = (sample.message(random), random.within(1, 300));
    Call { method, encoding: None, body: random.bytes(length) }
}

fn bits(random: &mut Random, sample: &Sample) -> Call {
    sample.mutated(random, |random, message| random.flip(message, 8))
}

fn cut(random: &mut Random, sample: &Sample) -> Call {
    sample.mutated(random, |random, message| message.truncate(random.below(message.len())))
}

fn twice(random: &mut Random, sample: &Sample) -> Call {
    sample.mutated(random, |random, message| {
        let mut other = message.clone();
        if random.below(2) == 0 {
            random.flip(&mut other, 4);
        }
        message.splice(0..0, other);
    })
}

fn wire_type(random: &mut Random, sample: &Sample) -> Call {
    sample.mutated(random, |random, message| {
        let (field, wire_type) = (random.within(1, 4), random.below(8));
        message.push(u8::try_from(field << 3 | wire_type).unwrap());
        let length = random.below(12);
        message.extend(random.bytes(length));
    })
}

fn varint(random: &mut Random, sample: &Sample) -> Call {
    sample.mutated(random, |random, message| {
        message.push(random.pick(&[0x0a, 0x12, 0x1a, 0x22, 0x98]));
        message.extend(vec![0xff; random.within(4, 20)]);
        message.push(random.byte());
    })
}

fn groups(random: &mut Random, sample: &Sample) -> Call {
    sample.mutated(random, |random, message| {
        let depth = random.within(1, 20_000);
        message.extend(vec![0x2b; depth]);
        message.extend(vec![0x2c; random.pick(&[0, depth, depth - 1])]);
    })
}

fn not_text(random: &mut Random, sample: &Sample) -> Call {
    sample.mutated(random, |random, message| {
        let wrong: &[u8] = random.pick(&[&b"\xff"[..], b"\xc0\x80", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"]);
        message.extend([0x12, u8::try_from(wrong.len()).unwrap()]);
        message.extend(wrong);
    })
}

fn unknown_fields(random: &mut Random, sample: &Sample) -> Call {
    sample.mutated(random, |random, message| {
        for _ in 0..random.within(1, 50) {
            let length = random.below(20);
            message.extend([u8::try_from(random.within(5, 15) << 3 | 2).unwrap(), u8::try_from(length).unwrap()]);
            message.extend(random.bytes(length));
        }
    })
}

fn ciphertext_bit(random: &mut Random, sample: &Sample) -> Call {
    sample.decrypt(|request| random.flip(&mut request.ciphertext, 1))
}

fn ciphertext_bits(random: &mut Random, sample: &Sample) -> Call {
    sample.decrypt(|request| {
        // The changed bit is in the other half, so that a second change does not undo the first.
        let half = request.ciphertext.len() / 2;
        random.flip(&mut request.ciphertext[..half], 1);
        let at = random.within(half, request.ciphertext.len() - 1);
        request.ciphertext[at..].fill(random.byte());
    })
}

fn ciphertext_length(random: &mut Random, sample: &Sample) -> Call {
    sample.decrypt(|request| {
        let length = random.within(1, 2000);
        request.ciphertext.extend(random.bytes(length));
        let whole = length.is_multiple_of(2);
        request.ciphertext.truncate(if whole { 4000 } else { random.below(108) });
    })
}

fn key_id(random: &mut Random, sample: &Sample) -> Call {
    sample.decrypt(|request| {
        let long = "k".repeat(random.within(1, 2000));
        let (upper, spaced) = (request.key_id.to_uppercase(), format!("{} ", request.key_id));
        let cut = &request.key_id[..request.key_id.len() - 1];
        let odd = ["", "k", "\0", "../keyring", "k1", "\u{1b}[31m", &long, &upper, &spaced, cut];
        request.key_id = random.pick(&odd).to_owned();
    })
}

fn annotations(random: &mut Random, sample: &Sample) -> Call {
    sample.decrypt(|request| {
        for number in 0..random.within(1, 30) {
            let length = random.below(300);
            request.annotations.insert(format!("{number}.example.com"), random.bytes(length));
        }
    })
}

fn plaintext_size(random: &mut Random, _: &Sample) -> Call {
    let length = random.pick(&[0, 513, 1024, 60_000]);
    let request = EncryptRequest { plaintext: random.bytes(length), uid: String::new() };
    framed("Encrypt", &request.encode_to_vec())
}
