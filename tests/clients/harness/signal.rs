//! A bare signalling connection, without a peer connection behind it.

use std::net::TcpStream;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use livekit_protocol::{
    ClientInfo, ConnectionSettings, JoinRequest, SessionDescription, SignalRequest, SignalResponse,
    WrappedJoinRequest, signal_request, signal_response,
};
use prost::Message as _;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message, WebSocket};

use super::Server;

/// An open WebSocket.
pub(crate) struct Signal(WebSocket<TcpStream>);

impl Signal {
    /// Connects to `target`, path and query.
    pub(crate) fn connect(server: &Server, target: &str) -> Signal {
        let stream = TcpStream::connect(server.address()).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
        let request = format!("{}{target}", server.url()).into_client_request().expect("a URL");
        let (socket, _) = tungstenite::client(request, stream)
            .unwrap_or_else(|error| panic!("no WebSocket at {:.100}: {error}", target));
        Signal(socket)
    }

    pub(crate) fn send(&mut self, message: signal_request::Message) {
        self.send_raw(SignalRequest { message: Some(message) }.encode_to_vec());
    }

    /// Sends any bytes as one binary message.
    pub(crate) fn send_raw(&mut self, bytes: Vec<u8>) {
        self.0.send(Message::Binary(bytes.into())).expect("the socket is open");
    }

    /// The next signal message.
    ///
    /// # Errors
    /// If the socket ends first, or nothing comes for 5 seconds.
    pub(crate) fn next(&mut self) -> Result<signal_response::Message, String> {
        loop {
            match self.0.read() {
                Ok(Message::Binary(bytes)) => {
                    let response = SignalResponse::decode(bytes).map_err(|error| error.to_string())?;
                    if let Some(message) = response.message {
                        return Ok(message);
                    }
                }
                Ok(Message::Close(frame)) => return Err(format!("closed: {frame:?}")),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// The next signal message that `wanted` wants; others are passed over.
    ///
    /// # Errors
    /// As [`Signal::next`], with what was passed over.
    pub(crate) fn find<T>(
        &mut self,
        mut wanted: impl FnMut(&signal_response::Message) -> Option<T>,
    ) -> Result<T, String> {
        let mut passed = Vec::new();
        loop {
            match self.next() {
                Ok(message) => match wanted(&message) {
                    Some(found) => return Ok(found),
                    None => passed.push(format!("{message:?}").chars().take(120).collect::<String>()),
                },
                Err(error) => return Err(format!("{error} after {passed:?}")),
            }
        }
    }
}

/// A v1 `join_request` with the offer of a client that publishes and receives nothing yet: three recvonly audio and
/// video sections each, and data.
pub(crate) fn join_request() -> String {
    let request = JoinRequest {
        client_info: Some(ClientInfo {
            sdk: 1,
            version: "2.23.0".to_owned(),
            protocol: 17,
            ..ClientInfo::default()
        }),
        connection_settings: Some(ConnectionSettings {
            auto_subscribe: true,
            ..ConnectionSettings::default()
        }),
        publisher_offer: Some(SessionDescription {
            r#type: "offer".to_owned(),
            sdp: offer(),
            id: 1,
            ..SessionDescription::default()
        }),
        ..JoinRequest::default()
    };
    let wrapped =
        WrappedJoinRequest { join_request: request.encode_to_vec(), ..WrappedJoinRequest::default() };
    BASE64_URL_SAFE.encode(wrapped.encode_to_vec())
}

/// An SDP offer, valid but for a fingerprint that no certificate has.
fn offer() -> String {
    let transport = |mid: usize| {
        format!(
            "c=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=ice-options:trickle\r\n\
             a=fingerprint:sha-256 {}\r\na=setup:actpass\r\na=mid:{mid}\r\n",
            ["AA"; 32].join(":")
        )
    };
    let mut sdp =
        String::from("v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1 2 3 4 5 6\r\n");
    for mid in 0..6 {
        let (line, codec) = if mid < 3 {
            ("m=audio 9 UDP/TLS/RTP/SAVPF 111", "a=rtpmap:111 opus/48000/2\r\n")
        } else {
            (
                "m=video 9 UDP/TLS/RTP/SAVPF 96",
                "a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\n",
            )
        };
        sdp.push_str(&format!("{line}\r\n{}a=recvonly\r\na=rtcp-mux\r\n{codec}", transport(mid)));
    }
    sdp.push_str(&format!(
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{}a=sctp-port:5000\r\na=max-message-size:262144\r\n",
        transport(6)
    ));
    sdp
}
