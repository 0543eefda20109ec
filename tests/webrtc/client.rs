//! A LiveKit client made of the `webrtc` crate, and the server that it joins.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use livekit_protocol::signal_request::Message as ToServer;
use livekit_protocol::signal_response::Message as ToClient;
use livekit_protocol::{
    AddTrackRequest, DataPacket, DisconnectReason, LeaveRequest, SignalTarget, leave_request::Action,
};
use prost::Message as _;
use rtc::rtp_transceiver::rtp_sender::RtpCodecKind;
use signaling::access::{self, Claims, VideoGrant};
use sluice::config::DEV_KEY;
use sluice::{RunningServer, Server, Settings};
use tokio::sync::{mpsc, oneshot};
use webrtc::data_channel::DataChannel;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::peer_connection::PeerConnection;
use webrtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit, RtpSender};

use super::journal::{Journal, PATIENCE, Shared};
use super::peer::{DATA_TRACK, Hooks, LOSSY, RELIABLE, connection, make_channels, offer_to_receive};
use super::signalling::{Request, Signalling, join_request, local_offer, resume_request};
use super::tap::Losses;

const ROOM: &str = "room";

/// How a client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `/rtc/v1`: one peer connection, in which the client offers.
    V1,
    /// `/rtc`: one in which the client offers, to publish, and one in which the server does.
    V0,
}

/// Plays a test in both modes at once: most of it is waiting.
pub(crate) async fn in_both_modes(test: impl AsyncFn(Mode)) {
    tokio::join!(Box::pin(test(Mode::V1)), Box::pin(test(Mode::V0)));
}

/// A server on loopback, on free ports.
pub(crate) async fn start_server() -> RunningServer {
    Server::start(Settings::test()).await.unwrap_or_else(|error| panic!("{error}"))
}

/// See the module's page.
pub(crate) struct Client {
    journal: Shared,
    requests: mpsc::UnboundedSender<Request>,
    publisher: Arc<dyn PeerConnection>,
    subscriber: Option<Arc<dyn PeerConnection>>,
    channels: Vec<Arc<dyn DataChannel>>,
    losses: Arc<Losses>,
    mode: Mode,
    token: String,
    /// SSRCs of which the server asked for a keyframe; a camera takes them.
    pub(crate) keyframes: Option<mpsc::UnboundedReceiver<u32>>,
}

impl Client {
    /// Alice and Bob, in the room that everybody joins.
    pub(crate) async fn two(server: &RunningServer, mode: Mode) -> (Client, Client) {
        let join = |identity| Box::pin(Client::join(server, mode, identity));
        tokio::join!(join("alice"), join("bob"))
    }

    /// Joins, and is back when its connections and channels are open.
    pub(crate) async fn join(server: &RunningServer, mode: Mode, identity: &str) -> Client {
        let journal = Shared::new();
        let losses = Arc::new(Losses::default());
        let (request_keyframe, keyframes) = mpsc::unbounded_channel();
        let hooks = || Hooks {
            journal: journal.clone(),
            losses: Arc::clone(&losses),
            keyframes: request_keyframe.clone(),
        };
        let publisher = connection(SignalTarget::Publisher, hooks()).await;
        let channels = make_channels(&*publisher, &journal).await;
        let token = token(identity);
        let (path, subscriber) = match mode {
            Mode::V1 => {
                offer_to_receive(&*publisher, RtpCodecKind::Audio, 1).await;
                offer_to_receive(&*publisher, RtpCodecKind::Video, 1).await;
                let request = join_request(local_offer(&*publisher, false).await);
                (format!("/rtc/v1?access_token={token}&join_request={request}"), None)
            }
            Mode::V0 => {
                let subscriber = connection(SignalTarget::Subscriber, hooks()).await;
                (format!("/rtc?access_token={token}&protocol=16"), Some(subscriber))
            }
        };
        let url = format!("ws://{}{path}", server.http_addr);
        let (socket, _) = tokio_tungstenite::connect_async(url).await.expect("a WebSocket");
        let signalling = Signalling::new(socket, Arc::clone(&publisher), subscriber.clone(), journal.clone());
        let (requests, inbox) = mpsc::unbounded_channel();
        tokio::spawn(signalling.run(inbox));
        let client = Client {
            journal,
            requests,
            publisher,
            subscriber,
            channels,
            losses,
            mode,
            token,
            keyframes: Some(keyframes),
        };
        if mode == Mode::V0 {
            client.offer().await;
        }
        let targets = match mode {
            Mode::V1 => &[SignalTarget::Publisher][..],
            Mode::V0 => &[SignalTarget::Publisher, SignalTarget::Subscriber],
        };
        let open = |journal: &Journal| {
            let is_open = |target: SignalTarget| {
                let labels = [RELIABLE, LOSSY, DATA_TRACK].into_iter();
                let mut channels = labels.map(|label| (target, label.to_owned()));
                journal.connected.contains(&target) && channels.all(|on| journal.open_channels.contains(&on))
            };
            targets.iter().all(|target| is_open(*target)).then_some(())
        };
        client.until("connections and channels", open).await;
        client
    }

    /// Loses its socket without a word.
    pub(crate) fn lose_socket(&mut self) {
        // Its task ends, and takes the socket along.
        self.requests = mpsc::unbounded_channel().0;
    }

    /// Opens another socket for the participant that it is, and restarts ICE over new ports, as SDKs do.
    pub(crate) async fn resume(&mut self, server: &RunningServer) {
        let sid = self.read(|journal| match &journal.signals[0] {
            ToClient::Join(join) => join.participant.as_ref().expect("ourselves").sid.clone(),
            other => panic!("not a join: {other:?}"),
        });
        let token = &self.token;
        let path = match self.mode {
            Mode::V1 => format!("/rtc/v1?access_token={token}&join_request={}", resume_request(&sid)),
            Mode::V0 => format!("/rtc?access_token={token}&protocol=16&reconnect=1&sid={sid}"),
        };
        let url = format!("ws://{}{path}", server.http_addr);
        let (socket, _) = tokio_tungstenite::connect_async(url).await.expect("a WebSocket");
        let (publisher, subscriber) = (Arc::clone(&self.publisher), self.subscriber.clone());
        let signalling = Signalling::new(socket, publisher, subscriber, self.journal.clone()).resumed(100);
        let (requests, inbox) = mpsc::unbounded_channel();
        tokio::spawn(signalling.run(inbox));
        self.requests = requests;
        let (done, answered) = oneshot::channel();
        self.requests.send(Request::Restart(done)).expect("the session goes on");
        let answered = tokio::time::timeout(PATIENCE, answered);
        answered.await.expect("an answer in time").expect("an answer");
    }

    /// See [`Shared::until`].
    pub(crate) async fn until<T>(&self, what: &str, look: impl FnMut(&Journal) -> Option<T>) -> T {
        self.journal.until(what, look).await
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Journal) -> T) -> T {
        self.journal.read(look)
    }

    pub(crate) fn send(&self, message: ToServer) {
        self.requests.send(Request::Send(Box::new(message))).expect("the session goes on");
    }

    /// Offers what the publishing connection has, and waits for the answer.
    async fn offer(&self) {
        let (done, answered) = oneshot::channel();
        self.requests.send(Request::Offer(done)).expect("the session goes on");
        let answered = tokio::time::timeout(PATIENCE, answered);
        answered.await.expect("an answer in time").expect("an answer");
    }

    /// Publishes `track` in a section of its own; gives its sender and the section's `mid`.
    pub(crate) async fn publish(
        &self,
        track: Arc<dyn TrackLocal>,
        request: AddTrackRequest,
    ) -> (Arc<dyn RtpSender>, String) {
        let cid = request.cid.clone();
        self.send(ToServer::AddTrack(request));
        let published = |journal: &Journal| {
            let is_ours = |m: &ToClient| matches!(m, ToClient::TrackPublished(track) if track.cid == cid);
            journal.signals.iter().any(is_ours).then_some(())
        };
        self.until("the track's number", published).await;
        let init =
            RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Sendonly, ..Default::default() };
        let transceiver = self.publisher.add_transceiver_from_track(track, Some(init)).await;
        let transceiver = transceiver.expect("a transceiver");
        self.offer().await;
        let sender = transceiver.sender().await.expect("open").expect("it was made from a track");
        (sender, transceiver.mid().await.expect("open").expect("it was negotiated"))
    }

    /// Sends on its own channel of that name.
    pub(crate) async fn send_data(&self, label: &str, packet: &DataPacket) {
        self.send_bytes(label, &packet.encode_to_vec()).await;
    }

    /// The same for a packet of a data track.
    pub(crate) async fn send_data_track(&self, packet: &[u8]) {
        self.send_bytes(DATA_TRACK, packet).await;
    }

    async fn send_bytes(&self, label: &str, bytes: &[u8]) {
        for channel in &self.channels {
            if channel.label().await.expect("open") == label {
                channel.send(BytesMut::from(bytes)).await.expect("open");
            }
        }
    }

    /// Loses the next packet of video on its way to the server.
    pub(crate) fn lose_outgoing(&self) {
        self.losses.outgoing.store(true, Ordering::Relaxed);
    }

    /// Loses the next packet of video on its way from the server.
    pub(crate) fn lose_incoming(&self) {
        self.losses.incoming.store(true, Ordering::Relaxed);
    }

    /// Says that it goes, as SDKs do, and closes its connections; the socket goes with the client.
    pub(crate) async fn leave(self) {
        self.send(ToServer::Leave(LeaveRequest {
            reason: DisconnectReason::ClientInitiated as i32,
            action: Action::Disconnect as i32,
            ..LeaveRequest::default()
        }));
        for connection in std::iter::once(self.publisher).chain(self.subscriber) {
            connection.close().await.expect("closed");
        }
    }
}

fn token(identity: &str) -> String {
    let grant = VideoGrant { room_join: true, room: ROOM.to_owned(), ..VideoGrant::default() };
    let claims = Claims { sub: identity.to_owned(), video: Some(grant), ..Claims::default() };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    access::mint(DEV_KEY.0, DEV_KEY.1, claims, Duration::from_mins(1), now as i64).expect("a token")
}
