//! Calls of the server API: what concerns the directory of rooms, and the way of the others to their rooms.

use std::time::Duration;

use livekit_protocol::RoomConfiguration;
use signaling::livekit::api::{Answer, ApiError, Request, RoomCall};
use tokio::sync::oneshot;

use super::calls::Outcome;
use super::{Handle, JOIN_ATTEMPTS, Rooms, ToRoom};
use crate::media::worker::WorkerClient;

/// How long all rooms together may take to tell of themselves.
const LIST_PATIENCE: Duration = Duration::from_secs(5);

impl Rooms {
    /// Carries out a call that its token permits.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn call(&self, request: Request) -> Result<Answer, ApiError> {
        if *self.shared.closing.borrow() {
            return Err(ApiError::ShuttingDown);
        }
        match request {
            Request::CreateRoom { name, config } => self.create(&name, *config).await,
            Request::ListRooms { names } => {
                let listing = tokio::time::timeout(LIST_PATIENCE, self.list(&names));
                listing.await.map_err(|_| ApiError::NoAnswer)
            }
            Request::Dispatch { room, agent } => self.dispatch(&room, RoomCall::CreateDispatch(agent)).await,
            Request::InRoom { name, call } => {
                let without = call.without_room();
                let Some(handle) = self.named(&name) else { return without };
                match ask(&handle, call).await? {
                    Some(outcome) => outcome,
                    None => without,
                }
            }
        }
    }

    /// The room is made with what is said of it, and the room that is there takes it over.
    async fn create(&self, name: &str, config: RoomConfiguration) -> Result<Answer, ApiError> {
        let call = RoomCall::Configure(Box::new(config.clone()));
        self.call_in_made(name, Some(&config), call).await
    }

    /// A room that is not there is made where a join would make it.
    async fn dispatch(&self, name: &str, call: RoomCall) -> Result<Answer, ApiError> {
        if !self.shared.auto_create && self.named(name).is_none() {
            return call.without_room();
        }
        self.call_in_made(name, None, call).await
    }

    async fn call_in_made(
        &self,
        name: &str,
        config: Option<&RoomConfiguration>,
        call: RoomCall,
    ) -> Result<Answer, ApiError> {
        for _ in 0..JOIN_ATTEMPTS {
            self.check_new(name)?;
            let handle = self.make(name, config).ok_or(ApiError::ShuttingDown)?;
            if let Some(outcome) = ask(&handle, call.clone()).await? {
                return outcome;
            }
            // It ended just now.
        }
        Err(ApiError::NoAnswer)
    }

    fn check_new(&self, name: &str) -> Result<(), ApiError> {
        let shared = &*self.shared;
        if *shared.closing.borrow() {
            return Err(ApiError::ShuttingDown);
        }
        let full = shared.max_rooms.is_some_and(|limit| shared.directory.len() >= limit);
        if full && !shared.directory.contains_key(name) {
            shared.metrics.limit_hit("rooms");
            return Err(ApiError::TooManyRooms);
        }
        if !shared.workers.iter().any(WorkerClient::is_alive) {
            return Err(ApiError::NoWorker);
        }
        if !self.has_time() && !shared.directory.contains_key(name) {
            shared.metrics.limit_hit("load");
            return Err(ApiError::Overloaded);
        }
        Ok(())
    }

    /// All rooms, or those of these names that there are, by name.
    async fn list(&self, names: &[String]) -> Answer {
        let mut asked = Vec::new();
        let handles: Vec<Handle> = if names.is_empty() {
            self.shared.directory.iter().map(|entry| entry.clone()).collect()
        } else {
            let mut names: Vec<&String> = names.iter().collect();
            names.sort_unstable();
            names.dedup();
            names.into_iter().filter_map(|name| self.named(name)).collect()
        };
        for handle in handles {
            let (answer, answered) = oneshot::channel();
            let call = Box::new(RoomCall::Describe);
            if handle.mailbox.send(ToRoom::Call { call, answer }).await.is_ok() {
                asked.push(answered);
            }
        }
        let mut rooms = Vec::new();
        for answered in asked {
            // One that ended meanwhile says nothing.
            if let Ok(Ok(Answer::Room(room))) = answered.await {
                rooms.push(*room);
            }
        }
        rooms.sort_by(|a, b| a.name.cmp(&b.name));
        Answer::Rooms(rooms)
    }
}

/// What came of a call in a room; `None`: the room has ended.
async fn ask(handle: &Handle, call: RoomCall) -> Result<Option<Outcome>, ApiError> {
    let patience = call.patience();
    let (answer, answered) = oneshot::channel();
    let asking = async {
        handle.mailbox.send(ToRoom::Call { call: Box::new(call), answer }).await.ok()?;
        answered.await.ok()
    };
    tokio::time::timeout(patience, asking).await.map_err(|_| ApiError::NoAnswer)
}
