//! Makes failing calls, one of every kind, each with its own seed.

use std::{
    collections::HashMap,
    convert::Infallible,
    os::unix::net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    thread,
    time::Duration,
};

use hyper::{
    Request,
    body::{Body, Bytes, Frame},
};
use prost::Message;
use rustix::{process::Uid, thread::set_thread_res_uid};
use tokio::{task::JoinSet, time::timeout};
use tonic::codegen::Service;
use tonic::{Code, Status, transport::Channel};

use super::load::{Seed, Wrapped, random};
use crate::campaign::hostile::good::{
    self,
    api::{DecryptRequest, EncryptRequest},
};

/// The uid of a user who may not call: nobody.
const STRANGER: u32 = 65_534;

/// The time after which a client gives up a call that it does not finish itself. The daemon gives it up after 2.5 s.
const SOON: Duration = Duration::from_millis(200);

/// The time limit for the answer to a call.
const LIMIT: Duration = Duration::from_secs(20);

/// A call that must fail.
struct Call {
    kind: &'static str,
    method: &'static str,
    body: Vec<u8>,
    /// Whether the body ends with these bytes. If not, the daemon waits for more.
    whole: bool,
    /// The code of the answer. `None` if nobody waits for an answer.
    code: Option<Code>,
}

/// Makes all calls that fail. Returns their seeds, and the texts of the daemon's answers.
pub(super) fn make(address: &SocketAddr, wrapped: &[Wrapped]) -> (Vec<Seed>, String) {
    let mut seeds: Vec<Seed> = wrapped.iter().map(|wrapped| wrapped.seed).collect();
    let calls: Vec<Call> = wrapped.chunks_exact(KINDS).flat_map(|some| tampered(some, &mut seeds)).collect();
    let mut answers = send(address, calls);
    let refused = random();
    seeds.push(refused);
    answers += &send_as_a_stranger(address, refused);
    (seeds, answers)
}

/// The number of wrapped seeds that [`tampered`] takes.
pub(super) const KINDS: usize = 5;

/// Returns a call of each kind, made of wrapped seeds.
fn tampered(wrapped: &[Wrapped], seeds: &mut Vec<Seed>) -> Vec<Call> {
    let mut fresh = || {
        seeds.push(random());
        seeds[seeds.len() - 1]
    };
    let decrypt = |number: usize, kind, code, tamper: fn(&mut DecryptRequest, Seed)| {
        let mut request = wrapped[number].request();
        tamper(&mut request, wrapped[number].seed);
        Call::of(kind, "Decrypt", &request.encode_to_vec(), code)
    };
    let encrypt = |kind, code, plaintext: Vec<u8>| {
        let request = EncryptRequest { plaintext, uid: "memory".to_owned() };
        Call::of(kind, "Encrypt", &request.encode_to_vec(), code)
    };
    let unfinished = |kind, code, seed: Seed| {
        let call = encrypt(kind, Code::Ok, seed.to_vec());
        // The body lacks the end of the uid.
        Call { body: call.body[..call.body.len() - 3].to_vec(), whole: false, code, ..call }
    };
    let (mut compressed, mut cut) = (encrypt("compressed", Code::Internal, fresh().to_vec()), fresh().to_vec());
    compressed.body[0] = 1;
    cut.splice(..0, [0x0a, 0x7f]);
    // The body has an unknown field beside a plaintext of no bytes.
    let unknown = [&[0x7a, 32][..], &fresh()].concat();
    vec![
        decrypt(0, "unknown key_id", Code::NotFound, |request, _| "k9-unknown".clone_into(&mut request.key_id)),
        decrypt(1, "malformed", Code::InvalidArgument, |request, seed| request.ciphertext = seed.to_vec()),
        decrypt(2, "not authentic", Code::InvalidArgument, |request, _| request.ciphertext[107] ^= 1),
        decrypt(3, "another key", Code::InvalidArgument, |request, _| request.ciphertext[4] ^= 1),
        decrypt(4, "annotations", Code::InvalidArgument, |request, seed| {
            request.annotations = HashMap::from([("memory.example".to_owned(), seed.to_vec())]);
        }),
        encrypt("plaintext too large", Code::InvalidArgument, fresh().repeat(17)),
        encrypt("message too large", Code::OutOfRange, fresh().repeat(2049)),
        Call::of("no plaintext", "Encrypt", &unknown, Code::InvalidArgument),
        Call::of("message cut off", "Encrypt", &cut, Code::Internal),
        compressed,
        Call::of("unknown method", "Rotate", &fresh(), Code::Unimplemented),
        unfinished("deadline missed", Some(Code::DeadlineExceeded), fresh()),
        unfinished("reset", None, fresh()),
    ]
}

impl Call {
    /// Returns a call of one message that gets an answer.
    fn of(kind: &'static str, method: &'static str, message: &[u8], code: Code) -> Self {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let body = [&[0][..], &length, message].concat();
        Self { kind, method, body, whole: true, code: Some(code) }
    }
}

/// Makes the calls at the same time over one connection, which breaks at the end.
fn send(address: &SocketAddr, calls: Vec<Call>) -> String {
    good::runtime().block_on(async {
        let channel = good::connect(address).await.unwrap();
        let tasks: JoinSet<String> = calls.into_iter().map(|call| judge(channel.clone(), call)).collect();
        tasks.join_all().await.join("\n")
    })
}

/// Makes a call as a user who may not call. Only this thread becomes that user.
fn send_as_a_stranger(address: &SocketAddr, seed: Seed) -> String {
    let request = EncryptRequest { plaintext: seed.to_vec(), uid: "memory".to_owned() };
    let call = Call::of("refused", "Encrypt", &request.encode_to_vec(), Code::PermissionDenied);
    let address = address.clone();
    let stranger = thread::spawn(move || {
        let uid = Uid::from_raw(STRANGER);
        set_thread_res_uid(uid, uid, uid).unwrap();
        send(&address, vec![call])
    });
    stranger.join().unwrap()
}

/// Makes one call, and returns the text of its answer.
async fn judge(channel: Channel, call: Call) -> String {
    let (kind, code) = (call.kind, call.code);
    let answer = timeout(if code.is_some() { LIMIT } else { SOON }, ask(channel, call)).await;
    let status = answer.ok();
    assert_eq!(status.as_ref().map(Status::code), code, "{kind}: {status:?}");
    format!("{kind}: {status:?}")
}

async fn ask(mut channel: Channel, call: Call) -> Status {
    let request = Request::post(format!("http://localhost/v2.KeyManagementService/{}", call.method))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(Chunk { bytes: Some(call.body.into()), whole: call.whole }))
        .unwrap();
    std::future::poll_fn(|context| channel.poll_ready(context)).await.unwrap();
    let response = channel.call(request).await.unwrap();
    // A refused call has its status in the headers of the answer.
    Status::from_header_map(response.headers()).unwrap()
}

/// A body of these bytes, which then ends or never ends.
struct Chunk {
    bytes: Option<Bytes>,
    whole: bool,
}

impl Body for Chunk {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.bytes.take() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None if self.whole => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}
