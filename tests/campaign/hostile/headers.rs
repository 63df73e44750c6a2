//! Makes inputs that are wrong in their headers: continuation, compression, pseudo-headers, the headers of gRPC.

use super::wire::{
    CONTINUATION, DATA, Draft, END_HEADERS, END_STREAM, Fate, HEADERS, HONEST, Kind, PATH, PING, block, field, integer,
    request,
};

pub(super) const KINDS: [Kind; 12] = [
    kind("continuation: flood", Fate::Closed, continuation_flood),
    kind("continuation: flood of empty ones", Fate::Closed, continuation_empty),
    kind("continuation: interrupted", Fate::Closed, continuation_interrupted),
    kind("continuation: of nothing", Fate::Closed, continuation_alone),
    kind("compression: invalid", Fate::Closed, compression_invalid),
    kind("compression: random bytes", Fate::Any, compression_random),
    kind("compression: a table's entry over and over", Fate::Any, compression_bomb),
    kind("headers: over 16 KiB", Fate::Any, headers_large),
    kind("headers: bad pseudo-headers and names", Fate::Any, headers_pseudo),
    kind("headers: odd path", Fate::Any, headers_path),
    kind("headers: not gRPC", Fate::Open, headers_not_grpc),
    kind("headers: wrong content-length", Fate::Any, headers_length),
];

const fn kind(name: &'static str, fate: Fate, make: fn(&mut Draft)) -> Kind {
    Kind { name, fate, make }
}

/// CVE-2024-27316: header blocks that never end.
fn continuation_flood(draft: &mut Draft) {
    let (stream, more) = (draft.open(), block(&[(b"x-more", &[b'x'; 1000])]));
    draft.frame(HEADERS, 0, stream, &request());
    for _ in 0..100 {
        draft.frame(CONTINUATION, 0, stream, &more);
    }
}

fn continuation_empty(draft: &mut Draft) {
    let stream = draft.open();
    draft.frame(HEADERS, 0, stream, &request());
    for _ in 0..100 {
        draft.frame(CONTINUATION, 0, stream, &[]);
    }
}

fn continuation_interrupted(draft: &mut Draft) {
    let stream = draft.open();
    draft.frame(HEADERS, 0, stream, &request());
    let (kind, other) = draft.random.pick(&[(PING, 0), (DATA, 1), (HEADERS, 1), (CONTINUATION, 3), (0x99, 0)]);
    draft.frame(kind, 0, other, &[0; 8]);
}

fn continuation_alone(draft: &mut Draft) {
    let stream = draft.random.pick(&[0, 1, 3]);
    draft.frame(CONTINUATION, END_HEADERS, stream, &request());
}

fn compression_invalid(draft: &mut Draft) {
    let stream = draft.open();
    // In turn: an index of 0, an index beyond both tables, a number without end, a table larger than allowed, a string
    // without end, Huffman's end of string.
    let wrong: &[u8] = draft.random.pick(&[
        &[0x80][..],
        &[0xff, 0x80, 0x01],
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
        &[0x3f, 0xff, 0xff, 0x03],
        &[0x00, 0x7f, 0xff, 0x7f, b'x'],
        &[0x00, 0x84, 0xff, 0xff, 0xff, 0xff, 0x00],
    ]);
    draft.frame(HEADERS, END_HEADERS | END_STREAM, stream, wrong);
}

fn compression_random(draft: &mut Draft) {
    let (stream, length) = (draft.open(), draft.random.within(1, 200));
    let random = draft.random.bytes(length);
    let honest = if draft.random.below(2) == 0 { request() } else { Vec::new() };
    draft.frame(HEADERS, END_HEADERS | END_STREAM, stream, &[honest, random].concat());
}

/// Sends bytes each of which stands for a header of 4,000 bytes.
fn compression_bomb(draft: &mut Draft) {
    let (stream, mut bomb) = (draft.open(), request());
    bomb.push(0x40);
    for text in [&b"x-bomb"[..], &[b'x'; 4000]] {
        integer(&mut bomb, 0, 7, text.len());
        bomb.extend_from_slice(text);
    }
    // The index 62 means the newest entry of the table.
    bomb.extend([0xbe; 4000]);
    draft.frame(HEADERS, END_HEADERS | END_STREAM, stream, &bomb);
}

fn headers_large(draft: &mut Draft) {
    let stream = draft.open();
    let large = block(&[(b"x-large", &[b'x'; 9000])]);
    draft.frame(HEADERS, 0, stream, &request());
    draft.frame(CONTINUATION, 0, stream, &large);
    draft.frame(CONTINUATION, END_HEADERS, stream, &large);
}

fn headers_pseudo(draft: &mut Draft) {
    let at = draft.random.below(4);
    let mut fields = HONEST.to_vec();
    match draft.random.below(7) {
        0 => drop(fields.remove(at)),
        1 => fields.insert(at, fields[at]),
        2 => fields.push((b":path", b"/late")),
        3 => fields.insert(0, (b":status", b"200")),
        4 => fields.insert(4, (b"Upper-Case", b"x")),
        5 => fields.push((b"connection", b"keep-alive")),
        _ => fields[at].1 = b"\0\x7f \xff",
    }
    draft.call(&block(&fields));
}

fn headers_path(draft: &mut Draft) {
    let length = draft.random.within(1, 3000);
    let long = [&b"/"[..], &vec![b'a'; length]].concat();
    let random = [&b"/"[..], &draft.random.bytes(length.min(50))].concat();
    let fixed: &[u8] = draft.random.pick(&[
        &b""[..],
        b"*",
        b"//",
        b"/../../etc/passwd",
        b"/v2.KeyManagementService/Status\nforged: line",
        b"/v2.KeyManagementService/\xff\xfe",
        b"/v2.KeyManagementService/Status?query",
        b"/v2.KeyManagementService/status",
        b"http://elsewhere/v2.KeyManagementService/Status",
        b"/%00%0a%1b[31m",
    ]);
    let path = draft.random.pick(&[&long, &random, fixed]);
    draft.call(&with(b":path", path));
}

fn headers_not_grpc(draft: &mut Draft) {
    let (name, value): (&[u8], &[u8]) = draft.random.pick(&[
        (&b"content-type"[..], &b"text/plain"[..]),
        (b"content-type", b""),
        (b"content-type", b"application/grpc+thrift"),
        (b"te", b"gzip"),
        (b":method", b"GET"),
        (b":method", b"DELETE"),
        (b":method", b"NONSENSE"),
        (b":authority", b"elsewhere"),
        (b":path", PATH),
    ]);
    // The last of them is honest, except for one header that each gRPC library understands differently.
    let mut block = with(name, value);
    let timeout = draft.random.pick(&[&b"99999999999999999999S"[..], b"-1n", b"x", b"0n"]);
    field(&mut block, b"grpc-timeout", timeout);
    draft.call(&block);
}

fn headers_length(draft: &mut Draft) {
    let wrong = draft.random.pick(&[&b"0"[..], b"4", b"6", b"18446744073709551616", b"-5", b"five"]);
    let mut block = request();
    field(&mut block, b"content-length", wrong);
    draft.call(&block);
}

/// Returns an honest call's headers, with one other value.
fn with(name: &[u8], value: &[u8]) -> Vec<u8> {
    block(&HONEST.map(|(own, honest)| (own, if own == name { value } else { honest })))
}
