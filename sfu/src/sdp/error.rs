//! Why a description cannot be used.

use std::fmt;

use crate::ids::Mid;

/// Why an offer or an answer was refused: one variant for each thing somebody could do differently.
///
/// The text of an error has a bound, whatever the description contained.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DescriptionError {
    /// Our own limit, checked before anything is parsed.
    #[error("description of {got} bytes, limit {limit}")]
    TooLong {
        /// Bytes in the description.
        got: usize,
        /// Bytes that are read.
        limit: usize,
    },
    /// Our own limit, checked before anything is parsed.
    #[error("{got} m-lines, limit {limit}")]
    TooManyMediaLines {
        /// Lines that begin with `m=`.
        got: usize,
        /// How many are read.
        limit: usize,
    },
    /// Not SDP (RFC 8866 §9), or SDP with control characters inside a line.
    #[error("not SDP: {0}")]
    Malformed(Excerpt),
    /// The peer broke the protocol; the same description can never work (RFC 5888 §4).
    #[error("m-lines {first} and {second} share mid {mid}")]
    DuplicateMid {
        /// The first of them, counted from 0.
        first: usize,
        /// The second.
        second: usize,
        /// What they share.
        mid: Mid,
    },
    /// Without a tag a section cannot be bundled (RFC 9143 §7.2), and one of over 16 characters does not fit
    /// the header extension that carries it.
    #[error("m-line {m_line} has no usable mid")]
    NoMid {
        /// Counted from 0.
        m_line: usize,
    },
    /// The peer is within its rights, but we only speak BUNDLE (RFC 9143).
    #[error("m-line {m_line} is outside the BUNDLE group")]
    NotBundled {
        /// Counted from 0.
        m_line: usize,
    },
    /// The peer is within its rights, but we have one port for RTP and RTCP (RFC 5761).
    #[error("m-line {m_line} does not offer rtcp-mux")]
    NoRtcpMux {
        /// Counted from 0.
        m_line: usize,
    },
    /// `a=ice-ufrag` or `a=ice-pwd` is missing, or not 1 to 256 characters of their grammar (RFC 8839 §5.4).
    #[error("no usable ice-ufrag and ice-pwd")]
    NoIceCredentials,
    /// No `a=fingerprint` (RFC 8122 §5): the peer could not be told from anybody else.
    #[error("no usable certificate fingerprint")]
    NoFingerprint,
    /// `a=setup` is none of the values allowed here (RFC 8842 §5), or asks for another DTLS role than the
    /// connection already has.
    #[error("a=setup does not fit")]
    WrongSetup,
    /// A later description has fewer sections than an earlier one (RFC 8829 §5.2.2).
    #[error("{got} m-lines where there were {had}")]
    MediaLinesMissing {
        /// M-lines now.
        got: usize,
        /// M-lines before.
        had: usize,
    },
    /// The answer's section is of another kind or has another mid than the offer's (RFC 3264 §6).
    #[error("m-line {m_line} of the answer is not that of the offer")]
    NotWhatWasOffered {
        /// Counted from 0.
        m_line: usize,
    },
    /// An answer while no offer of ours is outstanding, or an offer where we are the one who offers.
    #[error("description out of turn")]
    OutOfTurn,
}

/// The beginning of a text of the peer's, fit for a log: at most 80 characters, none of them a control.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Excerpt(String);

impl Excerpt {
    /// Cuts and cleans `text`.
    pub(super) fn of(text: &str) -> Excerpt {
        Excerpt(text.chars().take(80).map(|c| if c.is_control() { ' ' } else { c }).collect())
    }
}

impl fmt::Display for Excerpt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
