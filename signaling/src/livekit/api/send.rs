//! Data messages that applications' servers send. They have no sender.

use std::collections::HashSet;

use livekit_protocol as lk;
use livekit_protocol::data_packet::{Kind, Value};
use prost::Message as _;
use sfu::command::Command;
use sfu::ids::PeerId;

use crate::livekit::data::{LOSSY, RELIABLE};
use crate::livekit::participant::Participant;
use crate::livekit::room::Room;

impl Room {
    /// To those named by identity or sid, or to everybody if nobody is named. A nonce that came before is not sent again:
    /// SDKs repeat calls that went wrong on their way.
    #[expect(
        deprecated,
        reason = "applications still name receivers by sid, and older clients read the kind"
    )]
    pub(super) fn send_data(&mut self, request: lk::SendDataRequest) {
        if let Ok(nonce) = <[u8; 16]>::try_from(&request.nonce[..])
            && self.nonces.is_repeated(nonce)
        {
            return;
        }
        let to: Vec<PeerId> = if request.destination_identities.is_empty()
            && request.destination_sids.is_empty()
        {
            self.people.values().map(|who| who.link.subscriber()).collect()
        } else {
            let identities: HashSet<&String> = request.destination_identities.iter().collect();
            let sids: HashSet<&String> = request.destination_sids.iter().collect();
            let is_named = |who: &&Participant| identities.contains(&who.identity) || sids.contains(&who.sid);
            let wanted = self.people.values().filter(is_named);
            wanted.map(|who| who.link.subscriber()).collect()
        };
        if to.is_empty() {
            return;
        }
        let lossy = request.kind == Kind::Lossy as i32;
        let packet = lk::DataPacket {
            kind: if lossy { Kind::Lossy } else { Kind::Reliable } as i32,
            value: Some(Value::User(lk::UserPacket {
                payload: request.data,
                topic: request.topic,
                nonce: request.nonce,
                ..lk::UserPacket::default()
            })),
            ..lk::DataPacket::default()
        };
        self.command(Command::SendData {
            to: to.into(),
            label: if lossy { LOSSY } else { RELIABLE }.to_owned(),
            binary: true,
            payload: packet.encode_to_vec().into(),
        });
    }
}
