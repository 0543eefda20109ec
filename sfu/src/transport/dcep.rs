//! The Data Channel Establishment Protocol: how a peer names a stream and says how it delivers (RFC 8832).
//!
//! Two messages, no state. Everything parsed came from a peer: lengths are checked, labels are capped.
//! Not here: which streams are channels, and what an acknowledgement changes (`sctp`).

use crate::command::Reliability;

/// Longest label and longest protocol that we accept or send, in bytes. LiveKit's labels have at most 11; the
/// wire would allow 65 535.
pub const MAX_LABEL_LEN: usize = 128;

const MESSAGE_ACK: u8 = 0x02;
const MESSAGE_OPEN: u8 = 0x03;

/// The bit of the channel type that makes it unordered (RFC 8832 §5.1).
const UNORDERED: u8 = 0x80;

/// Bytes of a DATA_CHANNEL_OPEN before its label.
const OPEN_HEADER_LEN: usize = 12;

/// Priority "normal" (RFC 8831 §6.4).
const PRIORITY_NORMAL: u16 = 256;

/// When a sender gives up on a message (RFC 8832 §5.1, channel type).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryLimit {
    /// Never.
    Unlimited,
    /// After so many retransmissions; 0 sends once.
    Retransmits(u32),
    /// So many milliseconds after it was handed over.
    LifetimeMs(u32),
}

/// DATA_CHANNEL_OPEN (RFC 8832 §5.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Messages arrive in the order of sending.
    pub ordered: bool,
    /// How long both ends try.
    pub limit: RetryLimit,
    /// Relative priority, 256 being normal (RFC 8831 §6.4). We send in order of arrival whatever it says.
    pub priority: u16,
    /// Up to [`MAX_LABEL_LEN`] bytes; need not be unique.
    pub label: String,
    /// A registered subprotocol or nothing; up to [`MAX_LABEL_LEN`] bytes.
    pub protocol: String,
}

impl Open {
    /// What we send to open a channel of our own.
    pub fn new(label: &str, reliability: Reliability) -> Open {
        let (ordered, limit) = match reliability {
            Reliability::Reliable => (true, RetryLimit::Unlimited),
            Reliability::Lossy => (false, RetryLimit::Retransmits(0)),
        };
        let label = label.to_owned();
        Open { ordered, limit, priority: PRIORITY_NORMAL, label, protocol: String::new() }
    }

    /// The nearest of our two kinds. An unordered channel that delivers everything counts as reliable.
    pub fn reliability(&self) -> Reliability {
        match self.limit {
            RetryLimit::Unlimited => Reliability::Reliable,
            RetryLimit::Retransmits(_) | RetryLimit::LifetimeMs(_) => Reliability::Lossy,
        }
    }
}

/// A DCEP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DcepMessage {
    /// The sender wants the stream to be a channel.
    Open(Open),
    /// The receiver agrees (RFC 8832 §5.2).
    Ack,
}

/// Why a payload is no DCEP message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DcepError {
    /// Its lengths do not add up.
    #[error("length does not match")]
    Length,
    /// A message type or channel type that RFC 8832 does not have.
    #[error("unknown type {0:#04x}")]
    UnknownType(u8),
    /// Label or protocol is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// Label or protocol is longer than [`MAX_LABEL_LEN`].
    #[error("label or protocol too long")]
    TooLong,
}

impl DcepMessage {
    /// Reads one message of PPID 50.
    ///
    /// Bytes behind an acknowledgement are let pass, since some stacks pad it to four.
    ///
    /// # Errors
    /// Any [`DcepError`]. Never panics.
    pub fn parse(payload: &[u8]) -> Result<DcepMessage, DcepError> {
        match payload {
            [] => Err(DcepError::Length),
            [MESSAGE_ACK, ..] => Ok(DcepMessage::Ack),
            [MESSAGE_OPEN, ..] => parse_open(payload).map(DcepMessage::Open),
            [other, ..] => Err(DcepError::UnknownType(*other)),
        }
    }

    /// The message as bytes. A label or protocol of ours is within [`MAX_LABEL_LEN`].
    pub fn to_bytes(&self) -> Vec<u8> {
        let open = match self {
            DcepMessage::Ack => return vec![MESSAGE_ACK],
            DcepMessage::Open(open) => open,
        };
        let (limit_type, limit) = match open.limit {
            RetryLimit::Unlimited => (0x00, 0),
            RetryLimit::Retransmits(count) => (0x01, count),
            RetryLimit::LifetimeMs(ms) => (0x02, ms),
        };
        debug_assert!(open.label.len() <= MAX_LABEL_LEN && open.protocol.len() <= MAX_LABEL_LEN);
        let mut bytes = Vec::with_capacity(OPEN_HEADER_LEN + open.label.len() + open.protocol.len());
        bytes.extend([MESSAGE_OPEN, if open.ordered { limit_type } else { limit_type | UNORDERED }]);
        bytes.extend(open.priority.to_be_bytes());
        bytes.extend(limit.to_be_bytes());
        bytes.extend((open.label.len() as u16).to_be_bytes());
        bytes.extend((open.protocol.len() as u16).to_be_bytes());
        bytes.extend(open.label.as_bytes());
        bytes.extend(open.protocol.as_bytes());
        bytes
    }
}

fn parse_open(payload: &[u8]) -> Result<Open, DcepError> {
    let (&[_, channel_type, p0, p1, r0, r1, r2, r3, l0, l1, s0, s1], texts) =
        payload.split_first_chunk::<OPEN_HEADER_LEN>().ok_or(DcepError::Length)?;
    let parameter = u32::from_be_bytes([r0, r1, r2, r3]);
    let limit = match channel_type & !UNORDERED {
        0x00 => RetryLimit::Unlimited,
        0x01 => RetryLimit::Retransmits(parameter),
        0x02 => RetryLimit::LifetimeMs(parameter),
        _ => return Err(DcepError::UnknownType(channel_type)),
    };
    let label_len = usize::from(u16::from_be_bytes([l0, l1]));
    let protocol_len = usize::from(u16::from_be_bytes([s0, s1]));
    if texts.len() != label_len + protocol_len {
        return Err(DcepError::Length);
    }
    if label_len > MAX_LABEL_LEN || protocol_len > MAX_LABEL_LEN {
        return Err(DcepError::TooLong);
    }
    let (label, protocol) = texts.split_at(label_len);
    let text = |bytes: &[u8]| str::from_utf8(bytes).map(str::to_owned).map_err(|_| DcepError::NotUtf8);
    Ok(Open {
        ordered: channel_type & UNORDERED == 0,
        limit,
        priority: u16::from_be_bytes([p0, p1]),
        label: text(label)?,
        protocol: text(protocol)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_channels_have_the_types_of_the_rfc() {
        let reliable = DcepMessage::Open(Open::new("_reliable", Reliability::Reliable)).to_bytes();
        assert_eq!(reliable, b"\x03\x00\x01\x00\x00\x00\x00\x00\x00\x09\x00\x00_reliable");
        let lossy = DcepMessage::Open(Open::new("_lossy", Reliability::Lossy)).to_bytes();
        assert_eq!(lossy, b"\x03\x81\x01\x00\x00\x00\x00\x00\x00\x06\x00\x00_lossy");
        assert_eq!(DcepMessage::Ack.to_bytes(), [2]);
    }

    #[test]
    fn what_browsers_send_is_read() {
        let bytes = b"\x03\x82\x02\x00\x00\x00\x01\xf4\x00\x04\x00\x03\xc3\xa4bcxyz";
        let Ok(DcepMessage::Open(open)) = DcepMessage::parse(bytes) else { panic!("no OPEN") };
        assert_eq!((open.ordered, open.limit), (false, RetryLimit::LifetimeMs(500)));
        assert_eq!((open.label.as_str(), open.protocol.as_str(), open.priority), ("äbc", "xyz", 512));
        assert_eq!(open.reliability(), Reliability::Lossy);
        for ack in [&[2u8][..], &[2, 0, 0, 0]] {
            assert_eq!(DcepMessage::parse(ack), Ok(DcepMessage::Ack));
        }
    }

    /// Each of these once stopped a server.
    #[test]
    fn payloads_that_crashed_another_parser_are_errors() {
        for bad in [&b"\x00"[..], b"\x00\x29", b"\x00\x04\x00", b"\x00\x00\x00\x00", b"\x00\x00\x00\x00\x00"]
        {
            assert_eq!(DcepMessage::parse(bad), Err(DcepError::UnknownType(0)), "{bad:?}");
        }
    }

    #[test]
    fn broken_opens_are_refused() {
        let good = DcepMessage::Open(Open::new("label", Reliability::Reliable)).to_bytes();
        for len in 0..good.len() {
            assert_eq!(DcepMessage::parse(&good[..len]), Err(DcepError::Length), "{len}");
        }
        let longer = [&good[..], b"x"].concat();
        assert_eq!(DcepMessage::parse(&longer), Err(DcepError::Length));

        let mut bad = good.clone();
        bad[1] = 0x03;
        assert_eq!(DcepMessage::parse(&bad), Err(DcepError::UnknownType(3)));
        let mut bad = good;
        bad[12] = 0xff;
        assert_eq!(DcepMessage::parse(&bad), Err(DcepError::NotUtf8));

        let mut long = b"\x03\x00\x01\x00\x00\x00\x00\x00\x00\x81\x00\x00".to_vec();
        long.extend([b'a'; 129]);
        assert_eq!(DcepMessage::parse(&long), Err(DcepError::TooLong));
        long[9] = 0x80;
        long.pop();
        assert!(DcepMessage::parse(&long).is_ok(), "128 bytes are allowed");
    }

    proptest::proptest! {
        #[test]
        fn noise_never_panics_and_what_parses_survives_a_round_trip(
            mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64),
            shape in 0..3,
        ) {
            // Two cases in three look like an OPEN far enough for the lengths to matter.
            if shape > 0 && bytes.len() >= OPEN_HEADER_LEN {
                bytes[0] = MESSAGE_OPEN;
                bytes[1] &= 0x83;
                let texts = bytes.len() - OPEN_HEADER_LEN;
                bytes[8..12].copy_from_slice(&[0, (texts / 2) as u8, 0, (texts - texts / 2) as u8]);
            }
            if let Ok(message) = DcepMessage::parse(&bytes) {
                proptest::prop_assert_eq!(DcepMessage::parse(&message.to_bytes()), Ok(message));
            }
        }
    }
}
