//! Answers one call: limits its time, counts it, and logs it if it is refused.

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::{Request, Response, body::Incoming};
use tokio::time::timeout;
use tonic::{Code, Status, body::Body};

use crate::{
    grpc::{
        calls::{Calls, method},
        refusal::{self, Refusal},
    },
    service::Service,
    telemetry::method::Method,
};

/// The time limit from a call's headers to its answer. An API server waits for 3 s, and should receive an answer before
/// it gives up.
const CALL_TIMEOUT: Duration = Duration::from_millis(2500);

/// Answers one call within its time limit. Without `calls`, the peer is refused.
pub(super) async fn answer(
    calls: Option<Calls>,
    service: Arc<Service>,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let path = request.uri().path();
    let method = method(path);
    // The name of a method that the API does not have, as the peer sent it.
    let other = (method == Method::Other).then(|| refusal::printable(path.rsplit('/').next().unwrap_or_default()));
    let counted = service.metrics().call(method);
    let is_allowed = calls.is_some();
    let response = match calls {
        Some(calls) => answer_allowed(calls, request).await,
        None => Refusal::Peer.status("").into_http(),
    };
    let refused = response.extensions().get::<Status>();
    counted.answered(refused.map_or(Code::Ok, Status::code));
    if let Some(status) = refused.filter(|_| is_allowed) {
        let quota = || service.refused_calls().take(method, status.code().into());
        refusal::log(other.as_deref().unwrap_or(method.as_str()), status, quota);
    }
    Ok(response)
}

async fn answer_allowed(mut calls: Calls, request: Request<Incoming>) -> Response<Body> {
    let late = |_| Refusal::Late(CALL_TIMEOUT).status("").into_http();
    timeout(CALL_TIMEOUT, calls.answer(request)).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::io::AsyncWriteExt;
    use tonic::codegen::Service as _;

    use super::*;
    use crate::{
        grpc::api::{EncryptRequest, StatusRequest},
        listen::testing::{
            BEGIN_STATUS, CapturedLog, GREETING, HALF, Plugin, RESET, begin_status, counted, endpoint, refusal,
        },
        service::testing::open_service,
    };

    #[tokio::test]
    async fn an_unknown_method_is_unimplemented() {
        let plugin = Plugin::start(open_service());
        let mut channel = plugin.channel(endpoint()).await;
        let request =
            Request::post("http://localhost/v1beta1.KeyManagementService/Version").body(Body::default()).unwrap();
        std::future::poll_fn(|cx| channel.poll_ready(cx)).await.unwrap();
        let response = channel.call(request).await.unwrap();
        assert_eq!(refusal(&response).unwrap().code(), Code::Unimplemented);
    }

    #[tokio::test]
    async fn calls_and_connections_are_counted_by_what_became_of_them() {
        let service = open_service();
        let plugin = Plugin::start(Arc::clone(&service));
        let mut client = plugin.client().await;
        client.status(StatusRequest {}).await.unwrap();
        let request = EncryptRequest { plaintext: vec![], uid: String::new() };
        client.encrypt(request).await.unwrap_err();
        let (feed, late) = begin_status(plugin.channel(endpoint()).await);
        feed.send(HALF).unwrap();
        let (_feed, given_up) = begin_status(plugin.channel(endpoint()).await);
        counted(&service, "claviger_connections 3").await;
        drop(given_up);
        late.await;
        for line in [
            r#"claviger_calls_total{method="Status",code="OK"} 1"#,
            r#"claviger_calls_total{method="Encrypt",code="INVALID_ARGUMENT"} 1"#,
            r#"claviger_calls_total{method="Status",code="DEADLINE_EXCEEDED"} 2"#,
            r#"claviger_connections_total{result="accepted"} 3"#,
        ] {
            counted(&service, line).await;
        }
        drop(client);
        plugin.end().await;
        counted(&service, "claviger_connections 0").await;
    }

    #[tokio::test]
    async fn a_peer_whose_calls_all_fail_does_not_fill_the_log() {
        let (log, start) = (CapturedLog::start(), Instant::now());
        let plugin = Plugin::start(open_service());
        let mut client = plugin.client().await;
        let mut fail = async |calls| {
            for _ in 0..calls {
                client.encrypt(EncryptRequest { plaintext: vec![], uid: String::new() }).await.unwrap_err();
            }
        };
        fail(300).await;
        tokio::time::sleep(Duration::from_millis(1100)).await;
        fail(1).await;
        let lines = log.lines_with("call failed");
        assert!(lines.len() >= 2 && lines.len() as u64 <= 1 + start.elapsed().as_secs(), "{lines:?}");
        assert!(lines[0].contains("left_out=0") && !lines[1].contains("left_out=0"), "{lines:?}");
    }

    #[tokio::test]
    async fn a_call_that_is_reset_half_way_is_counted() {
        let service = open_service();
        let plugin = Plugin::start(Arc::clone(&service));
        let mut client = plugin.client().await;
        let mut stream = plugin.connect().await;
        stream.write_all(&[GREETING, BEGIN_STATUS].concat()).await.unwrap();
        client.status(StatusRequest {}).await.unwrap();
        stream.write_all(RESET).await.unwrap();
        // The status that tonic makes if a request body ends in a reset.
        counted(&service, r#"claviger_calls_total{method="Status",code="UNKNOWN"} 1"#).await;
    }

    #[tokio::test]
    async fn half_a_request_is_given_up_while_others_go_on() {
        let plugin = Plugin::start(open_service());
        let start = Instant::now();
        let (_feed, call) = begin_status(plugin.channel(endpoint()).await);
        let (feed, silent) = begin_status(plugin.channel(endpoint()).await);
        feed.send(HALF).unwrap();
        let mut client = plugin.client().await;
        client.status(StatusRequest {}).await.unwrap();
        for call in [refusal(&call.await), refusal(&silent.await)] {
            let status = call.unwrap();
            assert_eq!((status.code(), status.message()), (Code::DeadlineExceeded, "the call took longer than 2.5s"));
        }
        assert!(start.elapsed() >= CALL_TIMEOUT);
        client.status(StatusRequest {}).await.unwrap();
    }
}
