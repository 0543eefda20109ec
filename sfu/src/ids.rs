//! Names of things: those the wire gives (`Ssrc`, `Mid`, `Rid`, `SeqNo`) and those we give.
//!
//! A value of one of these types has been checked once, where it was parsed. Ids of ours are random and
//! unique over all workers and nodes, so that a relay may carry them.

use std::fmt;
use std::num::NonZeroU16;

/// Synchronization source: the 32 random bits that name one RTP stream (RFC 3550 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ssrc(pub u32);

/// RTP sequence number that never wraps: a cycle count above the 16 wire bits (RFC 3550 App. A.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeqNo(u64);

impl SeqNo {
    /// Starts in cycle 1, so that a packet reordered ahead of the first still has a number.
    pub const fn first(wire: u16) -> SeqNo {
        SeqNo((1 << 16) | wire as u64)
    }

    /// The number nearest to `self`, at most half a cycle away, that ends in `wire`.
    #[must_use]
    pub const fn extend(self, wire: u16) -> SeqNo {
        let step = wire.wrapping_sub(self.0 as u16) as i16;
        SeqNo(self.0.wrapping_add_signed(step as i64))
    }

    /// The 16 bits that go on the wire.
    pub const fn wire(self) -> u16 {
        self.0 as u16
    }

    /// The number as an integer, for indexing rings and measuring distances.
    pub const fn value(self) -> u64 {
        self.0
    }

    /// The number `step` after this one.
    #[must_use]
    pub const fn plus(self, step: u64) -> SeqNo {
        SeqNo(self.0.wrapping_add(step))
    }

    /// How far `self` is ahead of `earlier`; negative when it is behind.
    pub const fn distance(self, earlier: SeqNo) -> i64 {
        self.0.wrapping_sub(earlier.0) as i64
    }
}

/// A short text of the wire, at most 16 bytes, kept without allocation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Tag {
    len: u8,
    bytes: [u8; 16],
}

impl Tag {
    fn parse(text: &[u8], allowed: fn(u8) -> bool) -> Option<Tag> {
        if text.is_empty() || text.len() > 16 || !text.iter().copied().all(allowed) {
            return None;
        }
        let mut bytes = [0; 16];
        bytes[..text.len()].copy_from_slice(text);
        Some(Tag { len: text.len() as u8, bytes })
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..usize::from(self.len)]).expect("only ASCII was let in")
    }
}

/// Tag of a media section, `a=mid` (RFC 5888 §4). `Mid::parse` refuses a bad tag, never repairs it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mid(Tag);

impl Mid {
    /// A token of 1 to 16 characters (RFC 5888 §4; the upper bound is that of the RTP header extension's
    /// one-byte form, RFC 9143 §15).
    pub fn parse(text: &str) -> Option<Mid> {
        Tag::parse(text.as_bytes(), is_token_char).map(Mid)
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// A sender's own name for one simulcast encoding, `a=rid` (RFC 8851 §4). Says nothing of quality.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rid(Tag);

impl Rid {
    /// 1 to 16 letters, digits, `-` or `_` (RFC 8851 §10; upper bound as for [`Mid`]).
    pub fn parse(text: &str) -> Option<Rid> {
        Tag::parse(text.as_bytes(), |c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_').map(Rid)
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// The number by which packets name a data track: on the way up the publisher's choice, on the way down ours for that one
/// subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DataHandle(NonZeroU16);

impl DataHandle {
    /// From the wire or a message: 16 bits, and not 0.
    pub fn new(number: u32) -> Option<DataHandle> {
        NonZeroU16::new(u16::try_from(number).ok()?).map(DataHandle)
    }

    /// The 16 bits that go on the wire.
    pub const fn wire(self) -> u16 {
        self.0.get()
    }

    /// The handle after this one; after the last comes the first.
    #[must_use]
    pub fn next(self) -> DataHandle {
        DataHandle(self.0.checked_add(1).unwrap_or(NonZeroU16::MIN))
    }
}

/// RFC 8866 §9, `token-char`.
fn is_token_char(c: u8) -> bool {
    matches!(c, 0x21 | 0x23..=0x27 | 0x2a..=0x2b | 0x2d..=0x2e | 0x30..=0x39 | 0x41..=0x5a | 0x5e..=0x7e)
}

/// Our quality rank. Ordered by picture size, then by frame rate; 0 is the lowest of either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LayerId {
    /// Picture size: the index of a simulcast encoding or of an SVC spatial layer, smallest first.
    pub spatial: u8,
    /// Frame rate: temporal layers up to and including this one are forwarded.
    pub temporal: u8,
}

macro_rules! own_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:016x})", stringify!($name), self.0)
            }
        }
    };
}

own_id! {
    /// One room. A room lives on one worker.
    RoomId
}
own_id! {
    /// One peer connection. A participant has one (LiveKit v1) or two (v0: publisher and subscriber).
    PeerId
}
own_id! {
    /// One published track, whatever its number of layers; also a data track.
    TrackId
}

macro_rules! text_like {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.as_str())
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    )*};
}

text_like!(Mid, Rid);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_extend_over_the_wrap_in_both_directions() {
        let last = SeqNo::first(65_534);
        let after = last.extend(3);
        assert_eq!(after.distance(last), 5);
        assert_eq!(after.wire(), 3);
        assert_eq!(after.extend(65_533).distance(last), -1);
        assert_eq!(SeqNo::first(2).extend(65_535).wire(), 65_535, "a packet ahead of the first has a number");
    }

    #[test]
    fn handles_are_16_bits_and_never_zero() {
        assert_eq!([0, 65_536, u32::MAX].map(DataHandle::new), [None; 3]);
        let last = DataHandle::new(65_535).unwrap();
        assert_eq!((last.wire(), last.next().wire()), (65_535, 1));
    }

    #[test]
    fn tags_outside_the_grammar_are_refused() {
        assert!(Mid::parse("audio-1").is_some());
        assert!(Rid::parse("q").is_some());
        for bad in ["", "12345678901234567", "a b", "ä", "a\n"] {
            assert!(Mid::parse(bad).is_none(), "{bad:?}");
            assert!(Rid::parse(bad).is_none(), "{bad:?}");
        }
        assert!(Rid::parse("q~").is_none(), "only a-z, 0-9, - and _");
    }
}
