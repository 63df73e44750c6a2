//! Answers the three calls of the KMS API on one connection: Status, Encrypt and Decrypt.

use std::{collections::HashMap, fmt::Write, mem};

use hyper::{Request as HttpRequest, Response as HttpResponse, body::Incoming};
use tonic::codegen::Service as _;
use tonic::{Request, Response, Status, body::Body, metadata::AsciiMetadataValue};
use tracing::debug;

use super::{
    api::{
        CANARY, DecryptRequest, DecryptResponse, EncryptRequest, EncryptResponse, MESSAGE_LIMIT, PROBE, REPORT,
        StatusRequest, StatusResponse, VERSION,
        key_management_service_server::{KeyManagementService, KeyManagementServiceServer, SERVICE_NAME},
    },
    refusal::{Refusal, printable},
};
use crate::{
    service::{Connection, SelfReport},
    telemetry::{event, method::Method},
};

/// Answers the calls that come over one connection.
#[derive(Clone)]
pub struct Calls(KeyManagementServiceServer<Api>);

impl Calls {
    /// Makes the answerer of the calls of `connection`.
    pub fn new(connection: Connection) -> Self {
        let server = KeyManagementServiceServer::new(Api(connection));
        Self(server.max_decoding_message_size(MESSAGE_LIMIT).max_encoding_message_size(MESSAGE_LIMIT))
    }

    /// Answers one call. The answer to a refused call contains its [`Status`] among its extensions.
    pub async fn answer(&mut self, request: HttpRequest<Incoming>) -> HttpResponse<Body> {
        let Ok(response) = self.0.call(request).await;
        response
    }
}

/// Returns the method that the path of a request names.
pub fn method(path: &str) -> Method {
    match path.strip_prefix('/').and_then(|path| path.strip_prefix(SERVICE_NAME)) {
        Some("/Status") => Method::Status,
        Some("/Encrypt") => Method::Encrypt,
        Some("/Decrypt") => Method::Decrypt,
        _ => Method::Other,
    }
}

/// The three calls of the KMS API on one connection.
struct Api(Connection);

#[tonic::async_trait]
impl KeyManagementService for Api {
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        self.0.wait_until_unsealed().await;
        let is_probe = request.metadata().contains_key(PROBE);
        let canary = request.metadata().get(CANARY).and_then(|canary| canary.to_str().ok().map(ToOwned::to_owned));
        // A probe will not wrap, so the key that was announced to this connection stays the same.
        let health = if is_probe { self.0.health() } else { self.0.status() };
        let health = health.map_err(|sealed| Refusal::from(sealed).status(""))?;
        let mut response = Response::new(StatusResponse {
            version: VERSION.to_owned(),
            healthz: health.healthz.as_str().to_owned(),
            key_id: health.key_id.to_string(),
        });
        let report = if is_probe { self.0.report_for_peer(canary.as_deref()) } else { None };
        if let Some(report) = report.as_ref().and_then(metadata) {
            response.metadata_mut().insert(REPORT, report);
        }
        answered("Status", None);
        Ok(response)
    }

    async fn encrypt(&self, request: Request<EncryptRequest>) -> Result<Response<EncryptResponse>, Status> {
        let EncryptRequest { plaintext, uid } = request.into_inner();
        self.0.wait_until_unsealed().await;
        let wrapped = self.0.encrypt(plaintext).map_err(|error| Refusal::from(error).status(&uid))?;
        answered("Encrypt", Some(&uid));
        Ok(Response::new(EncryptResponse {
            ciphertext: wrapped.ciphertext,
            key_id: wrapped.key_id.to_string(),
            annotations: HashMap::new(),
        }))
    }

    async fn decrypt(&self, request: Request<DecryptRequest>) -> Result<Response<DecryptResponse>, Status> {
        let DecryptRequest { ciphertext, uid, key_id, annotations } = request.into_inner();
        self.0.wait_until_unsealed().await;
        let opened = self.0.decrypt(&key_id, &ciphertext, annotations.len());
        let seed = opened.map_err(|error| Refusal::from(error).status(&uid))?;
        answered("Decrypt", Some(&uid));
        // The plaintext is moved, not copied. From here on the allocator wipes it, as it wipes every other buffer of
        // the transport.
        Ok(Response::new(DecryptResponse { plaintext: mem::take(&mut *seed.into_bytes()) }))
    }
}

/// Encodes a report for the metadata of an answer. Returns `None` if that is not possible.
fn metadata(report: &SelfReport) -> Option<AsciiMetadataValue> {
    ascii(&serde_json::to_string(report).ok()?).parse().ok()
}

/// Escapes JSON to ASCII, because metadata must be ASCII. Source: RFC 8259, section 7.
fn ascii(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for unit in json.encode_utf16() {
        match u8::try_from(unit).ok().filter(u8::is_ascii) {
            Some(byte) => ascii.push(char::from(byte)),
            // Writing to a String cannot fail.
            None => drop(write!(ascii, "\\u{unit:04x}")),
        }
    }
    ascii
}

/// Logs an answered call at the level debug. It costs nothing at other levels.
fn answered(method: &'static str, uid: Option<&str>) {
    debug!(message = event::ANSWERED, method, uid = uid.map(printable));
}

#[cfg(test)]
mod tests {
    use std::{marker::PhantomData, sync::Arc};

    use tonic::Code;

    use super::*;
    use crate::{
        listen::testing::{CapturedLog, Plugin},
        service::{Service, testing::open_service},
    };

    const SEED: [u8; 32] = *b"a seed that no log may ever show";
    const UID: &str = "7f9c1d2e-0000-4000-8000-000000000001";

    fn encrypt(plaintext: impl Into<Vec<u8>>) -> EncryptRequest {
        EncryptRequest { plaintext: plaintext.into(), uid: UID.to_owned() }
    }

    fn decrypt(wrapped: &EncryptResponse) -> DecryptRequest {
        DecryptRequest {
            ciphertext: wrapped.ciphertext.clone(),
            uid: UID.to_owned(),
            key_id: wrapped.key_id.clone(),
            annotations: HashMap::new(),
        }
    }

    fn code_and_text(status: &Status) -> (Code, &str) {
        (status.code(), status.message())
    }

    #[tokio::test]
    async fn a_seed_goes_there_and_comes_back() {
        let plugin = Plugin::start(open_service());
        let mut client = plugin.client().await;
        let status = client.status(StatusRequest {}).await.unwrap().into_inner();
        assert_eq!((status.version.as_str(), status.healthz.as_str()), ("v2", "ok"));
        let wrapped = client.encrypt(encrypt(SEED)).await.unwrap().into_inner();
        assert_eq!(wrapped.key_id, status.key_id);
        assert!(wrapped.annotations.is_empty());
        assert_ne!(wrapped.ciphertext, SEED);
        let seed = client.decrypt(decrypt(&wrapped)).await.unwrap().into_inner();
        assert_eq!(seed.plaintext, SEED);
    }

    #[tokio::test]
    async fn every_refusal_reaches_the_client() {
        let plugin = Plugin::start(open_service());
        let mut client = plugin.client().await;
        let wrapped = client.encrypt(encrypt(SEED)).await.unwrap().into_inner();
        let good = decrypt(&wrapped);
        let forged = wrapped.ciphertext.iter().enumerate().map(|(at, byte)| if at == 80 { byte ^ 1 } else { *byte });
        let annotations = HashMap::from([("a.example".to_owned(), vec![1])]);
        for (request, code, text) in [
            (DecryptRequest { key_id: "k9".into(), ..good.clone() }, Code::NotFound, "unknown key_id"),
            (
                DecryptRequest { ciphertext: vec![0; 9], ..good.clone() },
                Code::InvalidArgument,
                "ciphertext is malformed",
            ),
            (
                DecryptRequest { ciphertext: forged.collect(), ..good.clone() },
                Code::InvalidArgument,
                "ciphertext failed authentication",
            ),
            (DecryptRequest { annotations, ..good.clone() }, Code::InvalidArgument, "annotations are not supported"),
        ] {
            assert_eq!(code_and_text(&client.decrypt(request).await.err().unwrap()), (code, text));
        }
        for size in [0, 513, 60_000] {
            let refused = client.encrypt(encrypt(vec![1; size])).await.unwrap_err();
            assert_eq!(code_and_text(&refused), (Code::InvalidArgument, "plaintext must be 1 to 512 bytes"), "{size}");
        }
    }

    #[tokio::test]
    async fn an_api_server_is_told_nothing_that_is_for_a_probe() {
        let plugin = Plugin::start(open_service());
        let answer = plugin.client().await.status(StatusRequest {}).await.unwrap();
        assert!(answer.metadata().get(REPORT).is_none(), "{:?}", answer.metadata());
    }

    #[tokio::test]
    async fn every_call_is_refused_while_sealed() {
        let plugin = Plugin::start(Arc::new(Service::default()));
        let mut client = plugin.client().await;
        let expected = (Code::Unavailable, "sealed: the keyring is not open yet");
        let wrapped = EncryptResponse { ciphertext: vec![1; 108], key_id: "k1".into(), annotations: HashMap::new() };
        assert_eq!(code_and_text(&client.status(StatusRequest {}).await.unwrap_err()), expected);
        assert_eq!(code_and_text(&client.encrypt(encrypt(SEED)).await.unwrap_err()), expected);
        assert_eq!(code_and_text(&client.decrypt(decrypt(&wrapped)).await.err().unwrap()), expected);
    }

    #[tokio::test]
    async fn messages_end_at_64_kib_and_the_log_has_no_length() {
        let log = CapturedLog::start();
        let plugin = Plugin::start(open_service());
        let mut client = plugin.client().await;
        // A plaintext of this length fits together with the tags and lengths of both fields and the uid.
        let fits = MESSAGE_LIMIT - (1 + 3) - (2 + UID.len());
        let refused = client.encrypt(encrypt(vec![1; fits])).await.unwrap_err();
        assert_eq!(code_and_text(&refused), (Code::InvalidArgument, "plaintext must be 1 to 512 bytes"));
        let refused = client.encrypt(encrypt(vec![1; fits + 1])).await.unwrap_err();
        let text = "Error, decoded message length too large: found 65537 bytes, the limit is: 65536 bytes";
        assert_eq!(code_and_text(&refused), (Code::OutOfRange, text));
        let line = &log.lines_with(r#"code="OUT_OF_RANGE""#)[0];
        assert!(line.contains(r#"reason="the message is longer than 64 KiB""#) && !line.contains("65537"), "{line}");
    }

    #[tokio::test]
    async fn every_line_of_a_call_names_it_and_none_shows_a_seed() {
        let log = CapturedLog::start();
        let plugin = Plugin::start(open_service());
        let mut client = plugin.client().await;
        let wrapped = client.encrypt(encrypt(SEED)).await.unwrap().into_inner();
        client.decrypt(decrypt(&wrapped)).await.unwrap();
        client.decrypt(DecryptRequest { key_id: "k9".into(), ..decrypt(&wrapped) }).await.err().unwrap();

        let answered = log.lines_with("call answered");
        assert!(answered[0].contains(r#"method="Encrypt" uid=""#), "{answered:?}");
        assert!(answered[1].contains(r#"method="Decrypt" uid=""#), "{answered:?}");
        let failed = log.lines_with("call failed");
        assert!(
            failed[0].contains("WARN") && failed[0].contains(r#"code="NOT_FOUND" reason="unknown key_id""#),
            "{failed:?}"
        );
        for line in answered.iter().chain(&failed) {
            assert!(line.contains(UID), "{line}");
        }
        for form in
            [String::from_utf8_lossy(&SEED).into_owned(), base16ct::lower::encode_string(&SEED), format!("{SEED:?}")]
        {
            assert!(log.lines_with(form.trim_matches(['[', ']'])).is_empty(), "{form}");
        }
    }

    #[tokio::test]
    async fn a_uid_cannot_forge_a_line_or_fill_the_log() {
        let log = CapturedLog::start();
        let plugin = Plugin::start(open_service());
        let mut client = plugin.client().await;
        let uid = format!("\n\u{1b}[2J{}", "x".repeat(9_000));
        client.encrypt(EncryptRequest { plaintext: vec![], uid }).await.unwrap_err();
        let failed = log.lines_with("call failed").join("");
        assert!(failed.contains(r"\\n\\u{1b}[2Jxxx"), "{failed}");
        assert!(failed.len() < 400, "{failed}");
        assert_eq!(printable(&"x".repeat(65)).len(), 64);
    }

    #[test]
    fn a_method_is_what_the_whole_path_says() {
        for (path, expected) in [
            ("/v2.KeyManagementService/Status", Method::Status),
            ("/v2.KeyManagementService/Encrypt", Method::Encrypt),
            ("/v2.KeyManagementService/Decrypt", Method::Decrypt),
            ("/v2.KeyManagementService/Rotate", Method::Other),
            ("/v1beta1.KeyManagementService/Encrypt", Method::Other),
            ("v2.KeyManagementService/Status", Method::Other),
            ("/Status", Method::Other),
            ("/", Method::Other),
        ] {
            assert_eq!(method(path), expected, "{path}");
        }
    }

    /// Says whether a type can be printed. If it can, the inherent constant exists, and takes precedence over the
    /// trait's.
    struct Printable<T>(PhantomData<T>);

    trait Otherwise {
        const ANSWER: bool = false;
    }

    impl<T> Otherwise for Printable<T> {}

    impl<T: std::fmt::Debug> Printable<T> {
        const ANSWER: bool = true;
    }

    #[test]
    fn messages_with_a_seed_cannot_be_printed() {
        let answers = [Printable::<EncryptRequest>::ANSWER, Printable::<DecryptResponse>::ANSWER];
        assert_eq!(answers, [false, false]);
        assert_eq!([Printable::<EncryptResponse>::ANSWER, Printable::<DecryptRequest>::ANSWER], [true, true]);
    }
}
