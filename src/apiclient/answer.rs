//! Decides what the API server's answer to an empty patch means for the object: a [`RewriteAnswer`].
//!
//! Invariant: an answer is decided by its HTTP status and its metadata, and never by the text of a message, except to
//! tell a lacking right from a webhook that refuses.

use std::time::Duration;

use serde::Deserialize;

use super::reason::CredentialsError;

/// The greatest length in bytes of a reason that is kept. A webhook can write a text of any length.
const REASON_MAX: usize = 300;

/// The outcome of a request to rewrite one object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RewriteAnswer {
    /// The API server said what became of the object.
    Object(ObjectAnswer),
    /// The API server said nothing about the object.
    Unanswered(Unanswered),
}

/// The API server's answer about one object that it was asked to rewrite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObjectAnswer {
    /// The API server answered with the object at this revision. It wrote the object if the revision is a new one.
    At(u64),
    /// The API server has no such object.
    Gone,
    /// Somebody else wrote the object at the same moment.
    Conflict,
    /// This user may not patch the object.
    Denied(String),
    /// The API server cannot write this object: it cannot decrypt it, or an admission webhook refuses it.
    Refused(String),
}

/// Why an API server said nothing about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unanswered {
    /// The API server is busy, or did not answer in time. It may say how long to wait.
    Busy {
        /// The time that the API server asks the client to wait.
        wait: Option<Duration>,
        /// The text of the API server's answer.
        reason: String,
    },
    /// Nobody answers at the API server's address. Contains the reason.
    Unreachable(String),
    /// The API server does not accept the credentials.
    Unauthenticated(String),
    /// Nothing was sent, because there are no credentials.
    NoCredentials(CredentialsError),
}

impl From<ObjectAnswer> for RewriteAnswer {
    fn from(answer: ObjectAnswer) -> Self {
        Self::Object(answer)
    }
}

impl From<Unanswered> for RewriteAnswer {
    fn from(unanswered: Unanswered) -> Self {
        Self::Unanswered(unanswered)
    }
}

/// The HTTP answer to a patch.
pub(super) struct Answer<'a> {
    /// The HTTP status code.
    pub(super) status: u16,
    /// The value of the header `Retry-After`, in seconds.
    pub(super) retry_after: Option<u64>,
    /// The metadata of the object, or a `Status`.
    pub(super) body: &'a [u8],
}

/// The metadata of an object.
#[derive(Deserialize)]
pub(super) struct OnlyMetadata {
    metadata: RevisionOnly,
}

impl OnlyMetadata {
    /// Returns the revision of the object, if it is a number.
    pub(super) fn revision(&self) -> Option<u64> {
        self.metadata.resource_version.parse().ok()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RevisionOnly {
    resource_version: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct StatusBody {
    message: String,
    reason: String,
}

impl From<Answer<'_>> for RewriteAnswer {
    fn from(answer: Answer<'_>) -> Self {
        let reason = || reason(&answer);
        let busy = || Unanswered::Busy { wait: answer.retry_after.map(Duration::from_secs), reason: reason() };
        match answer.status {
            200..=299 => written(answer.body).into(),
            401 => Unanswered::Unauthenticated(reason()).into(),
            403 if is_forbidden(answer.body) => ObjectAnswer::Denied(reason()).into(),
            404 => ObjectAnswer::Gone.into(),
            409 => ObjectAnswer::Conflict.into(),
            429 | 502 | 503 | 504 => busy().into(),
            // kube-apiserver also ends a request like this when it cannot reach etcd in time.
            500 if answer.retry_after.is_some() => busy().into(),
            _ => ObjectAnswer::Refused(reason()).into(),
        }
    }
}

/// Reads the revision from the metadata of an object.
fn written(body: &[u8]) -> ObjectAnswer {
    match serde_json::from_slice::<OnlyMetadata>(body) {
        Ok(OnlyMetadata { metadata }) => metadata.resource_version.parse().map_or_else(
            |_| ObjectAnswer::Refused(format!("the answer has the revision {:?}", metadata.resource_version)),
            ObjectAnswer::At,
        ),
        Err(error) => ObjectAnswer::Refused(format!("the answer has no metadata: {error}")),
    }
}

/// Whether the user lacks a right. A webhook that refuses the object answers with the same code and another text.
fn is_forbidden(body: &[u8]) -> bool {
    let status: StatusBody = serde_json::from_slice(body).unwrap_or_default();
    status.reason == "Forbidden" && status.message.contains(" cannot patch resource ")
}

/// Returns the text of the answer in one line, cut at [`REASON_MAX`] bytes. Escape codes of terminals are left in it.
pub(super) fn reason(answer: &Answer<'_>) -> String {
    let status: StatusBody = serde_json::from_slice(answer.body).unwrap_or_default();
    let text = match status.message.as_str() {
        "" => String::from_utf8_lossy(&answer.body[..answer.body.len().min(REASON_MAX)]).into_owned(),
        message => message.to_owned(),
    };
    let mut line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.len() > REASON_MAX {
        line.truncate(line.floor_char_boundary(REASON_MAX));
        line.push('…');
    }
    if line.is_empty() { format!("it answered with HTTP {}", answer.status) } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer_to(status: u16, retry_after: Option<u64>, body: &str) -> RewriteAnswer {
        Answer { status, retry_after, body: body.as_bytes() }.into()
    }

    fn status(reason: &str, message: &str) -> String {
        format!(r#"{{"kind":"Status","reason":"{reason}","message":"{message}"}}"#)
    }

    #[test]
    fn each_answer_says_what_became_of_the_object() {
        let metadata = r#"{"kind":"PartialObjectMetadata","metadata":{"name":"a","resourceVersion":"7"}}"#;
        let denied = r#"secrets \"a\" is forbidden: User \"u\" cannot patch resource \"secrets\" in API group \"\""#;
        let webhook = r#"admission webhook \"w\" denied the request: no"#;
        let plain = |text: &str| text.replace('\\', "");
        let busy = |wait: Option<u64>, reason: &str| {
            RewriteAnswer::Unanswered(Unanswered::Busy {
                wait: wait.map(Duration::from_secs),
                reason: reason.to_owned(),
            })
        };
        for (answer, expected) in [
            (answer_to(200, None, metadata), RewriteAnswer::Object(ObjectAnswer::At(7))),
            (answer_to(404, None, &status("NotFound", "secrets not found")), RewriteAnswer::Object(ObjectAnswer::Gone)),
            (answer_to(409, None, &status("Conflict", "modified")), RewriteAnswer::Object(ObjectAnswer::Conflict)),
            (
                answer_to(403, None, &status("Forbidden", denied)),
                RewriteAnswer::Object(ObjectAnswer::Denied(plain(denied))),
            ),
            (
                answer_to(403, None, &status("Forbidden", webhook)),
                RewriteAnswer::Object(ObjectAnswer::Refused(plain(webhook))),
            ),
            (
                answer_to(401, None, &status("Unauthorized", "Unauthorized")),
                RewriteAnswer::Unanswered(Unanswered::Unauthenticated("Unauthorized".into())),
            ),
            (
                answer_to(422, None, &status("Invalid", "bad\\n name")),
                RewriteAnswer::Object(ObjectAnswer::Refused("bad name".into())),
            ),
            (
                answer_to(500, None, &status("InternalError", "no key")),
                RewriteAnswer::Object(ObjectAnswer::Refused("no key".into())),
            ),
            (answer_to(500, Some(1), &status("InternalError", "timeout")), busy(Some(1), "timeout")),
            (answer_to(429, Some(2), "Too many requests"), busy(Some(2), "Too many requests")),
            (answer_to(503, None, ""), busy(None, "it answered with HTTP 503")),
        ] {
            assert_eq!(answer, expected);
        }
    }

    #[test]
    fn an_answer_without_a_revision_is_no_success() {
        for body in ["", "{}", r#"{"metadata":{}}"#, r#"{"metadata":{"resourceVersion":"x"}}"#] {
            assert!(matches!(answer_to(200, None, body), RewriteAnswer::Object(ObjectAnswer::Refused(_))), "{body}");
        }
    }

    #[test]
    fn a_long_reason_is_cut() {
        let RewriteAnswer::Object(ObjectAnswer::Refused(reason)) =
            answer_to(422, None, &status("Invalid", &"é".repeat(1000)))
        else {
            panic!()
        };
        assert!(reason.len() <= REASON_MAX + '…'.len_utf8() && reason.ends_with('…'), "{}", reason.len());
    }
}
