//! When not even sound gets through to or from somebody: everybody is told, so that an app can offer text.
//!
//! The participant's attribute [`NETWORK`] says so for as long as it lasts, its quality is poor, and a data message on
//! [`TOPIC`] tells it and the others at once (`docs/adaptation.md` has its shape). The core decides, with patience.
//! Always: the attribute is ours alone; what a client says of it is refused, and no token carries it.

use livekit_protocol::data_packet::{Kind, Value};
use livekit_protocol::{DataPacket, UserPacket};
use prost::Message as _;
use serde::Serialize;
use sfu::command::{Command, VoiceFault, Way};
use sfu::ids::PeerId;

use super::data;
use super::output::Clock;
use super::participant::{Participant, Seat};
use super::room::Room;

/// The attribute that is there while no sound gets through…
pub(super) const NETWORK: &str = "sluice.network";
/// …and what it says: text is what is left.
pub(super) const TEXT: &str = "text";
/// Topic of the messages.
const TOPIC: &str = "sluice.fallback";

/// What is left of a conversation with somebody, as a message on [`TOPIC`] tells it.
#[derive(Debug, PartialEq, Serialize)]
struct Fallback<'a> {
    identity: &'a str,
    sid: &'a str,
    mode: &'static str,
    /// Why it is not heard; `null` if it is.
    up: Option<&'static str>,
    /// Why it does not hear.
    down: Option<&'static str>,
}

impl Participant {
    /// Whether sound gets through to it and from it.
    pub(super) fn has_voice(&self) -> bool {
        self.voice_faults.is_empty()
    }

    fn fault(&self, way: Way) -> Option<&'static str> {
        let of_way = self.voice_faults.iter().find(|((_, of), _)| *of == way);
        of_way.map(|(_, fault)| match fault {
            VoiceFault::Loss => "loss",
            VoiceFault::Delay => "delay",
            VoiceFault::Bandwidth => "bandwidth",
            VoiceFault::Outage => "outage",
        })
    }

    /// The message about it.
    fn fallback(&self) -> Vec<u8> {
        let told = Fallback {
            identity: &self.identity,
            sid: &self.sid,
            mode: if self.has_voice() { "voice" } else { TEXT },
            up: self.fault(Way::Up),
            down: self.fault(Way::Down),
        };
        let payload = serde_json::to_vec(&told).expect("strings alone are always JSON");
        let user = UserPacket { payload, topic: Some(TOPIC.to_owned()), ..UserPacket::default() };
        #[expect(deprecated, reason = "older clients read the kind here")]
        let packet = DataPacket {
            kind: Kind::Reliable as i32,
            value: Some(Value::User(user)),
            ..DataPacket::default()
        };
        packet.encode_to_vec()
    }
}

impl Room {
    /// The core found that sound does not get through a connection any more, or does again.
    pub(super) fn voice_changed(&mut self, clock: Clock, peer: PeerId, way: Way, fault: Option<VoiceFault>) {
        let Some(seat) = self.seat_of(peer) else { return };
        let Some(who) = self.people.get_mut(&seat) else { return };
        let before = (who.has_voice(), who.fault(Way::Up).is_some(), who.fault(Way::Down).is_some());
        match fault {
            Some(fault) => who.voice_faults.insert((peer, way), fault),
            None => who.voice_faults.remove(&(peer, way)),
        };
        let after = (who.has_voice(), who.fault(Way::Up).is_some(), who.fault(Way::Down).is_some());
        if before == after {
            return;
        }
        self.send_fallback(seat);
        if before.0 != after.0 {
            self.announce_news(clock, seat);
            self.judge_quality();
        }
    }

    /// To everybody who knows of the participant, and to itself: from nobody, as all that the server says.
    fn send_fallback(&mut self, seat: Seat) {
        let Some(who) = self.people.get(&seat) else { return };
        let to: Vec<PeerId> = self
            .people
            .values()
            .filter(|other| other.seat == seat || !who.is_hidden())
            .map(|other| other.link.subscriber())
            .collect();
        let (label, payload) = (data::RELIABLE.to_owned(), who.fallback().into());
        self.command(Command::SendData { to: to.into(), label, binary: true, payload });
    }
}
