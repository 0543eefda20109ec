//! Wire protocols of Sluice, sans-IO: the LiveKit client protocol to the media core's commands and back.
//!
//! [`access`] checks and makes tokens. [`livekit`] is the client protocol: what a connection asks for, the frames,
//! and the [`Room`](livekit::Room), a state machine for one room. [`whip`] is the way into the same rooms over HTTP,
//! and [`agents`] are the programs that are sent into them.
//! Always: no sockets, threads or clocks; time and randomness come as arguments, and nothing a client sends can
//! panic or grow anything without a limit. Not here: media (`sfu`), the sockets and the directory of rooms (the
//! server).
//!
//! # Driving a room
//!
//! ```
//! use std::sync::Arc;
//! use std::time::{Duration, Instant};
//! use signaling::access::{self, Claims, Keys, VideoGrant};
//! use signaling::livekit::{Clock, Output, Room, SessionId, Settings, connect, frame};
//!
//! # #[allow(clippy::disallowed_methods)]
//! let clock = Clock { now: Instant::now(), unix_ms: 1_800_000_000_000 };
//! let keys: Keys = [("devkey".to_owned(), "secret".to_owned())].into_iter().collect();
//! let settings = Arc::new(Settings { keys, node_id: "ND_1".to_owned(), ..Settings::default() });
//!
//! // An HTTP request arrives...
//! let video = VideoGrant { room_join: true, room: "lobby".to_owned(), ..VideoGrant::default() };
//! let claims = Claims { sub: "alice".to_owned(), video: Some(video), ..Claims::default() };
//! let token = access::mint("devkey", "secret", claims, Duration::from_secs(60), clock.unix_ms / 1000)?;
//! let request = connect::HttpRequest {
//!     endpoint: connect::Endpoint::V0,
//!     query: "auto_subscribe=1&sdk=js&protocol=17",
//!     authorization: Some(&format!("Bearer {token}")),
//!     user_agent: None,
//! };
//! let admission = connect::admit(&request, &settings.keys, &settings.limits, clock.unix_ms)?;
//!
//! // ...and becomes a session in a room.
//! let rng = fastrand::Rng::with_seed(1);
//! let mut room = Room::new(clock, settings, admission.room.clone(), admission.room_config.as_ref(), rng);
//! room.join(clock, SessionId(1), admission)?;
//! while let Some(output) = room.poll_output() {
//!     match output {
//!         Output::Send { session, response } => {
//!             let _bytes = frame::encode(frame::Encoding::Protobuf, &response); // write it to `session`
//!         }
//!         Output::Close { session } => { /* close that socket */ }
//!         Output::Media(command) => { /* hand it to the media core */ }
//!         Output::Report { question, report } => { /* hand it to whoever asked by `Room::explain` */ }
//!         Output::Answer { question, answer } => { /* the same, of `Room::call` */ }
//!         Output::Notice(notice) => { /* count it */ }
//!         Output::Agents(order) => { /* hand it to the pool of agents */ }
//!         Output::Webhook(event) => { /* tell the application */ }
//!         Output::Ended => { /* drop the room */ }
//!     }
//! }
//! let _come_back_at = room.next_timeout();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

pub mod access;
pub mod agents;
pub mod livekit;
pub mod whip;
