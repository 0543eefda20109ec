//! A visit to the VideoRoom of Janus over its WebSocket, told in the words of LiveKit's protocol.
//!
//! Its API is JSON (Janus's documentation, "Admin/Monitor", "RESTful, WebSockets… API" and "VideoRoom plugin"): a
//! session, a handle on the plugin, then requests to it, whose answers come as events. Publishers offer; who watches
//! is offered all feeds in one connection. Nothing of the room's own is used: no simulcast, no change of feeds.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use livekit_protocol::signal_request::Message as ToServer;
use livekit_protocol::signal_response::Message as FromServer;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderValue, header::SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::failure::JoinFailure;
use crate::offer;
use crate::signalling::{News, Teller, refusal};

/// The one room; its first publisher makes it.
const ROOM: u64 = 1;
/// What VideoRoom answers if the room is there already.
const ROOM_EXISTS: u64 = 427;
/// Janus forgets a session that is silent for a minute.
const KEEPALIVE: Duration = Duration::from_secs(25);

/// What somebody comes for.
pub(crate) struct Visit {
    /// Of participants, from 0; those who publish are the first.
    index: u64,
    publishers: u16,
    /// Publishers have one.
    offer: Option<String>,
}

impl Visit {
    pub(crate) fn new(index: u64, publishers: u16, offer: Option<String>) -> Visit {
        Visit { index, publishers, offer }
    }

    /// Why it ended.
    pub(crate) async fn session(
        self,
        url: String,
        mut requests: UnboundedReceiver<ToServer>,
        teller: &Teller,
    ) -> JoinFailure {
        match self.talk(url, &mut requests, teller).await {
            Ok(never) => match never {},
            Err(failure) => failure,
        }
    }

    async fn talk(
        self,
        url: String,
        requests: &mut UnboundedReceiver<ToServer>,
        teller: &Teller,
    ) -> Result<Infallible, JoinFailure> {
        let mut janus = Janus::attach(url).await?;
        if self.offer.is_some() {
            janus.call(json!({ "janus": "message", "body": self.room() })).await?;
        }
        janus.send(self.join()).await?;
        let mut keepalive = tokio::time::interval(KEEPALIVE);
        loop {
            tokio::select! {
                message = janus.receive() => {
                    if let Some(message) = heard(&message?)? {
                        teller.tell(News::Message(Box::new(message)));
                    }
                }
                request = requests.recv() => {
                    let Some(request) = request else {
                        let _ = janus.socket.close(None).await;
                        return Err(JoinFailure::Closed("by ourselves".to_owned()));
                    };
                    if let Some(said) = said(request) {
                        janus.send(said).await?;
                    }
                }
                _ = keepalive.tick() => janus.send(json!({ "janus": "keepalive" })).await?,
            }
        }
    }

    fn room(&self) -> Value {
        json!({
            "request": "create", "room": ROOM, "publishers": self.publishers,
            "audiocodec": "opus", "videocodec": "vp8", "notify_joining": false,
        })
    }

    fn join(&self) -> Value {
        if let Some(offer) = &self.offer {
            let number = feed(self.index);
            return json!({
                "janus": "message",
                "body": { "request": "joinandconfigure", "ptype": "publisher", "room": ROOM, "id": number },
                "jsep": { "type": "offer", "sdp": offer },
            });
        }
        let streams: Vec<_> =
            (0..self.publishers).map(|publisher| json!({ "feed": feed(publisher.into()) })).collect();
        json!({
            "janus": "message",
            "body": { "request": "join", "ptype": "subscriber", "room": ROOM, "streams": streams },
        })
    }
}

/// The room's number for a publisher; 0 is none.
fn feed(index: u64) -> u64 {
    index + 1
}

/// A WebSocket with a session and a handle on it.
struct Janus {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: Option<u64>,
    handle: Option<u64>,
    transaction: u64,
}

impl Janus {
    async fn attach(url: String) -> Result<Janus, JoinFailure> {
        let mut request =
            url.into_client_request().map_err(|error| JoinFailure::Unreachable(error.to_string()))?;
        request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static("janus-protocol"));
        let (socket, _) = tokio_tungstenite::connect_async(request).await.map_err(refusal)?;
        let mut janus = Janus { socket, session: None, handle: None, transaction: 0 };
        janus.session = janus.call(json!({ "janus": "create" })).await?["data"]["id"].as_u64();
        let attach = json!({ "janus": "attach", "plugin": "janus.plugin.videoroom" });
        janus.handle = janus.call(attach).await?["data"]["id"].as_u64();
        Ok(janus)
    }

    async fn send(&mut self, mut message: Value) -> Result<(), JoinFailure> {
        self.transaction += 1;
        message["transaction"] = self.transaction.to_string().into();
        for (name, id) in [("session_id", self.session), ("handle_id", self.handle)] {
            if let Some(id) = id {
                message[name] = id.into();
            }
        }
        self.socket.send(Message::text(message.to_string())).await.map_err(|error| closed(&error))
    }

    /// Sends what is answered at once, and gives the answer.
    async fn call(&mut self, message: Value) -> Result<Value, JoinFailure> {
        self.send(message).await?;
        let transaction = self.transaction.to_string();
        loop {
            let answer = self.receive().await?;
            if answer["transaction"] == transaction.as_str() {
                heard(&answer)?;
                return Ok(answer);
            }
        }
    }

    async fn receive(&mut self) -> Result<Value, JoinFailure> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => {
                    return serde_json::from_str(&text).map_err(|error| {
                        JoinFailure::Closed(format!("after a message that is no JSON: {error}"))
                    });
                }
                Some(Ok(Message::Close(frame))) => {
                    let why = frame.map_or_else(String::new, |frame| frame.reason.to_string());
                    return Err(JoinFailure::Closed(why));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(closed(&error)),
                None => return Err(JoinFailure::Closed("without a word".to_owned())),
            }
        }
    }
}

fn closed(error: &Error) -> JoinFailure {
    JoinFailure::Closed(error.to_string())
}

/// What a message of Janus means to a participant, if anything.
fn heard(message: &Value) -> Result<Option<FromServer>, JoinFailure> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    match message["janus"].as_str() {
        Some("error") => {
            let error = &message["error"];
            Err(JoinFailure::SentAway(format!("Janus error {}: {}", error["code"], text(&error["reason"]))))
        }
        Some("hangup") => Err(JoinFailure::SentAway(format!("hung up: {}", text(&message["reason"])))),
        Some("timeout") => Err(JoinFailure::SentAway("its session timed out".to_owned())),
        _ => {
            let data = &message["plugindata"]["data"];
            if let Some(code) = data["error_code"].as_u64().filter(|code| *code != ROOM_EXISTS) {
                return Err(JoinFailure::SentAway(format!(
                    "VideoRoom error {code}: {}",
                    text(&data["error"])
                )));
            }
            let jsep = &message["jsep"];
            Ok(match jsep["type"].as_str() {
                Some("answer") => Some(FromServer::Answer(offer::answered(text(&jsep["sdp"]), 0))),
                Some("offer") => Some(FromServer::Offer(offer::described(text(&jsep["sdp"]), 0))),
                _ => None,
            })
        }
    }
}

/// How a participant's message is put to Janus, if it has anything like it.
fn said(message: ToServer) -> Option<Value> {
    match message {
        ToServer::Answer(answer) => Some(json!({
            "janus": "message",
            "body": { "request": "start", "room": ROOM },
            "jsep": { "type": "answer", "sdp": answer.sdp },
        })),
        ToServer::Trickle(trickle) => {
            let candidate: Value = serde_json::from_str(&trickle.candidate_init).ok()?;
            Some(json!({ "janus": "trickle", "candidate": candidate }))
        }
        ToServer::Leave(_) => Some(json!({ "janus": "destroy" })),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_offer_and_watchers_ask_for_every_feed() {
        let publisher = Visit::new(1, 2, Some("v=0".to_owned())).join();
        assert_eq!((&publisher["jsep"]["sdp"], &publisher["body"]["id"]), (&json!("v=0"), &json!(2)));
        let watcher = Visit::new(2, 2, None).join();
        assert_eq!(watcher["body"]["streams"], json!([{ "feed": 1 }, { "feed": 2 }]));
        assert_eq!(watcher["jsep"], Value::Null);
    }

    #[test]
    fn descriptions_are_told_as_livekit_would() {
        let event = |kind: &str| json!({ "janus": "event", "plugindata": { "data": {} }, "jsep": { "type": kind, "sdp": "v=0" } });
        let heard = |kind| heard(&event(kind)).unwrap();
        assert!(matches!(heard("answer"), Some(FromServer::Answer(answer)) if answer.sdp == "v=0"));
        assert!(matches!(heard("offer"), Some(FromServer::Offer(offer)) if offer.sdp == "v=0"));
        assert!(matches!(super::heard(&json!({ "janus": "ack" })), Ok(None)));
    }

    #[test]
    fn errors_of_janus_and_of_the_room_end_it_but_a_room_that_is_there_does_not() {
        let janus = json!({ "janus": "error", "error": { "code": 460, "reason": "No such plugin" } });
        let room = |code: u64| json!({ "janus": "event", "plugindata": { "data": { "error_code": code, "error": "why" } } });
        for (message, words) in [(janus, "460: No such plugin"), (room(426), "426: why")] {
            let failure = heard(&message).unwrap_err().to_string();
            assert!(failure.contains(words), "{failure}");
        }
        assert!(matches!(heard(&room(ROOM_EXISTS)), Ok(None)));
    }

    #[test]
    fn answers_start_the_feeds() {
        let said = said(ToServer::Answer(offer::answered("v=0".to_owned(), 0))).unwrap();
        assert_eq!((&said["body"]["request"], &said["jsep"]["type"]), (&json!("start"), &json!("answer")));
    }
}
