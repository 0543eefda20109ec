//! One peer's agreement with its client, and the two directions of its media.
//!
//! A peer is one peer connection: transport ([`connection`]), what was negotiated, what the client sends
//! ([`uplink`]) and what it gets ([`downlink`], [`subscription`]).

pub(crate) mod backlog;
pub(crate) mod connection;
pub(crate) mod data;
pub(crate) mod downlink;
pub(crate) mod negotiate;
pub(crate) mod report;
pub(crate) mod subscription;
pub(crate) mod uplink;

use std::time::{Duration, Instant};

use self::backlog::DataBacklog;
use self::connection::Connection;
use self::data::PendingData;
use self::downlink::Downlink;
use self::negotiate::Agreement;
use self::uplink::Uplink;
use crate::command::{AddPeer, NegotiationRole};
use crate::ids::{PeerId, RoomId, Ssrc};
use crate::ticks::Ticks;
use crate::track::Track;
use crate::transport::ice::IceConfig;

/// Sender and receiver reports (RFC 3550 §6.2 allows down to 360 / bandwidth in kbit/s seconds).
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// How often quality is told.
pub(crate) const QUALITY_INTERVAL: Duration = Duration::from_secs(5);

/// See the module's page.
pub(crate) struct Peer {
    pub(crate) id: PeerId,
    pub(crate) room: RoomId,
    pub(crate) connection: Connection,
    pub(crate) agreement: Agreement,
    pub(crate) uplink: Uplink,
    pub(crate) downlink: Downlink,
    pub(crate) pending_data: PendingData,
    /// Of data tracks.
    pub(crate) data_backlog: DataBacklog,
    /// Names us in RTCP.
    pub(crate) ssrc: Ssrc,
    pub(crate) report_due: Instant,
    pub(crate) quality_due: Instant,
    /// Packets in either direction at the last quality report.
    pub(crate) counted: u64,
    pub(crate) first_media_told: bool,
}

impl Peer {
    pub(crate) fn new(
        now: Instant,
        ticks: Ticks,
        add: AddPeer,
        ice: &IceConfig,
        rng: &mut fastrand::Rng,
    ) -> Self {
        let mut connection = Connection::new(ice, rng);
        let offers_channels = !add.channels.is_empty();
        connection.wanted_channels =
            add.channels.into_iter().map(|channel| (channel.label, channel.reliability)).collect();
        let mut agreement = Agreement::new(add.role, rng.u64(..));
        agreement.data_channels = offers_channels;
        if add.role == NegotiationRole::Offerer {
            agreement.want(now);
        }
        Peer {
            id: add.peer,
            room: add.room,
            connection,
            agreement,
            uplink: Uplink::new(now),
            downlink: Downlink::new(now, ticks),
            pending_data: PendingData::default(),
            data_backlog: DataBacklog::default(),
            ssrc: Ssrc(rng.u32(1..)),
            report_due: now + REPORT_INTERVAL,
            quality_due: now + QUALITY_INTERVAL,
            counted: 0,
            first_media_told: false,
        }
    }

    /// The client's round trip, as its downlink knows it.
    pub(crate) fn rtt(&self) -> Duration {
        self.downlink.controller.rtt()
    }

    pub(crate) fn next_timeout(&self, tracks: &[Option<Box<Track>>]) -> Option<Instant> {
        let media = self.connection.is_up().then(|| {
            let rtt = self.rtt();
            let of_tracks = self
                .uplink
                .tracks
                .iter()
                .filter_map(|index| tracks.get(*index)?.as_ref()?.next_timeout(rtt))
                .min();
            let report = Some(self.report_due);
            [of_tracks, report, self.uplink.feedback.next_timeout(), self.downlink.next_timeout()]
                .into_iter()
                .flatten()
                .min()
        });
        let all = [
            self.connection.next_timeout(),
            self.agreement.next_timeout(),
            self.pending_data.next_timeout(),
            Some(self.quality_due),
            media.flatten(),
        ];
        all.into_iter().flatten().min()
    }
}
