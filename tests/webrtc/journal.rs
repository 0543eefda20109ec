//! What a client saw, in order, and how to wait for more.

use std::sync::Arc;
use std::time::Duration;

use livekit_protocol::signal_response::Message as ToClient;
use livekit_protocol::{DataPacket, ParticipantInfo, SignalTarget, TrackInfo};
use rtc::{rtcp, rtp};
use tokio::sync::watch;
use webrtc::media_stream::track_remote::TrackRemote;

/// After this long, what a test waits for will not come. Far more than a loaded machine takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// All that one client saw since it joined, oldest first.
#[derive(Default)]
pub(crate) struct Journal {
    /// What the server said.
    pub(crate) signals: Vec<ToClient>,
    /// Connections that came up.
    pub(crate) connected: Vec<SignalTarget>,
    /// Data channels that opened, and whose connection they are on.
    pub(crate) open_channels: Vec<(SignalTarget, String)>,
    /// Tracks from the server.
    pub(crate) tracks: Vec<Arc<dyn TrackRemote>>,
    /// RTP between the client's stack and the network, retransmissions included.
    pub(crate) sent: Vec<rtp::Packet>,
    pub(crate) received: Vec<rtp::Packet>,
    /// RTP that the test took off the wire, in either direction.
    pub(crate) lost: Vec<rtp::Packet>,
    /// RTCP from the server.
    pub(crate) feedback: Vec<Box<dyn rtcp::Packet>>,
    /// RTP as the stack gives it to its application.
    pub(crate) media: Vec<rtp::Packet>,
    /// Data packets, with the label of their channel.
    pub(crate) data: Vec<(String, DataPacket)>,
    /// Packets of data tracks.
    pub(crate) data_tracks: Vec<Vec<u8>>,
}

impl Journal {
    /// The latest news of somebody else, after our own join.
    pub(crate) fn latest_of(&self, identity: &str) -> Option<&ParticipantInfo> {
        let updates = self.signals.iter().rev().filter_map(|signal| match signal {
            ToClient::Update(update) => Some(update.participants.iter().rev()),
            _ => None,
        });
        updates.flatten().find(|participant| participant.identity == identity)
    }

    /// The first track of somebody else.
    pub(crate) fn track_of(&self, identity: &str) -> Option<TrackInfo> {
        self.latest_of(identity)?.tracks.first().cloned()
    }

    /// RTCP of one kind from the server.
    pub(crate) fn feedback_of<T: 'static>(&self) -> impl Iterator<Item = &T> {
        self.feedback.iter().filter_map(|packet| packet.as_any().downcast_ref())
    }
}

/// A journal that several tasks write and anybody waits on.
#[derive(Clone)]
pub(crate) struct Shared(watch::Sender<Journal>);

impl Shared {
    pub(crate) fn new() -> Shared {
        Shared(watch::Sender::new(Journal::default()))
    }

    pub(crate) fn write(&self, entry: impl FnOnce(&mut Journal)) {
        self.0.send_modify(entry);
    }

    pub(crate) fn read<T>(&self, look: impl FnOnce(&Journal) -> T) -> T {
        look(&self.0.borrow())
    }

    /// What `look` finds, as soon as it finds something; `what` names it for whoever waited in vain.
    pub(crate) async fn until<T>(&self, what: &str, mut look: impl FnMut(&Journal) -> Option<T>) -> T {
        let mut changes = self.0.subscribe();
        let found = async {
            loop {
                let found = look(&changes.borrow_and_update());
                if let Some(found) = found {
                    return found;
                }
                changes.changed().await.expect("we hold the other end");
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await;
        found.unwrap_or_else(|_| panic!("waited in vain for {what}; {}", self.summary()))
    }

    fn summary(&self) -> String {
        self.read(|journal| {
            let signals: Vec<String> =
                journal.signals.iter().map(|signal| format!("{signal:?}").chars().take(60).collect()).collect();
            format!(
                "connected {:?}, {} packets sent, {} received, {} lost, {} for the application, {} of RTCP, {} of \
                 data, signals {signals:#?}",
                journal.connected,
                journal.sent.len(),
                journal.received.len(),
                journal.lost.len(),
                journal.media.len(),
                journal.feedback.len(),
                journal.data.len(),
            )
        })
    }
}
