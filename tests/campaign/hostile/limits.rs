//! Sends inputs that are too large or too many for the daemon as a process. The limits of a call's length and of idle
//! connections are tested beside the code that sets them.

use std::{
    io::{ErrorKind, Write},
    os::unix::net::UnixStream,
    thread,
    time::Duration,
};

use tonic::Code;

use super::{
    good::{
        self, GoodClient,
        api::{EncryptRequest, key_management_service_client::KeyManagementServiceClient},
        runtime,
    },
    random::Random,
    victim::{HANG, Victim, connect},
    wire::{self, CONTINUATION, Draft, HEADERS},
};

/// The limit of descriptors for a daemon that needs 14 for itself, and one for each connection.
const FEW_DESCRIPTORS: u64 = 24;

#[test]
fn a_message_ends_at_64_kib() {
    let victim = Victim::on_path();
    runtime().block_on(async {
        let mut client = KeyManagementServiceClient::new(good::connect(victim.address()).await.unwrap());
        // The number of the field takes one byte, and its length three.
        for (length, code) in [(64 * 1024 - 4, Code::InvalidArgument), (64 * 1024 - 3, Code::OutOfRange)] {
            let request = EncryptRequest { plaintext: vec![1; length], uid: String::new() };
            assert_eq!(client.encrypt(request).await.unwrap_err().code(), code, "{length}");
        }
    });
    runtime().block_on(good::served(victim.address())).unwrap();
}

/// CVE-2024-27316. How much the daemon reads before it closes the connection depends on the h2 crate. It must close it.
#[test]
fn headers_without_end_are_cut_off() {
    let mut victim = Victim::on_path();
    let (before, good) = (victim.vitals(), GoodClient::start(victim.address()));
    for piece in [0, 1, 1000, 16 * 1024] {
        let mut random = Random::nth(0, 0);
        let mut draft = Draft::new(&mut random);
        let stream = draft.open();
        draft.frame(HEADERS, 0, stream, &wire::request());
        let mut peer = connect(victim.address());
        peer.write_all(&draft.out).unwrap();
        draft.out.clear();
        draft.frame(CONTINUATION, 0, stream, &filler(piece));
        let frames = (0..100_000).take_while(|_| peer.write_all(&draft.out).is_ok()).count();
        println!("pieces of {piece} bytes: {frames} frames went out");
        assert!(frames < 100_000, "the daemon takes in headers without end");
    }
    good.finish();
    victim.assert_unharmed(&before);
}

#[test]
fn a_daemon_without_descriptors_warns_once_a_minute_and_comes_back() {
    let mut victim = Victim::on_path();
    victim.limit_descriptors(FEW_DESCRIPTORS);
    let (before, good) = (victim.vitals(), GoodClient::start_on_one_connection(victim.address()));
    let warning = "cannot accept connections, still trying";
    for _ in 0..2 {
        let crowd: Vec<UnixStream> = (0..40).map(|_| connect(victim.address())).collect();
        victim.wait_until_logged(warning, 1);
        // In this time the daemon tries ten more times to accept.
        thread::sleep(Duration::from_secs(1));
        assert!(crowd.iter().any(is_waiting), "everybody was let in");
        drop(crowd);
        runtime().block_on(async {
            let served = async { while good::served(victim.address()).await.is_err() {} };
            tokio::time::timeout(HANG, served).await.expect("it does not come back");
        });
    }
    println!("{:?}", good.finish());
    victim.assert_unharmed(&before);
    assert_eq!(victim.logged(warning), 1, "once a minute is enough");
}

/// Returns `length` bytes of a valid header block.
fn filler(length: usize) -> Vec<u8> {
    // An entry of the static table: `:scheme: http`, or what is left of a header that came before.
    vec![0x86; length]
}

fn is_waiting(stream: &UnixStream) -> bool {
    use std::io::Read;
    stream.set_nonblocking(true).unwrap();
    matches!((&*stream).read(&mut [0; 1]), Err(error) if error.kind() == ErrorKind::WouldBlock)
}
