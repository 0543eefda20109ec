//! A client's WebSocket: answers what the server asks of every client, and makes offers.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE;
use futures_util::{SinkExt as _, StreamExt as _};
use livekit_protocol::signal_request::Message as ToServer;
use livekit_protocol::signal_response::Message as ToClient;
use livekit_protocol::{
    ClientInfo, ConnectionSettings, JoinRequest, SessionDescription, SignalRequest, SignalResponse,
    WrappedJoinRequest,
};
use prost::Message as _;
use rtc::peer_connection::configuration::RTCOfferOptions;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use webrtc::peer_connection::{PeerConnection, RTCSessionDescription};

use super::journal::Shared;
use super::peer::offer_to_receive;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What a test wants said.
pub(crate) enum Request {
    Send(Box<ToServer>),
    /// Offer what the publishing connection now has; told when the answer is applied.
    Offer(oneshot::Sender<()>),
    /// The same with an ICE restart.
    Restart(oneshot::Sender<()>),
}

/// See the module's page.
pub(crate) struct Signalling {
    socket: Socket,
    publisher: Arc<dyn PeerConnection>,
    /// In v0: where the server offers.
    subscriber: Option<Arc<dyn PeerConnection>>,
    journal: Shared,
    /// Of the latest offer.
    offer_id: u32,
    awaits_answer: bool,
    must_offer: bool,
    restart: bool,
    /// Whom to tell when the answer to the offer under way was applied, and to the one after it.
    offered: Vec<oneshot::Sender<()>>,
    to_offer: Vec<oneshot::Sender<()>>,
}

impl Signalling {
    /// For connections that were made; without a `subscriber`, an offer was made too (v1).
    pub(crate) fn new(
        socket: Socket,
        publisher: Arc<dyn PeerConnection>,
        subscriber: Option<Arc<dyn PeerConnection>>,
        journal: Shared,
    ) -> Signalling {
        let offered = subscriber.is_none();
        Signalling {
            socket,
            publisher,
            subscriber,
            journal,
            offer_id: u32::from(offered),
            awaits_answer: offered,
            must_offer: false,
            restart: false,
            offered: Vec::new(),
            to_offer: Vec::new(),
        }
    }

    /// For connections that had another socket before, over which `last_offer` was the latest of the client's.
    pub(crate) fn resumed(self, last_offer: u32) -> Signalling {
        Signalling { offer_id: last_offer, awaits_answer: false, ..self }
    }

    /// Until either side closes.
    pub(crate) async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Request>) {
        loop {
            tokio::select! {
                frame = self.socket.next() => match frame {
                    Some(Ok(Message::Binary(bytes))) => {
                        let response = SignalResponse::decode(bytes).expect("a protobuf");
                        let Some(message) = response.message else { continue };
                        self.react(&message).await;
                        self.journal.write(|journal| journal.signals.push(message));
                    }
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                    Some(Ok(_)) => {}
                },
                request = requests.recv() => match request {
                    Some(Request::Send(message)) => self.send(*message).await,
                    Some(Request::Offer(done)) => {
                        self.to_offer.push(done);
                        self.must_offer = true;
                        self.offer().await;
                    }
                    Some(Request::Restart(done)) => {
                        self.to_offer.push(done);
                        (self.must_offer, self.restart) = (true, true);
                        self.offer().await;
                    }
                    None => return,
                },
            }
        }
    }

    async fn react(&mut self, message: &ToClient) {
        match message {
            ToClient::Answer(answer) if answer.id == self.offer_id => {
                let description = RTCSessionDescription::answer(answer.sdp.clone()).expect("SDP");
                self.publisher.set_remote_description(description).await.expect("an answer to our offer");
                self.awaits_answer = false;
                for done in self.offered.drain(..) {
                    let _ = done.send(());
                }
                self.offer().await;
            }
            ToClient::Offer(offer) => {
                let subscriber = self.subscriber.as_ref().expect("in v1 the client offers");
                let description = RTCSessionDescription::offer(offer.sdp.clone()).expect("SDP");
                subscriber.set_remote_description(description).await.expect("an offer");
                let answer = subscriber.create_answer(None).await.expect("an answer");
                subscriber.set_local_description(answer.clone()).await.expect("our own answer");
                self.send(ToServer::Answer(described("answer", answer.sdp, offer.id))).await;
            }
            ToClient::MediaSectionsRequirement(needed) => {
                offer_to_receive(&*self.publisher, RtpCodecKind::Audio, needed.num_audios).await;
                offer_to_receive(&*self.publisher, RtpCodecKind::Video, needed.num_videos).await;
                self.must_offer = true;
                self.offer().await;
            }
            _ => {}
        }
    }

    /// Offers, if there is need and no other offer is under way.
    async fn offer(&mut self) {
        if self.awaits_answer || !self.must_offer {
            return;
        }
        self.awaits_answer = true;
        self.must_offer = false;
        self.offered.append(&mut self.to_offer);
        self.offer_id += 1;
        let sdp = local_offer(&*self.publisher, std::mem::take(&mut self.restart)).await;
        self.send(ToServer::Offer(described("offer", sdp, self.offer_id))).await;
    }

    async fn send(&mut self, message: ToServer) {
        let bytes = SignalRequest { message: Some(message) }.encode_to_vec();
        self.socket.send(Message::Binary(bytes.into())).await.expect("the socket is open");
    }
}

/// Makes an offer, with new ICE credentials or not, and takes it for its own. The server is ICE-lite and learns our candidates from our checks.
pub(crate) async fn local_offer(connection: &dyn PeerConnection, ice_restart: bool) -> String {
    let options = ice_restart.then_some(RTCOfferOptions { ice_restart });
    let offer = connection.create_offer(options).await.expect("an offer");
    connection.set_local_description(offer.clone()).await.expect("our own offer");
    offer.sdp
}

fn described(r#type: &str, sdp: String, id: u32) -> SessionDescription {
    SessionDescription { r#type: r#type.to_owned(), sdp, id, ..SessionDescription::default() }
}

/// The `join_request` of v1, with the offer `sdp` as number 1.
pub(crate) fn join_request(sdp: String) -> String {
    wrapped(&JoinRequest { publisher_offer: Some(described("offer", sdp, 1)), ..first_request() })
}

/// The same to resume as `participant_sid`, as JS has it: without an offer.
pub(crate) fn resume_request(participant_sid: &str) -> String {
    wrapped(&JoinRequest { reconnect: true, participant_sid: participant_sid.to_owned(), ..first_request() })
}

fn first_request() -> JoinRequest {
    JoinRequest {
        client_info: Some(ClientInfo { protocol: 17, ..ClientInfo::default() }),
        connection_settings: Some(ConnectionSettings {
            auto_subscribe: true,
            ..ConnectionSettings::default()
        }),
        ..JoinRequest::default()
    }
}

fn wrapped(request: &JoinRequest) -> String {
    let wrapped =
        WrappedJoinRequest { join_request: request.encode_to_vec(), ..WrappedJoinRequest::default() };
    BASE64_URL_SAFE.encode(wrapped.encode_to_vec())
}
