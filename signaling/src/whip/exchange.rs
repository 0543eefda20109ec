//! One session: HTTP requests to frames of the client protocol, and what the room says to HTTP answers.

use livekit_protocol::request_response::{Reason, Request as Concerning};
use livekit_protocol::signal_request::Message as Request;
use livekit_protocol::signal_response::Message as Response;
use livekit_protocol::{
    IceServer, LeaveRequest, SessionDescription, SignalRequest, SignalResponse, SignalTarget, TrickleRequest,
};

use super::error::WhipError;
use super::fragment::{self, Fragment};
use super::{Protocol, offer};

/// What a new session is answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The answer.
    pub sdp: String,
    /// The entity-tag, with its quotes.
    pub etag: String,
    /// Values of `Link` headers: one for each URL of an ICE server (RFC 9725 §4.6).
    pub links: Vec<String>,
}

/// What a request to change a session led to.
#[derive(Clone, Debug, PartialEq)]
pub enum Patched {
    /// Candidates were taken: 204. They are to be sent to the room.
    Trickled(Vec<SignalRequest>),
    /// To be sent to the room, which leads to [`Progress::Restarted`].
    Restarting(Box<SignalRequest>),
}

/// What a message of the room's means to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing that HTTP could tell.
    None,
    /// The offer is answered: 201.
    Created(Created),
    /// ICE is restarted: 200 with this fragment, under a new entity-tag.
    Restarted {
        /// Our credentials and candidates.
        fragment: String,
        /// The entity-tag.
        etag: String,
    },
    /// What was asked for last cannot be had; a session that was not created never will be.
    Refused(WhipError),
    /// The room has let the client go, or wants to.
    Ended,
}

/// See the module's page.
#[derive(Debug)]
pub struct Exchange {
    protocol: Protocol,
    /// The offer that is answered, or waits to be.
    offer: String,
    /// The offer of a restart that is not answered yet.
    restart: Option<String>,
    /// Of the last offer.
    id: u32,
    created: bool,
    links: Vec<String>,
    /// What of it cannot be published.
    refused: Option<WhipError>,
    /// Makes entity-tags of this session unlike those of others.
    salt: u64,
    /// How often ICE was begun.
    generation: u32,
}

impl Exchange {
    /// A session that waits for its answer. The offer goes to the room as that of the join, see [`Exchange::first_offer`].
    pub fn new(protocol: Protocol, offer: String, salt: u64) -> Exchange {
        Exchange {
            protocol,
            offer,
            restart: None,
            id: 1,
            created: false,
            links: Vec::new(),
            refused: None,
            salt,
            generation: 1,
        }
    }

    /// The offer, for the admission.
    pub fn first_offer(&self) -> SessionDescription {
        description(self.offer.clone(), self.id)
    }

    /// The entity-tag of the present ICE session, with its quotes.
    pub fn etag(&self) -> String {
        format!("\"{:016x}-{}\"", self.salt, self.generation)
    }

    /// The client's wish to go.
    pub fn leave() -> SignalRequest {
        SignalRequest { message: Some(Request::Leave(LeaveRequest::default())) }
    }

    /// A message of the room's.
    pub fn hear(&mut self, message: SignalResponse) -> Progress {
        match message.message {
            Some(Response::Join(join)) => {
                self.links = join.ice_servers.iter().flat_map(links).collect();
                Progress::None
            }
            Some(Response::Answer(answer)) if answer.id == self.id => self.answered(answer.sdp),
            Some(Response::RequestResponse(told)) => {
                self.refused(told.reason, told.message, told.request.as_ref())
            }
            Some(Response::Leave(_)) => Progress::Ended,
            _ => Progress::None,
        }
    }

    fn answered(&mut self, sdp: String) -> Progress {
        if let Some(offer) = self.restart.take() {
            self.offer = offer;
            self.generation += 1;
            return Progress::Restarted { fragment: fragment::of_answer(&sdp), etag: self.etag() };
        }
        if let Some(refused) = self.refused.take() {
            return Progress::Refused(refused);
        }
        // RFC 9725 §4.4.3: all of it or nothing. A viewer takes what there is.
        if self.protocol == Protocol::Whip
            && let Some(m_line) = offer::rejected(&self.offer, &sdp)
        {
            return Progress::Refused(WhipError::NoCodec { m_line });
        }
        self.created = true;
        Progress::Created(Created { sdp, etag: self.etag(), links: self.links.clone() })
    }

    fn refused(&mut self, reason: i32, message: String, request: Option<&Concerning>) -> Progress {
        match request {
            // The answer is on its way, and tells that all has been announced.
            Some(Concerning::AddTrack(_)) => {
                let error = match Reason::try_from(reason) {
                    Ok(Reason::NotAllowed) => WhipError::NotPermitted(message),
                    _ => WhipError::TooMuch(message),
                };
                self.refused.get_or_insert(error);
                Progress::None
            }
            None if !self.created || self.restart.take().is_some() => {
                Progress::Refused(WhipError::Offer(message))
            }
            Some(_) | None => Progress::None,
        }
    }

    /// A `PATCH` with this `If-Match` and this body (RFC 9725 §4.3).
    ///
    /// # Errors
    /// [`WhipError`]; then nothing has changed.
    pub fn patch(&mut self, if_match: Option<&str>, body: &[u8]) -> Result<Patched, WhipError> {
        let matched = if_match.ok_or(WhipError::NoPrecondition)?.trim();
        let fragment = Fragment::parse(body)?;
        let any = matched == "*";
        if !any && !matched.split(',').any(|tag| tag.trim() == self.etag()) {
            return Err(WhipError::Stale);
        }
        if self.restart.is_some() {
            return Err(WhipError::Busy);
        }
        let known = |name, value: &str| offer::attribute(&self.offer, name) == Some(value);
        let fresh = fragment
            .credentials()
            .filter(|(ufrag, pwd)| !known("ice-ufrag", ufrag) || !known("ice-pwd", pwd));
        match fresh {
            Some(_) if !any => Err(WhipError::NotARestart),
            Some((ufrag, pwd)) => {
                let offer = offer::with_credentials(&self.offer, ufrag, pwd);
                self.restart = Some(offer.clone());
                self.id += 1;
                let message = Some(Request::Offer(description(offer, self.id)));
                Ok(Patched::Restarting(Box::new(SignalRequest { message })))
            }
            None => Ok(Patched::Trickled(fragment.candidates.iter().map(trickle).collect())),
        }
    }
}

fn description(sdp: String, id: u32) -> SessionDescription {
    SessionDescription { r#type: "offer".to_owned(), sdp, id, ..SessionDescription::default() }
}

fn trickle(candidate: &fragment::Candidate) -> SignalRequest {
    let init = serde_json::json!({ "candidate": candidate.text, "sdpMid": candidate.mid });
    let trickle = TrickleRequest {
        candidate_init: init.to_string(),
        target: SignalTarget::Publisher as i32,
        ..TrickleRequest::default()
    };
    SignalRequest { message: Some(Request::Trickle(trickle)) }
}

/// A server's URLs as targets of links with its credentials.
fn links(server: &IceServer) -> impl Iterator<Item = String> {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    server.urls.iter().map(move |url| {
        let link = format!("<{url}>; rel=\"ice-server\"");
        if server.username.is_empty() {
            return link;
        }
        let (username, credential) = (quoted(&server.username), quoted(&server.credential));
        format!("{link}; username=\"{username}\"; credential=\"{credential}\"; credential-type=\"password\"")
    })
}
