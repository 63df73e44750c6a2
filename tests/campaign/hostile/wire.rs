//! HTTP/2 as bytes (RFC 9113): frames, header blocks, and a peer that can write any bytes.
//!
//! Header blocks are literals without indexing (RFC 7541, section 6.2.2), so a block means the same in every place.
//! After each input the peer sends a PING with the number of the input. The answers of the daemon show how many inputs
//! the connection survived.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::{SocketAddr, UnixStream},
};

use super::{random::Random, victim::connect};

pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub(super) const PATH: &[u8] = b"/v2.KeyManagementService/Status";

/// A message without bytes, which Status takes.
pub(super) const EMPTY_MESSAGE: [u8; 5] = [0; 5];

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const PRIORITY: u8 = 2;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PUSH_PROMISE: u8 = 5;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
pub(super) const PADDED: u8 = 8;

/// The first bytes of the PINGs of this peer. The rest is a number.
const OURS: [u8; 4] = *b"ours";

/// The bytes that one connection is going to send.
pub(super) struct Draft<'a> {
    pub(super) random: &'a mut Random,
    pub(super) out: Vec<u8>,
    stream: u32,
    /// The number of whole calls, each of which must be answered or reset.
    calls: usize,
}

impl<'a> Draft<'a> {
    /// Begins with a preface and settings, which every connection needs.
    pub(super) fn new(random: &'a mut Random) -> Self {
        let mut draft = Self { random, out: PREFACE.to_vec(), stream: 0, calls: 0 };
        draft.frame(SETTINGS, 0, 0, &[]);
        draft
    }

    /// Returns the number of a new stream.
    pub(super) fn open(&mut self) -> u32 {
        let stream = if self.stream == 0 { 1 } else { self.stream + 2 };
        self.stream = stream;
        stream
    }

    pub(super) fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap();
        self.frame_of_length(length, kind, flags, stream, payload);
    }

    /// Adds a frame that may lie about its length.
    pub(super) fn frame_of_length(&mut self, length: u32, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.out.extend_from_slice(&length.to_be_bytes()[1..]);
        self.out.extend_from_slice(&[kind, flags]);
        self.out.extend_from_slice(&stream.to_be_bytes());
        self.out.extend_from_slice(payload);
    }

    /// Adds a whole call with these headers.
    pub(super) fn call(&mut self, block: &[u8]) {
        let stream = self.open();
        self.frame(HEADERS, END_HEADERS, stream, block);
        self.frame(DATA, END_STREAM, stream, &EMPTY_MESSAGE);
        self.calls += 1;
    }

    /// Begins a call whose body is to come.
    pub(super) fn begin(&mut self) -> u32 {
        let stream = self.open();
        self.frame(HEADERS, END_HEADERS, stream, &request());
        stream
    }

    fn mark(&mut self, number: usize) {
        let number = u32::try_from(number).unwrap().to_be_bytes();
        self.frame(PING, 0, 0, &[OURS, number].concat());
    }
}

/// Appends a header.
pub(super) fn field(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    for text in [name, value] {
        integer(block, 0, 7, text.len());
        block.extend_from_slice(text);
    }
}

/// Appends a number with a prefix of `bits` bits. `pattern` gives the other bits (RFC 7541, section 5.1).
pub(super) fn integer(block: &mut Vec<u8>, pattern: u8, bits: u8, number: usize) {
    let most = (1 << bits) - 1;
    if number < most {
        return block.push(pattern | u8::try_from(number).unwrap());
    }
    block.push(pattern | u8::try_from(most).unwrap());
    let mut rest = number - most;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

pub(super) fn block(fields: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        field(&mut block, name, value);
    }
    block
}

/// The headers of an honest call of Status.
pub(super) const HONEST: [(&[u8], &[u8]); 6] = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", PATH),
    (b":authority", b"localhost"),
    (b"content-type", b"application/grpc"),
    (b"te", b"trailers"),
];

pub(super) fn request() -> Vec<u8> {
    block(&HONEST)
}

/// The end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The daemon closes the connection, because RFC 9113 demands it.
    Closed,
    /// The connection stays open, and every whole call on it is answered or reset.
    Open,
    /// The connection is closed or stays open, because the RFC leaves it open or because it depends on chance.
    Any,
    /// The daemon waits for more bytes, and the peer closes the connection.
    Unfinished,
}

/// A kind of input that breaks the rules of HTTP/2, or comes close to it.
#[derive(Clone, Copy)]
pub(super) struct Kind {
    pub(super) name: &'static str,
    pub(super) fate: Fate,
    pub(super) make: fn(&mut Draft),
}

/// Sends `count` inputs, over as many connections as they need.
pub(super) fn send(address: &SocketAddr, kind: &Kind, random: &mut Random, count: u64) -> Result<(), String> {
    let mut left = usize::try_from(count).unwrap();
    while left > 0 {
        left -= converse(address, kind, random, left).map_err(|wrong| format!("{}: {wrong}", kind.name))?;
    }
    Ok(())
}

/// Sends up to `most` inputs over one connection. Returns how many of them the daemon has seen.
fn converse(address: &SocketAddr, kind: &Kind, random: &mut Random, most: usize) -> Result<usize, String> {
    let count = if matches!(kind.fate, Fate::Open | Fate::Any) { most } else { 1 };
    let mut draft = Draft::new(random);
    for number in 0..count {
        (kind.make)(&mut draft);
        draft.mark(number);
    }
    let (out, calls) = (draft.out, draft.calls);
    let mut stream = connect(address);
    // If the daemon closes the connection, not everything can be written.
    tolerate(stream.write_all(&out))?;
    if kind.fate == Fate::Unfinished {
        tolerate(stream.shutdown(Shutdown::Write))?;
    }
    let answers = if kind.fate == Fate::Open { calls } else { 0 };
    let heard = Heard::until(&mut stream, count, answers)?;
    match (kind.fate, heard.closed) {
        (Fate::Closed, false) => Err(format!("the daemon went on after {}", base16ct::lower::encode_string(&out))),
        (Fate::Open, true) => Err(format!("the daemon hung up, {} of {count} inputs survived", heard.survived)),
        (_, closed) => Ok((heard.survived + usize::from(closed)).min(count)),
    }
}

/// The frames that the daemon has sent.
#[derive(Default)]
struct Heard {
    survived: usize,
    answered: usize,
    closed: bool,
}

impl Heard {
    /// Reads until the daemon has seen all inputs and answered all calls, or closes the connection.
    fn until(stream: &mut UnixStream, inputs: usize, calls: usize) -> Result<Self, String> {
        let (mut heard, mut unread, mut more) = (Self::default(), Vec::new(), [0; 16 * 1024]);
        while heard.survived < inputs || heard.answered < calls {
            let read = match stream.read(&mut more) {
                Err(error) if is_timeout(&error) => return Err("the daemon neither answers nor hangs up".to_owned()),
                read => read.unwrap_or(0),
            };
            if read == 0 {
                heard.closed = true;
                break;
            }
            unread.extend_from_slice(&more[..read]);
            let used = heard.take_in(&unread);
            unread.drain(..used);
        }
        Ok(heard)
    }

    /// Notes the whole frames in `bytes`. Returns how many bytes they take.
    fn take_in(&mut self, bytes: &[u8]) -> usize {
        let mut used = 0;
        while let Some(head) = bytes.get(used..used + 9) {
            let end = used + 9 + usize::from(head[0]) * 65536 + usize::from(head[1]) * 256 + usize::from(head[2]);
            let Some(payload) = bytes.get(used + 9..end) else { break };
            match (head[3], head[4]) {
                (PING, flags) if flags & ACK != 0 && payload.starts_with(&OURS) => self.survived += 1,
                (RST_STREAM, _) => self.answered += 1,
                (DATA | HEADERS, flags) if flags & END_STREAM != 0 => self.answered += 1,
                _ => {}
            }
            used = end;
        }
        used
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn tolerate(outcome: io::Result<()>) -> Result<(), String> {
    match outcome {
        Err(error) if is_timeout(&error) => Err("the daemon neither reads nor hangs up".to_owned()),
        _ => Ok(()),
    }
}
