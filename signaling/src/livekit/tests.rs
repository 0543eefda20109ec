//! A room driven by scripted clients and a scripted media core, on a virtual clock.

mod arbitrary;
mod codecs;
mod data;
mod data_tracks;
mod dispatching;
mod dynacast;
mod explaining;
mod fallback;
mod grants;
mod joining;
mod leaving;
mod limits;
mod over_http;
mod policy;
mod publishing;
mod resuming;
mod script;
mod serving;
mod simulating;
mod status;
mod subscribing;
mod webhooks;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use livekit_protocol::participant_info::Kind;
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    AddTrackRequest, ClientInfo, SessionDescription, SignalRequest, TrackInfo, TrackSource, TrackType,
};
use sfu::command::{Command, Event, MediaKind, NegotiationRole, RemoteSection};
use sfu::ids::{Mid, PeerId, Rid, TrackId};

use super::connect::Admission;
use super::{JoinError, Notice, Output, Room, SessionId};
