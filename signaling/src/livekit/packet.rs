//! `DataPacket`s on their way through: the sender's name put right, everything else left as it came.
//!
//! The message is not decoded and written anew, since that would lose the fields of newer SDKs: only the fields
//! that say who sent it and to whom are taken out, here and in the old places inside a `UserPacket`, and the
//! true sender is written at the end. Always: what a receiver reads as the sender is the sender.

use livekit_protocol::{RpcAck, RpcResponse};
use prost::Message as _;

/// Field numbers of `DataPacket`, from the protocol's definitions.
mod field {
    pub(super) const USER: u32 = 2;
    pub(super) const SPEAKER: u32 = 3;
    pub(super) const IDENTITY: u32 = 4;
    pub(super) const DESTINATIONS: u32 = 5;
    pub(super) const TRANSCRIPTION: u32 = 7;
    pub(super) const METRICS: u32 = 8;
    pub(super) const RPC_ACK: u32 = 11;
    pub(super) const RPC_RESPONSE: u32 = 12;
    pub(super) const SEQUENCE: u32 = 16;
    pub(super) const SID: u32 = 17;
    /// Of `UserPacket`: the sender's sid, the receivers' sids, the sender's identity, the receivers' identities.
    pub(super) const USER_ADDRESSES: [u32; 4] = [1, 3, 5, 6];
    pub(super) const USER_DESTINATIONS: u32 = 6;
    pub(super) const USER_NONCE: u32 = 11;
}

/// More receivers by name than any client has reason to list.
const MAX_DESTINATIONS: usize = 1024;

/// A packet, with the sender's claims about itself taken out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Packet {
    /// Who shall get it, by identity; empty for everybody.
    pub(super) destinations: Vec<String>,
    /// The client's count of reliable packets; 0 from clients that do not count.
    pub(super) sequence: u32,
    /// A transcription, which only agents may send.
    pub(super) transcription: bool,
    /// Who speaks, which only the server says; SDKs believe it.
    pub(super) speakers: bool,
    /// Metrics, which only those get who may subscribe to them.
    pub(super) metrics: bool,
    /// Tells a message that was sent twice.
    pub(super) nonce: Option<[u8; 16]>,
    /// It answers a call of a method, perhaps of ours.
    pub(super) rpc: Option<RpcPart>,
    /// All other fields, as they came.
    body: Vec<u8>,
}

/// What a client answers to a call of a method of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RpcPart {
    /// It has the call.
    Ack(RpcAck),
    /// What came of it.
    Response(RpcResponse),
}

/// Not a `DataPacket`, or one with too many receivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a DataPacket")]
pub(super) struct NotAPacket;

impl Packet {
    /// Reads what the server must know; untrusted.
    pub(super) fn parse(bytes: &[u8]) -> Result<Packet, NotAPacket> {
        let mut packet = Packet {
            destinations: Vec::new(),
            sequence: 0,
            transcription: false,
            speakers: false,
            metrics: false,
            nonce: None,
            rpc: None,
            body: Vec::with_capacity(bytes.len()),
        };
        let mut old_destinations = Vec::new();
        for field in Fields(bytes) {
            let field = field?;
            match (field.number, field.payload) {
                (field::IDENTITY | field::SID, _) => {}
                (field::DESTINATIONS, Payload::Bytes(name)) => {
                    push_name(&mut packet.destinations, name)?;
                    packet.body.extend_from_slice(field.raw);
                }
                (field::SEQUENCE, Payload::Number(sequence)) => {
                    packet.sequence = u32::try_from(sequence).map_err(|_| NotAPacket)?;
                    packet.body.extend_from_slice(field.raw);
                }
                (field::USER, Payload::Bytes(user)) => {
                    let user = clean_user(user, &mut old_destinations, &mut packet.nonce)?;
                    write_field(&mut packet.body, field::USER, &user);
                }
                (field::RPC_ACK, Payload::Bytes(ack)) => {
                    packet.rpc = Some(RpcPart::Ack(RpcAck::decode(ack).map_err(|_| NotAPacket)?));
                    packet.body.extend_from_slice(field.raw);
                }
                (field::RPC_RESPONSE, Payload::Bytes(response)) => {
                    packet.rpc =
                        Some(RpcPart::Response(RpcResponse::decode(response).map_err(|_| NotAPacket)?));
                    packet.body.extend_from_slice(field.raw);
                }
                (number, _) => {
                    packet.transcription |= number == field::TRANSCRIPTION;
                    packet.speakers |= number == field::SPEAKER;
                    packet.metrics |= number == field::METRICS;
                    packet.body.extend_from_slice(field.raw);
                }
            }
        }
        if packet.destinations.is_empty() {
            packet.destinations = old_destinations;
        }
        Ok(packet)
    }

    /// The packet as receivers get it. `identity` is empty for a hidden sender.
    pub(super) fn signed(mut self, identity: &str, sid: &str) -> Vec<u8> {
        if !identity.is_empty() {
            write_field(&mut self.body, field::IDENTITY, identity.as_bytes());
        }
        write_field(&mut self.body, field::SID, sid.as_bytes());
        self.body
    }
}

/// A `UserPacket` without the old copies of sender and receivers, which older receivers would believe.
fn clean_user(
    bytes: &[u8],
    destinations: &mut Vec<String>,
    nonce: &mut Option<[u8; 16]>,
) -> Result<Vec<u8>, NotAPacket> {
    let mut clean = Vec::with_capacity(bytes.len());
    for field in Fields(bytes) {
        let field = field?;
        match (field.number, field.payload) {
            (field::USER_DESTINATIONS, Payload::Bytes(name)) => push_name(destinations, name)?,
            (field::USER_NONCE, Payload::Bytes(bytes)) => *nonce = bytes.try_into().ok(),
            _ => {}
        }
        if !field::USER_ADDRESSES.contains(&field.number) {
            clean.extend_from_slice(field.raw);
        }
    }
    Ok(clean)
}

fn push_name(names: &mut Vec<String>, name: &[u8]) -> Result<(), NotAPacket> {
    if names.len() >= MAX_DESTINATIONS {
        return Err(NotAPacket);
    }
    names.push(std::str::from_utf8(name).map_err(|_| NotAPacket)?.to_owned());
    Ok(())
}

/// Appends a length-delimited field.
fn write_field(to: &mut Vec<u8>, number: u32, payload: &[u8]) {
    prost::encoding::encode_varint(u64::from(number << 3 | 2), to);
    prost::encoding::encode_varint(payload.len() as u64, to);
    to.extend_from_slice(payload);
}

struct Field<'a> {
    number: u32,
    payload: Payload<'a>,
    /// Tag and payload, as they came.
    raw: &'a [u8],
}

#[derive(Clone, Copy)]
enum Payload<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    Fixed,
}

/// The fields of a protobuf message, outermost level only. Groups, which the protocol never uses, are refused.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn read(&mut self) -> Option<Field<'a>> {
        let start = self.0;
        let tag = u32::try_from(self.varint()?).ok()?;
        let payload = match tag & 7 {
            0 => Payload::Number(self.varint()?),
            1 => self.take(8).map(|_| Payload::Fixed)?,
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Payload::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Payload::Fixed)?,
            _ => return None,
        };
        let raw = &start[..start.len() - self.0.len()];
        (tag >> 3 != 0).then_some(Field { number: tag >> 3, payload, raw })
    }

    fn varint(&mut self) -> Option<u64> {
        prost::encoding::decode_varint(&mut self.0).ok()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, NotAPacket>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.read().ok_or(NotAPacket);
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
#[expect(deprecated, reason = "the old fields are what is tested")]
mod tests {
    use livekit_protocol::data_packet::Value;
    use livekit_protocol::{DataPacket, UserPacket};
    use prost::Message as _;

    use super::*;

    fn user(user: UserPacket) -> DataPacket {
        DataPacket {
            participant_identity: "mallory".into(),
            participant_sid: "PA_fake".into(),
            sequence: 7,
            value: Some(Value::User(user)),
            ..DataPacket::default()
        }
    }

    fn through(packet: &DataPacket) -> DataPacket {
        let signed = Packet::parse(&packet.encode_to_vec()).unwrap().signed("alice", "PA_a");
        DataPacket::decode(&signed[..]).unwrap()
    }

    #[test]
    fn the_true_sender_replaces_every_claim() {
        let sent = UserPacket {
            participant_sid: "PA_fake".into(),
            participant_identity: "mallory".into(),
            payload: b"hi".to_vec(),
            topic: Some("t".into()),
            ..UserPacket::default()
        };
        let got = through(&user(sent));
        assert_eq!((got.participant_identity.as_str(), got.participant_sid.as_str()), ("alice", "PA_a"));
        assert_eq!(got.sequence, 7, "receivers de-duplicate by it");
        let Some(Value::User(got)) = got.value else { panic!("{got:?}") };
        assert_eq!((got.payload, got.topic.as_deref()), (b"hi".to_vec(), Some("t")));
        assert!(got.participant_identity.is_empty() && got.participant_sid.is_empty());
    }

    #[test]
    fn claims_written_twice_are_removed_twice() {
        let mut bytes = user(UserPacket::default()).encode_to_vec();
        bytes.extend(
            user(UserPacket { participant_identity: "eve".into(), ..UserPacket::default() }).encode_to_vec(),
        );
        let signed = Packet::parse(&bytes).unwrap().signed("", "PA_a");
        let got = DataPacket::decode(&signed[..]).unwrap();
        assert_eq!(got.participant_identity, "", "a hidden sender stays unnamed");
        let Some(Value::User(inner)) = got.value else { panic!("{got:?}") };
        assert_eq!(inner.participant_identity, "");
    }

    #[test]
    fn receivers_are_read_in_both_places() {
        let mut packet =
            user(UserPacket { destination_identities: vec!["old".into()], ..UserPacket::default() });
        assert_eq!(Packet::parse(&packet.encode_to_vec()).unwrap().destinations, ["old"]);
        packet.destination_identities = vec!["new".into(), "er".into()];
        assert_eq!(Packet::parse(&packet.encode_to_vec()).unwrap().destinations, ["new", "er"]);
    }

    #[test]
    fn fields_of_the_future_pass_unchanged() {
        let mut bytes = user(UserPacket::default()).encode_to_vec();
        let future = [0xc2, 0x3e, 3, b'a', b'b', b'c'];
        bytes.extend(future);
        let signed = Packet::parse(&bytes).unwrap().signed("alice", "PA_a");
        assert!(signed.windows(future.len()).any(|window| window == future));
    }

    #[test]
    fn too_many_receivers_are_refused() {
        let many = DataPacket {
            destination_identities: vec!["x".into(); MAX_DESTINATIONS + 1],
            ..DataPacket::default()
        };
        assert_eq!(Packet::parse(&many.encode_to_vec()), Err(NotAPacket));
    }

    proptest::proptest! {
        #[test]
        fn junk_neither_panics_nor_forges(junk: Vec<u8>) {
            if let Ok(packet) = Packet::parse(&junk)
                && let Ok(got) = DataPacket::decode(&packet.signed("alice", "PA_a")[..])
            {
                proptest::prop_assert_eq!(got.participant_identity, "alice");
                proptest::prop_assert_eq!(got.participant_sid, "PA_a");
            }
        }
    }
}
