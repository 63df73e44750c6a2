//! Sends the calls of [`super::calls`], and checks that each kind of call gets an allowed answer.
//!
//! Invariant: if a Decrypt returns a plaintext, it is the one that was encrypted.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    os::unix::net::SocketAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use hyper::{
    Request,
    body::{Body, Bytes, Frame},
    header::HeaderValue,
};
use prost::Message;
use tokio::{runtime::Runtime, task::JoinSet, time::timeout};
use tonic::codegen::Service;
use tonic::{Code, Status, transport::Channel};

use super::{
    calls::{Call, Kind, SEED, Sample},
    good::{self, api::DecryptResponse},
    random::Random,
    victim::HANG,
};

/// The number of answers, by kind of input and code.
pub(super) type Answers = BTreeMap<(&'static str, String), u64>;

/// Makes `count` calls at the same time over a new connection, and counts the answers.
pub(super) fn send(
    runtime: &Runtime,
    address: &SocketAddr,
    kind: &Kind,
    sample: &Sample,
    (random, count): (&mut Random, u64),
) -> Result<Answers, String> {
    runtime.block_on(async {
        let channel = good::connect(address).await?;
        let calls = (0..count).map(|_| (kind.make)(random, sample));
        let mut pending: JoinSet<_> = calls.map(|call| judge(channel.clone(), call, kind.codes)).collect();
        let mut answers = Answers::new();
        while let Some(code) = pending.join_next().await {
            let code = code.unwrap().map_err(|wrong| format!("{}: {wrong}", kind.name))?;
            *answers.entry((kind.name, format!("{code:?}"))).or_default() += 1;
        }
        Ok(answers)
    })
}

async fn judge(channel: Channel, call: Call, codes: &[Code]) -> Result<Code, String> {
    let (method, body) = (call.method, base16ct::lower::encode_string(&call.body));
    let answer = timeout(HANG, ask(channel, call)).await;
    let (status, message) = answer.unwrap_or_else(|_| Err("no answer".to_owned()))?;
    if !codes.contains(&status.code()) {
        return Err(format!("answered with {status:?}, of {codes:?}: {method} {body}"));
    }
    let plaintext = message.get(5..).map(DecryptResponse::decode);
    match plaintext {
        Some(Ok(answer)) if method == "Decrypt" && answer.plaintext != SEED => {
            Err(format!("a plaintext that nobody encrypted: {body}"))
        }
        Some(_) if status.code() != Code::Ok => Err(format!("a refusal with an answer: {body}")),
        _ => Ok(status.code()),
    }
}

/// Returns the status of a call, and the bytes of its answer.
async fn ask(mut channel: Channel, call: Call) -> Result<(Status, Vec<u8>), String> {
    let mut request = Request::post(format!("http://localhost/v2.KeyManagementService/{}", call.method))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(Whole(Some(call.body.into()))))
        .unwrap();
    if let Some(encoding) = call.encoding {
        request.headers_mut().insert("grpc-encoding", HeaderValue::from_bytes(&encoding).unwrap());
    }
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.map_err(|error| format!("{error:?}"))?;
    let response = channel.call(request).await.map_err(|error| format!("{error:?}"))?;
    let (head, body) = response.into_parts();
    let (mut status, mut message, mut body) = (Status::from_header_map(&head.headers), Vec::new(), pin!(body));
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        match frame.map_err(|status| format!("{status:?}"))?.into_data() {
            Ok(data) => message.extend(data),
            Err(trailers) => status = trailers.trailers_ref().and_then(Status::from_header_map),
        }
    }
    Ok((status.ok_or("an answer without a status")?, message))
}

/// A body of these bytes.
struct Whole(Option<Bytes>);

impl Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.take().map(|bytes| Ok(Frame::data(bytes))))
    }
}
