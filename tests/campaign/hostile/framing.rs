//! Makes inputs that are wrong below the headers: prefaces, frames, settings, floods.

use super::wire::{
    ACK, CONTINUATION, DATA, Draft, END_HEADERS, END_STREAM, Fate, GOAWAY, HEADERS, Kind, PADDED, PING, PREFACE,
    PRIORITY, PUSH_PROMISE, RST_STREAM, SETTINGS, WINDOW_UPDATE, request,
};

/// The number of frames of one flood. It is enough for the daemon's limits, and the answers fit a socket's buffer.
const FLOOD: usize = 50;

/// A window that is one larger than the largest.
const TOO_WIDE: u32 = 1 << 31;

pub(super) const KINDS: [Kind; 29] = [
    kind("preface: some bits flipped", Fate::Unfinished, preface_flipped),
    kind("preface: random bytes", Fate::Unfinished, preface_random),
    kind("preface: cut off", Fate::Unfinished, preface_cut),
    kind("frame: cut off", Fate::Unfinished, frame_cut),
    kind("frame: wrong length", Fate::Unfinished, frame_length),
    kind("frame: longer than allowed", Fate::Closed, frame_too_long),
    kind("frame: unknown type", Fate::Open, frame_unknown),
    kind("frame: random", Fate::Unfinished, frame_random),
    kind("frames: an honest call with bits flipped", Fate::Unfinished, call_flipped),
    kind("window: update of zero", Fate::Closed, window_zero),
    kind("window: beyond its end", Fate::Closed, window_overflow),
    kind("window: none for the answer", Fate::Any, window_none),
    kind("settings: bad value", Fate::Closed, settings_value),
    kind("settings: bad length or stream", Fate::Closed, settings_shape),
    kind("settings: flood", Fate::Any, settings_flood),
    kind("ping: flood", Fate::Any, ping_flood),
    kind("ping: bad length or stream", Fate::Closed, ping_shape),
    kind("reset: rapid", Fate::Any, reset_rapid),
    kind("reset: provoked", Fate::Any, reset_provoked),
    kind("reset: of an idle stream, or of bad length", Fate::Closed, reset_shape),
    kind("priority: loop", Fate::Any, priority_loop),
    kind("priority: bad length", Fate::Any, priority_length),
    kind("data: on stream 0, or on an idle one", Fate::Closed, data_nowhere),
    kind("data: after the end of the stream", Fate::Any, data_late),
    kind("data: padding longer than the frame", Fate::Closed, data_padding),
    kind("data: flood of empty frames", Fate::Any, data_empty),
    kind("stream: even, or older than the last", Fate::Closed, stream_number),
    kind("stream: pushed by the client", Fate::Closed, stream_pushed),
    kind("stream: after the client's GOAWAY", Fate::Any, stream_after_goaway),
];

const fn kind(name: &'static str, fate: Fate, make: fn(&mut Draft)) -> Kind {
    Kind { name, fate, make }
}

fn preface_flipped(draft: &mut Draft) {
    let mut preface = PREFACE.to_vec();
    draft.random.flip(&mut preface, 3);
    draft.out.splice(..PREFACE.len(), preface);
}

fn preface_random(draft: &mut Draft) {
    let length = draft.random.below(200);
    draft.out = draft.random.bytes(length);
}

fn preface_cut(draft: &mut Draft) {
    let length = draft.random.below(PREFACE.len());
    draft.out.truncate(length);
}

fn frame_cut(draft: &mut Draft) {
    let whole = draft.out.len();
    draft.begin();
    let length = draft.random.within(whole, draft.out.len() - 1);
    draft.out.truncate(length);
}

fn frame_length(draft: &mut Draft) {
    let (stream, block) = (draft.open(), request());
    let length = u32::try_from(draft.random.below(2 * block.len())).unwrap();
    draft.frame_of_length(length, HEADERS, END_HEADERS | END_STREAM, stream, &block);
}

fn frame_too_long(draft: &mut Draft) {
    let (kind, stream) = (draft.random.pick(&[DATA, HEADERS, SETTINGS, PING]), draft.open());
    let length = u32::try_from(draft.random.within(16 * 1024 + 1, 0xff_ffff)).unwrap();
    draft.frame_of_length(length, kind, 0, stream, &[0; 64]);
}

fn frame_unknown(draft: &mut Draft) {
    let (kind, flags) = (draft.random.byte() | 0x10, draft.random.byte());
    let (stream, length) = (draft.random.word(), draft.random.below(100));
    let payload = draft.random.bytes(length);
    draft.frame(kind, flags, stream, &payload);
}

fn frame_random(draft: &mut Draft) {
    for _ in 0..draft.random.within(1, 8) {
        let (kind, flags) = (draft.random.byte() % 10, draft.random.byte());
        let stream = draft.random.pick(&[0, 1, 2, 3, 5, u32::MAX]);
        let length = draft.random.below(64);
        let payload = draft.random.bytes(length);
        draft.frame(kind, flags, stream, &payload);
    }
}

fn call_flipped(draft: &mut Draft) {
    let greeting = draft.out.len();
    draft.call(&request());
    draft.call(&request());
    draft.random.flip(&mut draft.out[greeting..], 6);
}

fn window_zero(draft: &mut Draft) {
    draft.frame(WINDOW_UPDATE, 0, 0, &[0; 4]);
}

fn window_overflow(draft: &mut Draft) {
    for _ in 0..2 {
        draft.frame(WINDOW_UPDATE, 0, 0, &(TOO_WIDE - 1).to_be_bytes());
    }
}

fn window_none(draft: &mut Draft) {
    draft.frame(SETTINGS, 0, 0, &setting(4, 0));
    draft.call(&request());
}

fn setting(identifier: u16, value: u32) -> Vec<u8> {
    [&identifier.to_be_bytes()[..], &value.to_be_bytes()].concat()
}

fn settings_value(draft: &mut Draft) {
    let (push, size) = (draft.random.word() | 2, draft.random.below(16 * 1024));
    let (identifier, value) =
        draft.random.pick(&[(2, push), (4, TOO_WIDE | push), (5, u32::try_from(size).unwrap()), (5, 1 << 24)]);
    draft.frame(SETTINGS, 0, 0, &setting(identifier, value));
}

fn settings_shape(draft: &mut Draft) {
    let stream = draft.open();
    let bytes = draft.random.within(1, 5);
    let payload = draft.random.bytes(bytes);
    match draft.random.below(3) {
        0 => draft.frame(SETTINGS, 0, 0, &payload),
        1 => draft.frame(SETTINGS, 0, stream, &setting(3, 100)),
        _ => draft.frame(SETTINGS, ACK, 0, &setting(3, 100)),
    }
}

fn settings_flood(draft: &mut Draft) {
    for _ in 0..FLOOD {
        let (identifier, value) = (draft.random.pick(&[1, 3, 4, 6, 0x99]), draft.random.word() / 2);
        draft.frame(SETTINGS, 0, 0, &setting(identifier, value));
    }
}

fn ping_flood(draft: &mut Draft) {
    for _ in 0..FLOOD {
        draft.frame(PING, 0, 0, b"a flood!");
    }
}

fn ping_shape(draft: &mut Draft) {
    let (stream, length) = (draft.random.pick(&[0, 1, 3]), draft.random.below(40));
    // On stream 0, a length of eight bytes would be right.
    let payload = draft.random.bytes(if stream == 0 && length == 8 { 9 } else { length });
    draft.frame(PING, 0, stream, &payload);
}

/// CVE-2023-44487.
fn reset_rapid(draft: &mut Draft) {
    for _ in 0..FLOOD {
        let stream = draft.begin();
        draft.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }
}

/// CVE-2025-8671: the peer makes the daemon reset its streams.
fn reset_provoked(draft: &mut Draft) {
    for _ in 0..FLOOD {
        let stream = draft.begin();
        draft.frame(WINDOW_UPDATE, 0, stream, &[0; 4]);
    }
}

fn reset_shape(draft: &mut Draft) {
    let length = draft.random.pick(&[0, 3, 5, 4]);
    let stream = if length == 4 { draft.random.pick(&[0, 99]) } else { draft.begin() };
    let payload = draft.random.bytes(length);
    draft.frame(RST_STREAM, 0, stream, &payload);
}

fn priority_loop(draft: &mut Draft) {
    for _ in 0..FLOOD {
        let (stream, weight) = (draft.random.pick(&[1, 3, 5]), draft.random.byte());
        let upon: u32 = draft.random.pick(&[1, 3, 5]);
        draft.frame(PRIORITY, 0, stream, &[&upon.to_be_bytes()[..], &[weight]].concat());
    }
}

fn priority_length(draft: &mut Draft) {
    let (stream, length) = (draft.open(), draft.random.pick(&[0, 4, 6]));
    draft.frame(PRIORITY, 0, stream, &[0; 6][..length]);
}

fn data_nowhere(draft: &mut Draft) {
    let stream = draft.random.pick(&[0, 1, 77]);
    draft.frame(DATA, 0, stream, b"lost");
}

fn data_late(draft: &mut Draft) {
    draft.call(&request());
    let stream = draft.open() - 2;
    draft.frame(DATA, END_STREAM, stream, b"too late");
}

fn data_padding(draft: &mut Draft) {
    let stream = draft.begin();
    let length = draft.random.within(1, 100);
    let mut payload = draft.random.bytes(length);
    payload[0] = u8::try_from(draft.random.within(length, 255)).unwrap();
    draft.frame(DATA, PADDED, stream, &payload);
}

fn data_empty(draft: &mut Draft) {
    let stream = draft.begin();
    for _ in 0..4 * FLOOD {
        draft.frame(DATA, 0, stream, &[]);
    }
}

fn stream_number(draft: &mut Draft) {
    let numbers = draft.random.pick(&[[2, 2], [0, 0], [9, 3], [5, 4]]);
    for stream in numbers {
        draft.frame(HEADERS, END_HEADERS | END_STREAM, stream, &request());
    }
}

fn stream_pushed(draft: &mut Draft) {
    let stream = draft.begin();
    draft.frame(PUSH_PROMISE, END_HEADERS, stream, &[&2_u32.to_be_bytes()[..], &request()].concat());
}

fn stream_after_goaway(draft: &mut Draft) {
    draft.frame(GOAWAY, 0, 0, &[0; 8]);
    draft.call(&request());
    let flags = draft.random.pick(&[0, END_HEADERS]);
    draft.frame(CONTINUATION, flags, 1, &[]);
}
