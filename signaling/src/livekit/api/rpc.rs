//! Calls of methods that participants have registered with their SDKs, on behalf of the API.
//!
//! Version 1 of the SDKs' own protocol over the reliable channel: a request, an acknowledgement that a client is there,
//! and a response. Requests carry a name of their own as the sender's, so that what a client answers comes to nobody else.
//! Always: an answer counts from the participant that was asked, once, and every call ends.

use std::time::{Duration, Instant};

use livekit_protocol as lk;
use livekit_protocol::data_packet::Value;
use livekit_protocol::rpc_response;
use prost::Message as _;
use sfu::command::Command;

use super::call::fits;
use super::{Answer, ApiError, Code};
use crate::livekit::data;
use crate::livekit::limits::RoomLimits;
use crate::livekit::output::Clock;
use crate::livekit::packet::RpcPart;
use crate::livekit::participant::Seat;
use crate::livekit::room::{Room, is_due};
use crate::livekit::sid;

/// Bytes of what goes to a method, of what comes back, and of an error's data: SDKs refuse more.
const MAX_PAYLOAD: usize = 15 << 10;
/// Bytes of an error's text that are passed on.
const MAX_MESSAGE: usize = 256;
/// As LiveKit's server has it.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Proxies and SDKs give up on a request long before.
const MAX_TIMEOUT: Duration = Duration::from_mins(5);
/// How long a client may take to acknowledge, as between clients.
const ACK_TIMEOUT: Duration = Duration::from_secs(7);
/// Calls of one room that wait.
const MAX_WAITING: usize = 1000;

/// Why a participant's method gave nothing. The numbers are the SDKs', from 1400 on; an application's own are below.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("RpcError {code}: {message}{}{data}", if data.is_empty() { "" } else { ": " })]
pub struct RpcFault {
    code: u32,
    message: String,
    data: String,
}

/// Faults that SDKs have numbers for.
mod fault {
    pub(super) const UNSUPPORTED_METHOD: u32 = 1400;
    pub(super) const RECIPIENT_NOT_FOUND: u32 = 1401;
    pub(super) const REQUEST_TOO_LARGE: u32 = 1402;
    pub(super) const UNSUPPORTED_SERVER: u32 = 1403;
    pub(super) const UNSUPPORTED_VERSION: u32 = 1404;
    pub(super) const CONNECTION_TIMEOUT: u32 = 1501;
    pub(super) const RESPONSE_TIMEOUT: u32 = 1502;
    pub(super) const RECIPIENT_DISCONNECTED: u32 = 1503;
    pub(super) const RESPONSE_TOO_LARGE: u32 = 1504;
}

impl RpcFault {
    fn new(code: u32, message: &str) -> RpcFault {
        RpcFault { code, message: message.to_owned(), data: String::new() }
    }

    /// As LiveKit's server gives them.
    pub(super) const fn code(&self) -> Code {
        match self.code {
            fault::UNSUPPORTED_METHOD => Code::InvalidArgument,
            fault::RECIPIENT_NOT_FOUND => Code::NotFound,
            fault::REQUEST_TOO_LARGE => Code::Malformed,
            fault::UNSUPPORTED_SERVER | fault::UNSUPPORTED_VERSION => Code::Unimplemented,
            fault::CONNECTION_TIMEOUT | fault::RESPONSE_TIMEOUT => Code::Canceled,
            fault::RECIPIENT_DISCONNECTED => Code::Unavailable,
            _ => Code::Internal,
        }
    }
}

/// How long the method may take.
pub(super) fn response_timeout(request: &lk::PerformRpcRequest) -> Duration {
    match request.response_timeout_ms {
        0 => DEFAULT_TIMEOUT,
        ms => Duration::from_millis(u64::from(ms)),
    }
}

/// What is wrong with a request whoever is asked.
pub(super) fn check(request: &lk::PerformRpcRequest, limits: &RoomLimits) -> Result<(), ApiError> {
    if request.destination_identity.is_empty() {
        return Err(ApiError::Empty("destination identity"));
    }
    if request.method.is_empty() {
        return Err(ApiError::Empty("method"));
    }
    fits("method", request.method.len(), limits.name_bytes)?;
    if request.payload.len() > MAX_PAYLOAD {
        return Err(RpcFault::new(fault::REQUEST_TOO_LARGE, "Request payload too large").into());
    }
    if response_timeout(request) > MAX_TIMEOUT {
        return Err(ApiError::RpcTimeout { limit_ms: MAX_TIMEOUT.as_millis() as u64 });
    }
    Ok(())
}

/// A call that waits for a participant.
#[derive(Debug)]
pub(in crate::livekit) struct Waiting {
    question: u64,
    asked: Seat,
    /// `None` once acknowledged.
    ack_by: Option<Instant>,
    answer_by: Instant,
}

impl Waiting {
    /// When it is to be looked at.
    pub(in crate::livekit) fn deadline(&self) -> Instant {
        self.ack_by.map_or(self.answer_by, |ack_by| ack_by.min(self.answer_by))
    }
}

impl Room {
    /// Asks a participant. The answer comes later.
    pub(super) fn perform_rpc(
        &mut self,
        clock: Clock,
        question: u64,
        request: lk::PerformRpcRequest,
    ) -> Result<(), ApiError> {
        let asked = self.seat_named(&request.destination_identity)?;
        if self.rpcs.len() >= MAX_WAITING {
            return Err(ApiError::TooManyCalls { limit: MAX_WAITING });
        }
        let who = self.people.get(&asked).ok_or(ApiError::NoParticipant)?;
        let peer = who.link.subscriber();
        let rtt = who.link_quality.get(&peer).and_then(|quality| quality.rtt).unwrap_or_default();
        let timeout = response_timeout(&request);
        let id = sid::rpc(&mut self.rng);
        let packet = lk::DataPacket {
            participant_identity: id.clone(),
            value: Some(Value::RpcRequest(lk::RpcRequest {
                id: id.clone(),
                method: request.method,
                payload: request.payload,
                // An answer at the last moment shall be in time here.
                response_timeout_ms: timeout.saturating_sub(rtt).as_millis() as u32,
                version: 1,
                compressed_payload: Vec::new(),
            })),
            ..lk::DataPacket::default()
        };
        self.command(Command::SendData {
            to: [peer].into(),
            label: data::RELIABLE.to_owned(),
            binary: true,
            payload: packet.encode_to_vec().into(),
        });
        let (ack_by, answer_by) = (Some(clock.now + ACK_TIMEOUT), clock.now + timeout);
        self.rpcs.insert(id, Waiting { question, asked, ack_by, answer_by });
        Ok(())
    }

    /// Takes what a client sent if it answers a call of ours; `false` if it is for another client.
    pub(in crate::livekit) fn rpc_arrived(&mut self, seat: Seat, part: RpcPart) -> bool {
        match part {
            RpcPart::Ack(ack) => {
                let waiting = self.rpcs.get_mut(&ack.request_id).filter(|waiting| waiting.asked == seat);
                waiting.map(|waiting| waiting.ack_by = None).is_some()
            }
            RpcPart::Response(response) => {
                if self.rpcs.get(&response.request_id).is_none_or(|waiting| waiting.asked != seat) {
                    return false;
                }
                if let Some(waiting) = self.rpcs.remove(&response.request_id) {
                    self.answer(waiting.question, outcome(response.value));
                }
                true
            }
        }
    }

    /// Ends the calls whose time is over.
    pub(in crate::livekit) fn rpcs_due(&mut self, clock: Clock) {
        self.end_rpcs(|waiting| {
            if is_due(Some(waiting.answer_by), clock.now) {
                Some(RpcFault::new(fault::RESPONSE_TIMEOUT, "Response timeout"))
            } else if is_due(waiting.ack_by, clock.now) {
                Some(RpcFault::new(fault::CONNECTION_TIMEOUT, "Connection timeout"))
            } else {
                None
            }
        });
    }

    /// Ends the calls of somebody who is gone.
    pub(in crate::livekit) fn rpcs_gone(&mut self, seat: Seat) {
        self.end_rpcs(|waiting| {
            let gone = waiting.asked == seat;
            gone.then(|| RpcFault::new(fault::RECIPIENT_DISCONNECTED, "Recipient disconnected"))
        });
    }

    fn end_rpcs(&mut self, why: impl Fn(&Waiting) -> Option<RpcFault>) {
        let mut ended: Vec<(u64, RpcFault)> = Vec::new();
        self.rpcs.retain(|_, waiting| match why(waiting) {
            Some(fault) => {
                ended.push((waiting.question, fault));
                false
            }
            None => true,
        });
        ended.sort_unstable_by_key(|(question, _)| *question);
        for (question, fault) in ended {
            self.answer(question, Err(fault.into()));
        }
    }
}

/// What a client's response comes to; untrusted.
fn outcome(value: Option<rpc_response::Value>) -> Result<Answer, ApiError> {
    let fault = match value {
        Some(rpc_response::Value::Payload(payload)) if payload.len() <= MAX_PAYLOAD => {
            return Ok(Answer::Rpc { payload });
        }
        Some(rpc_response::Value::Payload(_)) => {
            RpcFault::new(fault::RESPONSE_TOO_LARGE, "Response payload too large")
        }
        Some(rpc_response::Value::Error(error)) => RpcFault {
            code: error.code,
            message: cut(error.message, MAX_MESSAGE),
            data: cut(error.data, MAX_PAYLOAD),
        },
        // Of a later version than we asked in.
        Some(rpc_response::Value::CompressedPayload(_)) => {
            RpcFault::new(fault::UNSUPPORTED_VERSION, "Unsupported RPC version")
        }
        None => return Ok(Answer::Rpc { payload: String::new() }),
    };
    Err(fault.into())
}

/// As much of a text as fits in so many bytes.
fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text
}
