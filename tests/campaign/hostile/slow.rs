//! Slow peers: some begin and do not finish, some ask and do not read, some connect and leave.

use std::{
    io::{self, ErrorKind, Read, Write},
    os::unix::net::{SocketAddr, UnixStream},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    process::{Uid, geteuid},
    thread::set_thread_uid,
};

use super::{
    good::{self, GoodClient, runtime},
    random::Random,
    victim::{HANG, Victim, connect},
    wire::{self, CONTINUATION, DATA, Draft, HEADERS, PING, PREFACE, SETTINGS},
};

/// The number of places for connections in the daemon.
const PLACES: usize = 16;

/// A little more than the daemon waits for a preface, a call and the reading of an answer.
const PATIENCE: Duration = Duration::from_secs(6);

/// A user who may not connect.
const NOBODY: u32 = 65534;

/// The duration of a flood, and the least number of its connections.
const FLOOD: (Duration, u64) = (Duration::from_secs(3), 10_000);

/// The bytes that a slow peer sends before it stops.
type Way = fn(&mut Draft);

const WAYS: [(&str, Way); 6] = [
    ("says nothing", |draft| draft.out.clear()),
    ("half a preface", |draft| draft.out.truncate(PREFACE.len() / 2)),
    ("half a frame", |draft| draft.out.truncate(PREFACE.len() + 5)),
    ("headers without end", |draft| {
        let stream = draft.open();
        draft.frame(HEADERS, 0, stream, &wire::request());
        draft.frame(CONTINUATION, 0, stream, &[]);
    }),
    ("bodies without end", |draft| {
        for _ in 0..100 {
            let stream = draft.begin();
            draft.frame(DATA, 0, stream, &[0; 3]);
        }
    }),
    ("no window for the answers", |draft| {
        draft.frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        for _ in 0..100 {
            draft.call(&wire::request());
        }
    }),
];

/// Sends the bytes of a draft, and nothing more.
fn begin(address: &SocketAddr, way: Way) -> UnixStream {
    try_begin(address, way).unwrap()
}

/// Begins in the same way. The daemon may close the connection before the peer has sent everything.
fn try_begin(address: &SocketAddr, way: Way) -> io::Result<UnixStream> {
    let mut random = Random::nth(0, 0);
    let mut draft = Draft::new(&mut random);
    way(&mut draft);
    let mut stream = connect(address);
    stream.write_all(&draft.out)?;
    Ok(stream)
}

/// Whether the daemon has closed the connection. Reads all bytes that it sent before.
fn is_closed(stream: &mut UnixStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    loop {
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

#[test]
#[ignore = "campaign"]
fn slow_peers_of_every_kind_are_not_noticed() {
    let mut victim = Victim::on_path();
    let (before, good) = (victim.vitals(), GoodClient::start(victim.address()));
    let mut peers = Vec::new();
    for (name, way) in WAYS.iter().cycle().take(PLACES - 4) {
        peers.push((name, begin(victim.address(), *way)));
    }
    let mut trickle = connect(victim.address());
    let start = Instant::now();
    // At one byte of the preface at a time, the whole would take twice as long as a preface may.
    while start.elapsed() < PATIENCE {
        let at = usize::try_from(start.elapsed().as_millis() / 500).unwrap();
        let _ = trickle.write(&PREFACE[at..=at]);
        thread::sleep(Duration::from_millis(500));
    }
    let report = good.finish();
    assert!(is_closed(&mut trickle), "a preface took longer than it may");
    for (name, stream) in &mut peers {
        let preface_is_missing = name.contains("nothing") || name.contains("preface");
        assert_eq!(is_closed(stream), preface_is_missing, "{name}");
    }
    println!("{report:?}; with the slow peers {:?}", victim.vitals());
    assert!(report.fresh > 0);
    drop((peers, trickle));
    victim.assert_unharmed(&before);
}

/// Sends pings and never reads the answers, until the daemon stops reading. Returns `None` if the daemon reads for
/// ever.
fn ping_without_reading(address: &SocketAddr) -> Option<(UnixStream, usize)> {
    let mut peer = begin(address, |_| {});
    peer.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut random = Random::nth(0, 0);
    let mut draft = Draft::new(&mut random);
    draft.out.clear();
    for _ in 0..1000 {
        draft.frame(PING, 0, 0, b"read me!");
    }
    let mut written = 0;
    while let Ok(more) = peer.write(&draft.out) {
        written += more;
        if written > 64 * 1024 * 1024 {
            return None;
        }
    }
    Some((peer, written))
}

#[test]
#[ignore = "campaign"]
fn a_peer_that_never_reads_does_not_fill_the_memory() {
    let mut victim = Victim::on_path();
    let (before, good) = (victim.vitals(), GoodClient::start(victim.address()));
    let (peer, written) =
        ping_without_reading(victim.address()).expect("the daemon reads on though nobody reads its answers");
    println!("{written} bytes of pings were taken in, {:?}; {:?}", victim.vitals(), good.finish());
    drop(peer);
    victim.assert_unharmed(&before);
}

#[test]
#[ignore = "campaign"]
fn silent_peers_in_every_place_are_let_go_in_seconds() {
    let mut victim = Victim::on_path();
    let (before, good) = (victim.vitals(), GoodClient::start_on_one_connection(victim.address()));
    let start = Instant::now();
    let silent: Vec<_> = (1..PLACES).map(|_| connect(victim.address())).collect();
    let runtime = runtime();
    assert!(runtime.block_on(good::served(victim.address())).is_err(), "a seventeenth connection was served");
    while runtime.block_on(good::served(victim.address())).is_err() {
        assert!(start.elapsed() < HANG, "silent peers keep everybody out");
        thread::sleep(Duration::from_millis(50));
    }
    println!("a new client was served after {:.1?}; {:?}", start.elapsed(), good.finish());
    drop((silent, runtime));
    victim.assert_unharmed(&before);
}

/// Connects and closes again and again. Returns how often.
fn flood(address: &SocketAddr) -> u64 {
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < FLOOD.0 || count < FLOOD.1 {
        drop(connect(address));
        count += 1;
    }
    count
}

#[test]
#[ignore = "campaign"]
fn a_flood_of_connections_is_survived() {
    let mut victim = Victim::on_path();
    let (before, good) = (victim.vitals(), GoodClient::start_on_one_connection(victim.address()));
    let address = victim.address().clone();
    let flood = thread::spawn(move || flood(&address));
    let (runtime, mut new) = (runtime(), [0, 0]);
    while !flood.is_finished() {
        let served = runtime.block_on(good::served(victim.address())).is_ok();
        new[usize::from(served)] += 1;
    }
    let (connects, ended, log) = (flood.join().unwrap(), Instant::now(), victim.log());
    println!("{connects} connects; of new clients [turned away, served] were {new:?}; {:?}", good.finish());
    println!("log: {} lines, {} bytes", log.lines, log.bytes);
    // Connections of the flood that still wait may be accepted first.
    while runtime.block_on(good::served(victim.address())).is_err() {
        assert!(ended.elapsed() < HANG, "nobody is served after the flood");
    }
    drop(runtime);
    victim.assert_unharmed(&before);
}

#[test]
#[ignore = "campaign"]
fn a_flood_of_a_user_who_may_not_connect_is_not_noticed() {
    if !geteuid().is_root() {
        return crate::harness::progress::skipped("only root can play another user");
    }
    let mut victim = Victim::on_abstract_name();
    let (before, good) = (victim.vitals(), GoodClient::start(victim.address()));
    let address = victim.address().clone();
    let nobody = thread::spawn(move || {
        // The kernel notes the user of the thread that connects; this thread ends as that user.
        set_thread_uid(Uid::from_raw(NOBODY)).unwrap();
        let _callers = [(); PLACES].map(|()| try_begin(&address, |draft| draft.call(&wire::request())));
        flood(&address)
    });
    let connects = nobody.join().unwrap();
    let (report, log) = (good.finish(), victim.log());
    println!("{connects} connects; {report:?}; log: {} lines, {} bytes", log.lines, log.bytes);
    assert!(report.fresh > 0);
    assert_eq!(report.retries, 0, "a refused user took the place of another");
    assert!(victim.logged("peer refused") > 0);
    assert!(log.lines < 100, "{} lines", log.lines);
    victim.assert_unharmed(&before);
}
