//! Servers that do not answer as etcd does when a scan asks for keys.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    thread,
};

use hyper::{Request as HttpRequest, body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    server::{Grpc, UnaryService},
};
use tonic_prost::ProstCodec;

use super::limited::scan;
use crate::harness::processes::Run;

#[derive(Clone, PartialEq, Message)]
struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    range_end: Vec<u8>,
    #[prost(int64, tag = "3")]
    limit: i64,
}

#[derive(Clone, PartialEq, Message)]
struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    header: Option<Header>,
    #[prost(message, repeated, tag = "2")]
    kvs: Vec<KeyValue>,
    #[prost(bool, tag = "3")]
    more: bool,
    #[prost(int64, tag = "4")]
    count: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(uint64, tag = "1")]
    cluster_id: u64,
    #[prost(int64, tag = "3")]
    revision: i64,
}

#[derive(Clone, PartialEq, Message)]
struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(int64, tag = "3")]
    mod_revision: i64,
    #[prost(bytes = "vec", tag = "5")]
    value: Vec<u8>,
}

/// The answer of a server to a request.
type Behaviour = fn(&RangeRequest) -> RangeResponse;

/// One call.
#[derive(Clone)]
struct Call(Behaviour);

impl UnaryService<RangeRequest> for Call {
    type Response = RangeResponse;
    type Future = Ready<Result<Response<RangeResponse>, Status>>;

    fn call(&mut self, request: Request<RangeRequest>) -> Self::Future {
        ready(Ok(Response::new((self.0)(request.get_ref()))))
    }
}

/// Starts a server that runs as long as this process, and returns its address.
fn start(behaviour: Behaviour) -> String {
    let (sender, address) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            sender.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service_fn(move |request: HttpRequest<Incoming>| async move {
                    let answer = if request.uri().path().ends_with("/Range") {
                        let codec = ProstCodec::<RangeResponse, RangeRequest>::default();
                        let mut grpc = Grpc::new(codec).max_encoding_message_size(usize::MAX);
                        grpc.unary(Call(behaviour), request).await
                    } else {
                        Status::unimplemented("no streams").into_http()
                    };
                    Ok::<_, Infallible>(answer)
                });
                tokio::spawn(http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service));
            }
        });
    });
    format!("http://{}", address.recv().unwrap())
}

fn answer(keys: impl Iterator<Item = Vec<u8>>, length: usize, more: bool, count: i64) -> RangeResponse {
    let header = Some(Header { cluster_id: 7, revision: 100 });
    let kvs = keys.map(|key| KeyValue { key, mod_revision: 9, value: vec![b'{'; length] }).collect();
    RangeResponse { header, kvs, more, count }
}

/// Returns the next `count` keys after the requested one.
fn after(request: &RangeRequest, count: u64) -> impl Iterator<Item = Vec<u8>> {
    let from = request.key.strip_prefix(b"/registry/pods/").and_then(|digits| digits.get(..12));
    let from: u64 = from.map_or(0, |digits| std::str::from_utf8(digits).unwrap().parse().unwrap());
    (from + 1..=from + count).map(|number| format!("/registry/pods/{number:012}").into_bytes())
}

/// Each server: its name, its behaviour, the exit code of a scan of it, and a text that the scan must print.
const SERVERS: [(&str, Behaviour, i32, &str); 8] = [
    ("repeats a key", |_| answer([b"/registry/pods/a".to_vec()].into_iter(), 10, true, 9), 7, "out of order"),
    ("never ends", |request| answer(after(request, 5000), 10, true, 9), 7, "counted 9 keys and has sent"),
    (
        "counts more than there can be",
        |request| answer(after(request, 1), 10, true, i64::MAX),
        7,
        "keys, and no etcd holds that many",
    ),
    ("has more and sends none", |_| answer([].into_iter(), 0, true, 9), 7, "further keys, and sends none"),
    ("counts more than it sends", |_| answer([].into_iter(), 0, false, 9), 6, "and sent only 0 of them"),
    (
        "sends very many empty keys",
        |_| answer((0..9_000_000).map(|_| Vec::new()), 0, false, 1),
        7,
        "more than 250000 fields",
    ),
    ("sends very many keys", |request| answer(after(request, 240_000), 150, false, 240_000), 7, "damaged"),
    (
        "sends one very large value",
        |request| answer(after(request, 1), 100 << 20, false, 1),
        3,
        "answers with more than",
    ),
];

#[test]
#[ignore = "campaign"]
fn a_server_that_is_no_etcd_neither_fills_the_memory_nor_holds_a_scan_for_ever() {
    let run = Run::new().unwrap();
    for (kind, behaviour, exit, expected) in SERVERS {
        let answer = scan(&run, &["--etcd-servers", &start(behaviour)]);
        println!("{kind}: exit {:?}, {:.2?}", answer.exit, answer.time);
        assert!(answer.has_ended_well() && answer.exit == Some(exit), "{kind}: {answer:?}");
        let text = format!("{}{}", answer.stdout, answer.stderr);
        assert!(text.contains(expected), "{kind}: {text}");
    }
}
