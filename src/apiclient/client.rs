//! The HTTP client of one API server. It lists what the API server serves, and patches objects: one request for each
//! object, on a few connections that stay open.
//!
//! A request is never repeated here: the sweep decides that.

use std::{error::Error, time::Duration};

use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Request, Response,
    header::{ACCEPT, CONTENT_TYPE, HeaderMap, RETRY_AFTER, USER_AGENT},
};
use kube::{
    Client,
    client::{Body, ClientBuilder},
};
use serde::de::DeserializeOwned;

use crate::telemetry::causes;

use super::{
    access::{AccessError, KubeAccess},
    admission::{Admission, AdmissionList, AdmissionPolicy, PolicyBinding, WebhookConfiguration},
    answer::{Answer, ObjectAnswer, OnlyMetadata, RewriteAnswer, Unanswered, reason},
    migration::{GROUP, MigrationState, NewMigration, PLURAL, ShownMigration, VERSIONS},
    reason::{CredentialsError, no_credentials},
    served::{GroupList, ObjectRef, ServedGroup, ServedList, ServedResource, group_path},
};

/// The media type that asks for the metadata of the object only.
const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// The path of the API group that configures admission.
const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
const MERGE_PATCH: &str = "application/merge-patch+json";
const JSON: &str = "application/json";
const AGENT: &str = concat!("claviger/", env!("CARGO_PKG_VERSION"));

/// The time limit of one request. An API server ends a request after 60 s by default.
const REQUEST: Duration = Duration::from_secs(90);
const CONNECT: Duration = Duration::from_secs(10);

/// The greatest length of an answer in bytes. Metadata has at most 256 KiB of annotations, and managed fields.
const ANSWER_MAX: usize = 4 << 20;

/// The requests that re-encryption makes to an API server.
pub trait ObjectApi: Send + Sync + 'static {
    /// Makes the API server rewrite one object without changing it.
    fn rewrite(&self, object: &ObjectRef) -> impl Future<Output = RewriteAnswer> + Send;

    /// Requests `/readyz`, so that the API server calls Status now. Otherwise it calls Status once a minute.
    fn poke(&self) -> impl Future<Output = ()> + Send;

    /// Returns the names of all groups but the core group.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses.
    fn groups(&self) -> impl Future<Output = Result<Vec<String>, ApiError>> + Send;

    /// Returns the resources of `group` that can be patched. Empty if the group is not served.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses.
    fn served(&self, group: &str) -> impl Future<Output = Result<Vec<ServedResource>, ApiError>> + Send;
}

/// Why an API server did not list what it serves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// Nobody answers at the API server's address.
    #[error("the API server at {url}: {reason}")]
    Unreachable {
        /// The address of the API server.
        url: String,
        /// The reason why the connection failed.
        reason: String,
    },
    /// Nothing was sent, because there are no credentials.
    #[error(transparent)]
    NoCredentials(CredentialsError),
    /// The API server refuses the request.
    #[error("the API server at {url} answered HTTP {status} to {path}: {reason}")]
    Refused {
        /// The address of the API server.
        url: String,
        /// The HTTP status code.
        status: u16,
        /// The path that was requested.
        path: String,
        /// The reason that the API server gives.
        reason: String,
    },
    /// The server does not serve `/api/v1`, which every API server has.
    #[error("the server at {url} is not an API server: it does not serve /api/v1")]
    NoApi {
        /// The address of the server.
        url: String,
    },
    /// The answer is not what the API defines.
    #[error("the answer of the API server at {url} to {path} has another form: {reason}")]
    Malformed {
        /// The address of the API server.
        url: String,
        /// The path that was requested.
        path: String,
        /// The reason why the answer was refused.
        reason: String,
    },
}

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("no answer within {} s", REQUEST.as_secs())]
    Late,
    #[error(transparent)]
    NoCredentials(CredentialsError),
    #[error("{}", causes(&**.0))]
    Failed(Box<dyn Error + Send + Sync>),
}

impl SendError {
    fn of(error: kube::Error) -> Self {
        no_credentials(&error).map_or_else(|| Self::Failed(error.into()), Self::NoCredentials)
    }
}

/// A client of one API server, over HTTP.
pub struct ApiClient {
    client: Client,
    url: String,
}

impl ApiClient {
    /// Makes a client. The client connects with its first request.
    ///
    /// # Errors
    /// When there is no kubeconfig, or it does not make a client.
    pub async fn new(access: &KubeAccess) -> Result<Self, AccessError> {
        let mut config = access.read().await?;
        config.connect_timeout = Some(CONNECT);
        // The sweep decides when a request is repeated.
        config.default_retry = false;
        let url = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let builder = ClientBuilder::try_from(config).map_err(|error| CredentialsError::of_client(&error))?;
        Ok(Self { client: builder.build(), url })
    }

    /// Returns the address of the API server.
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn send(&self, request: Request<Body>) -> Result<RawAnswer, SendError> {
        let exchange = async {
            let answer = self.client.send(request).await.map_err(SendError::of)?;
            let (parts, body) = Response::into_parts(answer);
            let body = Limited::new(body, ANSWER_MAX).collect().await;
            let body = body.map_err(SendError::Failed)?;
            let (status, body) = (parts.status.as_u16(), body.to_bytes().to_vec());
            Ok(RawAnswer { status, headers: parts.headers, body })
        };
        tokio::time::timeout(REQUEST, exchange).await.unwrap_or(Err(SendError::Late))
    }

    /// Requests `path`. Returns `None` if the API server does not serve the path.
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, ApiError> {
        self.ask(Method::GET, path, Body::empty()).await
    }

    /// Sends a request. Returns `None` if the API server does not serve the path.
    async fn ask<T: DeserializeOwned>(&self, method: Method, path: &str, body: Body) -> Result<Option<T>, ApiError> {
        let url = || self.url.clone();
        let sent = match request(method, path, JSON, body) {
            Ok(request) => self.send(request).await,
            Err(error) => Err(SendError::Failed(error.into())),
        };
        let RawAnswer { status, body, .. } = sent.map_err(|error| match error {
            SendError::NoCredentials(reason) => ApiError::NoCredentials(reason),
            error => ApiError::Unreachable { url: url(), reason: error.to_string() },
        })?;
        let path = || path.to_owned();
        match status {
            200 | 201 => serde_json::from_slice(&body).map(Some).map_err(|error| ApiError::Malformed {
                url: url(),
                path: path(),
                reason: error.to_string(),
            }),
            404 => Ok(None),
            _ => {
                let reason = reason(&Answer { status, retry_after: None, body: &body });
                Err(ApiError::Refused { url: url(), status, path: path(), reason })
            }
        }
    }

    /// Returns the webhooks and policies that the API server asks before it writes.
    ///
    /// # Errors
    /// When the API server does not answer, or does not let this user list them.
    pub async fn admissions(&self) -> Result<Vec<Admission>, ApiError> {
        let mut found = Vec::new();
        for (plural, kind) in [
            ("validatingwebhookconfigurations", "ValidatingWebhookConfiguration"),
            ("mutatingwebhookconfigurations", "MutatingWebhookConfiguration"),
        ] {
            let list: AdmissionList<WebhookConfiguration> = self.admission(plural).await?;
            found.extend(list.webhooks(kind));
        }
        let policies: AdmissionList<AdmissionPolicy> = self.admission("validatingadmissionpolicies").await?;
        let bindings: AdmissionList<PolicyBinding> = self.admission("validatingadmissionpolicybindings").await?;
        let denying = bindings.into_items().filter(PolicyBinding::denies);
        found.extend(policies.in_force("ValidatingAdmissionPolicy", denying));
        // Earlier versions of Kubernetes serve these as v1beta1 or not at all, and then the lists are empty.
        let policies: AdmissionList<AdmissionPolicy> = self.admission("mutatingadmissionpolicies").await?;
        let bindings: AdmissionList<PolicyBinding> = self.admission("mutatingadmissionpolicybindings").await?;
        found.extend(policies.in_force("MutatingAdmissionPolicy", bindings.into_items()));
        Ok(found)
    }

    /// Returns the revision of the object at `path`. Returns `None` if the API server does not have the object.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses.
    pub async fn revision_of(&self, path: &str) -> Result<Option<u64>, ApiError> {
        let found: Option<OnlyMetadata> = self.get(path).await?;
        Ok(found.and_then(|found| found.revision()))
    }

    /// Returns the path of the migrations, if the API server has the API of the migrator.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses.
    pub async fn migrations(&self) -> Result<Option<String>, ApiError> {
        let Some(group) = self.get::<ServedGroup>(&group_path(GROUP)).await? else { return Ok(None) };
        let mut versions = group.paths();
        versions.retain(|path| VERSIONS.iter().any(|version| path.ends_with(&format!("/{version}"))));
        let served = self.resources(&versions).await?;
        Ok(served.into_iter().find(|resource| resource.name == PLURAL).map(|resource| resource.base))
    }

    /// Creates a migration of a resource below the path that [`Self::migrations`] has returned. Returns its name.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses.
    pub async fn migrate(&self, base: &str, resource: &str) -> Result<String, ApiError> {
        let path = format!("{base}/{PLURAL}");
        let malformed = |reason: String| ApiError::Malformed { url: self.url.clone(), path: path.clone(), reason };
        let body =
            serde_json::to_vec(&NewMigration::of(base, resource)).map_err(|error| malformed(error.to_string()))?;
        let created: Option<ShownMigration> = self.ask(Method::POST, &path, Body::from(body)).await?;
        created.map(ShownMigration::name).ok_or_else(|| malformed("it is not served any more".to_owned()))
    }

    /// Returns how far a migration is.
    ///
    /// # Errors
    /// When the API server does not answer, or refuses.
    pub async fn migration(&self, base: &str, name: &str) -> Result<MigrationState, ApiError> {
        let shown: Option<ShownMigration> = self.get(&format!("{base}/{PLURAL}/{name}")).await?;
        Ok(shown.map_or(MigrationState::Deleted, ShownMigration::state))
    }

    /// Returns a list of configuration objects of admission. The list is empty if the API server does not serve their
    /// kind.
    async fn admission<T: DeserializeOwned>(&self, plural: &str) -> Result<AdmissionList<T>, ApiError> {
        Ok(self.get(&format!("{ADMISSION}/{plural}")).await?.unwrap_or_default())
    }

    /// Returns the resources of a group. Each resource is taken from the first of `versions` that serves it.
    async fn resources(&self, versions: &[String]) -> Result<Vec<ServedResource>, ApiError> {
        let mut served: Vec<ServedResource> = Vec::new();
        for base in versions {
            let Some(list) = self.get::<ServedList>(base).await? else { continue };
            for resource in list.patchable(base) {
                if served.iter().all(|other| other.name != resource.name) {
                    served.push(resource);
                }
            }
        }
        Ok(served)
    }
}

/// An answer of the API server, not decoded yet.
struct RawAnswer {
    status: u16,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl ObjectApi for ApiClient {
    async fn rewrite(&self, object: &ObjectRef) -> RewriteAnswer {
        let request = match request(Method::PATCH, &object.path(), METADATA, Body::from(b"{}".to_vec())) {
            Ok(request) => request,
            Err(error) => return ObjectAnswer::Refused(format!("its name is no part of a path: {error}")).into(),
        };
        match self.send(request).await {
            Ok(RawAnswer { status, headers, body }) => {
                let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                Answer { status, retry_after, body: &body }.into()
            }
            Err(SendError::Late) => Unanswered::Busy { wait: None, reason: SendError::Late.to_string() }.into(),
            Err(SendError::NoCredentials(reason)) => Unanswered::NoCredentials(reason).into(),
            Err(error @ SendError::Failed(_)) => Unanswered::Unreachable(error.to_string()).into(),
        }
    }

    async fn poke(&self) {
        if let Ok(request) = request(Method::GET, "/readyz", JSON, Body::empty()) {
            // The result does not matter: the answers to patches show whether the API server is ready.
            let _ = self.send(request).await;
        }
    }

    async fn groups(&self) -> Result<Vec<String>, ApiError> {
        let list = self.get::<GroupList>("/apis").await?;
        Ok(list.into_iter().flat_map(GroupList::names).collect())
    }

    async fn served(&self, group: &str) -> Result<Vec<ServedResource>, ApiError> {
        if group.is_empty() {
            let served = self.resources(&["/api/v1".to_owned()]).await?;
            return if served.is_empty() { Err(ApiError::NoApi { url: self.url.clone() }) } else { Ok(served) };
        }
        match self.get::<ServedGroup>(&group_path(group)).await? {
            Some(group) => self.resources(&group.paths()).await,
            None => Ok(Vec::new()),
        }
    }
}

fn request(method: Method, path: &str, accept: &str, body: Body) -> Result<Request<Body>, hyper::http::Error> {
    let content = match method {
        Method::PATCH => Some(MERGE_PATCH),
        Method::POST => Some(JSON),
        _ => None,
    };
    let request = Request::builder().method(method).uri(path).header(ACCEPT, accept).header(USER_AGENT, AGENT);
    // An API server refuses to read a group if the request says that its body is a patch.
    let request = content.into_iter().fold(request, |request, content| request.header(CONTENT_TYPE, content));
    request.body(body)
}
