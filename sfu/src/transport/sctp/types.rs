//! What a [`DataTransport`](super::DataTransport) is told and tells: limits, events, errors, counts.

use bytes::Bytes;

use crate::command::Reliability;
use crate::transport::dcep::MAX_LABEL_LEN;

/// Largest message for which we advertise `a=max-message-size` (RFC 8841 §6). Chromium sends no larger one
/// whatever the SDP says.
pub const MAX_MESSAGE_SIZE: usize = 262_144;

/// Limits of one peer's data channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataConfig {
    /// Largest message taken from the peer, in bytes: what our SDP advertises. A larger one is dropped whole;
    /// above three times this the association ends, since SCTP cannot skip a message.
    pub max_receive_message: usize,
    /// Largest message sent to the peer, in bytes: what its SDP advertises, at most our own limit.
    pub max_send_message: usize,
    /// Largest message sent on a lossy channel, in bytes; every packet of it must arrive for it to arrive.
    pub max_lossy_message: usize,
    /// Unacknowledged bytes that one reliable channel may hold.
    pub reliable_backlog: usize,
    /// Unacknowledged bytes that one lossy channel may hold. Small: what waits here is late.
    pub lossy_backlog: usize,
    /// Channels open at a time, the peer's and ours.
    pub max_channels: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig {
            max_receive_message: MAX_MESSAGE_SIZE,
            max_send_message: MAX_MESSAGE_SIZE,
            max_lossy_message: 65_536,
            reliable_backlog: 1 << 20,
            lossy_backlog: 128 << 10,
            max_channels: 64,
        }
    }
}

/// Number of an SCTP stream, in both directions the same channel (RFC 8831 §6.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(pub u16);

/// What happened on the peer's channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChannelEvent {
    /// A channel is open: the peer opened it, or acknowledged ours.
    Opened {
        /// Its label; not necessarily unique.
        label: String,
        /// How it delivers.
        reliability: Reliability,
    },
    /// A message arrived.
    Message {
        /// The label of the channel.
        label: String,
        /// Its stream.
        stream: StreamId,
        /// Binary or text (RFC 8831 §6.6). Text is not checked to be UTF-8.
        binary: bool,
        /// The message, at most [`DataConfig::max_receive_message`] bytes.
        payload: Bytes,
    },
    /// A channel is closed in both directions, on whoever's initiative.
    Closed {
        /// The label that it had.
        label: String,
    },
    /// The association is over and all channels with it. Nothing follows.
    AssociationLost,
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No channel of that label, or it is closing.
    #[error("channel not open")]
    NotOpen,
    /// Larger than the channel takes.
    #[error("message of {got} bytes, limit {limit}")]
    TooLarge {
        /// Its size.
        got: usize,
        /// What would pass.
        limit: usize,
    },
    /// The peer does not keep up: drop it on a lossy channel, try later on a reliable one.
    #[error("too much unacknowledged")]
    Backlogged,
}

/// Why a channel was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Longer than [`MAX_LABEL_LEN`] bytes.
    #[error("label of {got} bytes, limit {MAX_LABEL_LEN}")]
    LabelTooLong {
        /// Its length.
        got: usize,
    },
    /// [`DataConfig::max_channels`] are open.
    #[error("too many channels")]
    TooManyChannels,
    /// The association is over.
    #[error("association lost")]
    Lost,
}

/// Counts of what was dropped, since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DataCounters {
    /// Messages above [`DataConfig::max_receive_message`].
    pub oversized: u64,
    /// Messages on streams that are no channel, of an unknown PPID, or broken DCEP.
    pub unexpected: u64,
    /// Channels refused, by the cap or for a broken request.
    pub refused: u64,
    /// Packets of the peer that belong to no association, and chunks of ours that fit no packet.
    pub packets: u64,
}
