//! Runs the program that a kubeconfig names for credentials, before a client is made, and refuses a token that cannot
//! be sent: the client would panic at it. A token without an expiry is kept, so the program runs once. The client
//! itself runs the program again for certificates and for tokens that expire.
//!
//! Source: `k8s.io/client-go`, `plugin/pkg/client/auth/exec/exec.go`.

use std::process::{Command, Stdio};

use kube::config::{ExecConfig, ExecInteractiveMode};
use secrecy::SecretString;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::json;

use super::reason::{CredentialsError, can_be_sent};

#[derive(Deserialize)]
struct Printed {
    status: Option<PrintedStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PrintedStatus {
    token: Option<String>,
    expiration_timestamp: Option<IgnoredAny>,
    client_certificate_data: Option<IgnoredAny>,
}

/// Runs the program. Returns its token, if it prints one that does not expire.
///
/// # Errors
/// When the program does not start, fails, or prints no credentials or a token that cannot be sent. The error shows
/// nothing of what it prints.
pub(super) fn lasting_token(exec: &ExecConfig) -> Result<Option<SecretString>, CredentialsError> {
    let mut command = command(exec).ok_or(CredentialsError::NoCommand)?;
    let output = command.output().map_err(|error| CredentialsError::not_started(&error))?;
    if !output.status.success() {
        return Err(CredentialsError::Ended(output.status));
    }
    // Some programs print YAML. A YAML reader reads JSON, too.
    let printed: Option<Printed> = serde_saphyr::from_slice(&output.stdout).ok();
    let status = printed.and_then(|printed| printed.status).ok_or(CredentialsError::NotCredentials)?;
    let PrintedStatus { token, expiration_timestamp, client_certificate_data } = status;
    if token.as_deref().unwrap_or_default().is_empty() && client_certificate_data.is_none() {
        return Err(CredentialsError::NonePrinted);
    }
    if token.as_deref().is_some_and(|token| !can_be_sent(token)) {
        return Err(CredentialsError::Unsendable);
    }
    let lasts = expiration_timestamp.is_none() && client_certificate_data.is_none();
    Ok(token.filter(|_| lasts).map(SecretString::from))
}

/// Returns the command that `exec` of a kubeconfig describes, with its environment. Returns `None` if it names no
/// command.
fn command(exec: &ExecConfig) -> Option<Command> {
    let mut command = Command::new(exec.command.as_ref()?);
    command.args(exec.args.iter().flatten());
    let variables = exec.env.iter().flatten().filter_map(|one| Some((one.get("name")?, one.get("value")?)));
    command.envs(variables);
    let is_interactive = exec.interactive_mode != Some(ExecInteractiveMode::Never);
    if is_interactive {
        command.stdin(Stdio::inherit()).stderr(Stdio::inherit());
    }
    let cluster = exec.cluster.as_ref().filter(|_| exec.provide_cluster_info);
    let mut spec = json!({ "interactive": is_interactive });
    if let Some(cluster) = cluster.and_then(|cluster| serde_json::to_value(cluster).ok()) {
        spec["cluster"] = cluster;
    }
    let info = json!({ "apiVersion": exec.api_version, "kind": "ExecCredential", "spec": spec });
    command.env("KUBERNETES_EXEC_INFO", info.to_string());
    Some(command)
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn token(script: &str) -> Result<Option<String>, CredentialsError> {
        let exec = json!({
            "apiVersion": "client.authentication.k8s.io/v1",
            "interactiveMode": "Never",
            "command": "sh",
            "args": ["-c", script],
            "env": [{"name": "TOKEN", "value": "abc"}],
        });
        let token = lasting_token(&serde_json::from_value(exec).unwrap())?;
        Ok(token.map(|token| token.expose_secret().to_owned()))
    }

    #[test]
    fn a_token_that_lasts_is_kept_and_one_that_cannot_be_sent_is_refused() {
        let status = |status: &str| format!("printf '%s' '{{\"kind\":\"ExecCredential\",\"status\":{status}}}'");
        assert_eq!(token(&status(r#"{"token":"s3cr3t"}"#)), Ok(Some("s3cr3t".to_owned())));
        assert_eq!(token("echo status: {token: $TOKEN}"), Ok(Some("abc".to_owned())));
        let expiring = r#"{"token":"s3cr3t","expirationTimestamp":"2026-11-28T00:00:00Z"}"#;
        assert_eq!(token(&status(expiring)), Ok(None));
        assert_eq!(token(&status(r#"{"clientCertificateData":"a","clientKeyData":"b"}"#)), Ok(None));
        for broken in [r#"{"token":"s3cr3t\nx"}"#, &expiring.replace("s3cr3t", "s3cr3t\\n")] {
            assert_eq!(token(&status(broken)), Err(CredentialsError::Unsendable));
        }
    }

    #[test]
    fn a_program_that_fails_is_said_to_and_shows_nothing_of_what_it_printed() {
        let ended = "the program that the kubeconfig names for credentials ended with exit status: 3";
        assert_eq!(token("echo s3cr3t; exit 3").unwrap_err().to_string(), ended);
        for script in ["echo s3cr3t", "true", "echo '{\"kind\":\"ExecCredential\"}'"] {
            assert_eq!(token(script), Err(CredentialsError::NotCredentials), "{script}");
        }
        for script in ["echo 'status: {}'", "echo 'status: {token: \"\"}'"] {
            assert_eq!(token(script), Err(CredentialsError::NonePrinted), "{script}");
        }
        let no_command = serde_json::from_value(json!({})).unwrap();
        assert_eq!(lasting_token(&no_command).map(drop), Err(CredentialsError::NoCommand));
        let no_program = serde_json::from_value(json!({"command": "/nonexistent/program"})).unwrap();
        let error = lasting_token(&no_program).unwrap_err().to_string();
        assert!(error.starts_with("starting the program that the kubeconfig names for credentials: "), "{error}");
    }

    #[test]
    fn a_program_knows_which_version_it_shall_print() {
        let script = r#"echo "$KUBERNETES_EXEC_INFO" | grep -q '"apiVersion":"client.authentication.k8s.io/v1"' && echo status: {token: yes}"#;
        assert_eq!(token(script), Ok(Some("yes".to_owned())));
    }
}
