//! Asks each member of etcd about its database: its size, its quota, and whether the alarm NOSPACE is on.
//!
//! Source: etcd's `rpc.proto`, `Maintenance.Status`. kine answers this call in part, or not at all.

use std::time::Duration;

use super::{
    api::{StatusRequest, StatusResponse, maintenance_client::MaintenanceClient},
    endpoint::{EtcdTarget, ServersError, tls},
    error::{EtcdError, refusal},
    servers::Servers,
};
use crate::telemetry::causes;

/// The time limit for one answer.
const STATUS_TIMEOUT: Duration = Duration::from_secs(5);

/// The name of the alarm that etcd raises when its database has reached its quota.
const NO_SPACE: &str = "NOSPACE";

/// The database of one member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EtcdStatus {
    /// The address of the endpoint.
    pub url: String,
    /// The length of the database file in bytes.
    pub size: u64,
    /// The number of bytes of the file that are in use. The others are free for new values.
    pub in_use: u64,
    /// The greatest length of the file in bytes. `None` if the member does not tell: etcd before 3.6, and kine.
    pub quota: Option<u64>,
    /// Whether the database has reached its quota, so that the member refuses every write.
    pub has_no_space: bool,
}

/// Asks every endpoint for its status. An endpoint that does not answer hides nothing that another one says.
///
/// # Errors
/// When a certificate or an address cannot be used.
pub async fn statuses(servers: &Servers) -> Result<Vec<Result<EtcdStatus, EtcdError>>, ServersError> {
    let tls = tls(servers)?;
    let mut all = Vec::new();
    for url in &servers.urls {
        all.push(status(url, &EtcdTarget::new(url, tls.as_ref())?).await);
    }
    Ok(all)
}

async fn status(url: &str, target: &EtcdTarget) -> Result<EtcdStatus, EtcdError> {
    let unreachable =
        |error: &dyn std::error::Error| EtcdError::Unreachable { url: url.to_owned(), reason: causes(error) };
    let ask = async {
        let channel = target.connect().await.map_err(|error| unreachable(&error))?;
        let answer = MaintenanceClient::new(channel).status(StatusRequest {}).await;
        answer.map_err(|status| refusal(url, 0, &status))
    };
    let answer = tokio::time::timeout(STATUS_TIMEOUT, ask).await.map_err(|elapsed| unreachable(&elapsed))??;
    Ok(read(url, &answer.into_inner()))
}

fn read(url: &str, answer: &StatusResponse) -> EtcdStatus {
    let bytes = |number: i64| u64::try_from(number).unwrap_or(0);
    EtcdStatus {
        url: url.to_owned(),
        size: bytes(answer.db_size),
        in_use: bytes(answer.db_size_in_use),
        quota: Some(bytes(answer.db_size_quota)).filter(|quota| *quota > 0),
        has_no_space: answer.errors.iter().any(|error| error.contains(NO_SPACE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::harness::{etcd::Etcd, kine::Kine, processes::Run};

    #[tokio::test]
    async fn a_member_says_how_large_its_database_is_and_may_become_and_whether_it_is_full() {
        let run = Run::new().unwrap();
        let etcd = Etcd::start(&run, 1).unwrap();
        let servers = Servers { urls: etcd.client_urls(), ..Servers::default() };
        let before = statuses(&servers).await.unwrap().remove(0).unwrap();
        assert!(before.in_use > 0 && before.in_use <= before.size && before.size < 10 << 20, "{before:?}");
        assert_eq!((before.quota, before.has_no_space), (Some(2 << 30), false), "{before:?}");
        // A member that is down does not hide the others.
        let urls = [vec!["http://127.0.0.1:1".to_owned()], etcd.client_urls()].concat();
        let found = statuses(&Servers { urls, ..Servers::default() }).await.unwrap();
        assert!(found[1].is_ok());
        let refused = found[0].as_ref().unwrap_err().to_string();
        assert!(refused.starts_with("etcd http://127.0.0.1:1 does not answer: "), "{refused}");
    }

    #[tokio::test]
    async fn kine_has_no_quota_or_no_status() {
        let run = Run::new().unwrap();
        let kine = Kine::over_sqlite(&run).unwrap();
        let servers = Servers { urls: vec![kine.url()], ..Servers::default() };
        let found = statuses(&servers).await.unwrap();
        assert!(found.iter().flatten().all(|one| one.quota.is_none() && !one.has_no_space), "{found:?}");
    }

    #[test]
    fn an_alarm_is_one_of_the_errors() {
        let errors = vec!["memberID:1 alarm:NOSPACE ".to_owned()];
        assert!(read("a", &StatusResponse { errors, ..StatusResponse::default() }).has_no_space);
        let errors = vec!["etcdserver: no leader".to_owned()];
        assert!(!read("a", &StatusResponse { errors, ..StatusResponse::default() }).has_no_space);
    }
}
