//! Finds out whether etcd refuses every write, because its database has reached its quota. The API server then refuses
//! each object, as if the object were the reason.

use std::time::Duration;

use tokio::time::Instant;

use crate::etcd::{Servers, statuses};

/// The shortest time between two questions. A webhook that refuses many objects is no reason to ask for each of them.
const BETWEEN: Duration = Duration::from_secs(10);

/// Asks etcd for its alarms after the API server has refused to write an object.
pub(super) struct RoomWatch {
    places: Vec<Servers>,
    /// Whether an object was refused since etcd was asked last.
    is_in_doubt: bool,
    /// When etcd was asked last.
    asked: Option<Instant>,
}

impl RoomWatch {
    pub(super) fn new(places: &[Servers]) -> Self {
        Self { places: places.to_vec(), is_in_doubt: false, asked: None }
    }

    /// Notes that the API server has refused to write an object.
    pub(super) fn note_refusal(&mut self) {
        self.is_in_doubt = true;
    }

    /// Returns the address of a member of etcd that refuses every write. Asks only after a refusal, and not often.
    pub(super) async fn full(&mut self) -> Option<String> {
        let is_early = self.asked.is_some_and(|asked| asked.elapsed() < BETWEEN);
        if is_early { None } else { self.full_at_end().await }
    }

    /// Returns the same at the end of a sweep. Asks after a refusal, whenever etcd was asked last.
    pub(super) async fn full_at_end(&mut self) -> Option<String> {
        if !std::mem::take(&mut self.is_in_doubt) {
            return None;
        }
        self.asked = Some(Instant::now());
        for servers in &self.places {
            // A member that does not answer does not show that etcd is full.
            let answers = statuses(servers).await.ok().into_iter().flatten();
            if let Some(full) = answers.flatten().find(|status| status.has_no_space) {
                return Some(full.url);
            }
        }
        None
    }
}
