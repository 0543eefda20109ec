//! Plaintext handshake messages put together from their fragments (RFC 6347 §4.2.3), within bounds.
//!
//! `rtc-dtls` can do it too, but takes cubic time for many fragments, recurses over them until the stack ends, and keeps
//! whatever comes. Here: a message has at most 16 kB and 32 fragments, a fragment of a message further than 8 ahead is
//! dropped, at most 32 kB are kept, and the next message always finds room.

use super::hello;
use super::record;
use super::record::HANDSHAKE_HEADER_LEN;
use crate::transport::srtp::DtlsRole;

/// A chain of certificates has a few kB.
pub(super) const MAX_MESSAGE: usize = 16 * 1024;
/// 16 kB in fragments of 512 bytes.
pub(super) const MAX_FRAGMENTS: usize = 32;
/// A flight has at most six messages.
pub(super) const MAX_AHEAD: u16 = 8;
/// Of all unfinished messages together.
pub(super) const MAX_KEPT: usize = 32 * 1024;

// RFC 5246 §7.4, RFC 6347 §4.3.2.
const CLIENT_HELLO: u8 = 1;
const SERVER_HELLO: u8 = 2;
const HELLO_VERIFY_REQUEST: u8 = 3;
const CERTIFICATE: u8 = 11;
const SERVER_KEY_EXCHANGE: u8 = 12;
const CERTIFICATE_REQUEST: u8 = 13;
const SERVER_HELLO_DONE: u8 = 14;
const CERTIFICATE_VERIFY: u8 = 15;
const CLIENT_KEY_EXCHANGE: u8 = 16;

/// What the peer of a server or client may send in plaintext, in this order; each at most once, except that a
/// ClientHello comes again with the cookie.
const OF_CLIENT: &[u8] = &[CLIENT_HELLO, CERTIFICATE, CLIENT_KEY_EXCHANGE, CERTIFICATE_VERIFY];
const OF_SERVER: &[u8] = &[
    HELLO_VERIFY_REQUEST,
    SERVER_HELLO,
    CERTIFICATE,
    SERVER_KEY_EXCHANGE,
    CERTIFICATE_REQUEST,
    SERVER_HELLO_DONE,
];

/// Whether this flight, as sent, begins with a HelloVerifyRequest.
pub(super) fn is_hello_verify_request(datagram: &[u8]) -> bool {
    datagram.first() == Some(&record::HANDSHAKE)
        && datagram.get(record::HEADER_LEN) == Some(&HELLO_VERIFY_REQUEST)
}

/// A whole message.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// As if it had come in one fragment.
    pub(super) header: [u8; HANDSHAKE_HEADER_LEN],
    pub(super) body: Vec<u8>,
}

/// What became of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Kept,
    /// Of a message that was handed on already: the peer did not get our answer.
    Repeated,
    Refused,
}

#[derive(Clone, Copy)]
struct Fragment<'a> {
    kind: u8,
    length: usize,
    sequence: u16,
    offset: usize,
    data: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// The first fragment of `body`, and what follows it.
    fn read(body: &'a [u8]) -> Option<(Fragment<'a>, &'a [u8])> {
        let (header, rest) = body.split_first_chunk::<HANDSHAKE_HEADER_LEN>()?;
        let three = |at: usize| {
            usize::from(header[at]) << 16 | usize::from(header[at + 1]) << 8 | usize::from(header[at + 2])
        };
        let (data, rest) = rest.split_at_checked(three(9))?;
        let sequence = u16::from_be_bytes([header[4], header[5]]);
        Some((Fragment { kind: header[0], length: three(1), sequence, offset: three(6), data }, rest))
    }
}

/// A message of which parts are missing.
struct Partial {
    kind: u8,
    length: usize,
    sequence: u16,
    fragments: usize,
    /// As far as the last part that is there; holes are zero.
    data: Vec<u8>,
    /// Which parts are there: start and end, in order, apart from each other.
    there: Vec<(usize, usize)>,
}

impl Partial {
    fn is_whole(&self) -> bool {
        self.length == 0 || self.there == [(0, self.length)]
    }

    fn put(&mut self, offset: usize, data: &[u8]) {
        let end = offset + data.len();
        if self.data.len() < end {
            self.data.resize(end, 0);
        }
        self.data[offset..end].copy_from_slice(data);
        let (mut start, mut stop) = (offset, end);
        self.there.retain(|(from, to)| {
            let touches = *from <= stop && start <= *to;
            if touches {
                (start, stop) = (start.min(*from), stop.max(*to));
            }
            !touches
        });
        self.there.push((start, stop));
        self.there.sort_unstable();
    }
}

/// Collects fragments and hands on whole messages, in order.
pub(super) struct Reassembly {
    expected: &'static [u8],
    /// How many of `expected` are behind us.
    passed: usize,
    hellos: u8,
    next: u16,
    partial: Vec<Partial>,
}

impl Reassembly {
    /// For the side that we are.
    pub(super) fn new(role: DtlsRole) -> Reassembly {
        let expected = match role {
            DtlsRole::Client => OF_SERVER,
            DtlsRole::Server => OF_CLIENT,
        };
        Reassembly { expected, passed: 0, hellos: 0, next: 0, partial: Vec::new() }
    }

    /// Bytes in unfinished messages, at most [`MAX_KEPT`].
    pub(super) fn bytes_kept(&self) -> usize {
        self.partial.iter().map(|partial| partial.data.len()).sum()
    }

    /// Takes the body of a plaintext handshake record; tells the best that became of its fragments.
    pub(super) fn push_record(&mut self, mut body: &[u8]) -> Verdict {
        let mut best = Verdict::Refused;
        while let Some((fragment, rest)) = Fragment::read(body) {
            body = rest;
            match self.push(fragment) {
                Verdict::Kept => best = Verdict::Kept,
                Verdict::Repeated if best == Verdict::Refused => best = Verdict::Repeated,
                Verdict::Repeated | Verdict::Refused => {}
            }
        }
        best
    }

    fn push(&mut self, fragment: Fragment<'_>) -> Verdict {
        let end = fragment.offset + fragment.data.len(); // 24 bits each
        let empty = fragment.data.is_empty() && fragment.length > 0;
        if fragment.length > MAX_MESSAGE || end > fragment.length || empty {
            return Verdict::Refused;
        }
        if fragment.sequence < self.next {
            return Verdict::Repeated;
        }
        if fragment.sequence - self.next > MAX_AHEAD {
            return Verdict::Refused;
        }
        let mut at = self.partial.iter().position(|partial| partial.sequence == fragment.sequence);
        if let Some(found) = at {
            let partial = &mut self.partial[found];
            partial.fragments += 1;
            // One that disagrees is a new try; what is in too many pieces is none.
            let other = (partial.kind, partial.length) != (fragment.kind, fragment.length);
            if other || partial.fragments > MAX_FRAGMENTS {
                self.partial.swap_remove(found);
                if !other {
                    return Verdict::Refused;
                }
                at = None;
            }
        }
        if !self
            .make_room(fragment.sequence, end.saturating_sub(at.map_or(0, |at| self.partial[at].data.len())))
        {
            return Verdict::Refused;
        }
        // Making room may have moved it.
        let at =
            self.partial.iter().position(|partial| partial.sequence == fragment.sequence).unwrap_or_else(
                || {
                    self.partial.push(Partial {
                        kind: fragment.kind,
                        length: fragment.length,
                        sequence: fragment.sequence,
                        fragments: 1,
                        data: Vec::new(),
                        there: Vec::new(),
                    });
                    self.partial.len() - 1
                },
            );
        self.partial[at].put(fragment.offset, fragment.data);
        Verdict::Kept
    }

    /// Drops later messages, the last first, until `more` bytes of message `sequence` fit.
    fn make_room(&mut self, sequence: u16, more: usize) -> bool {
        while self.bytes_kept() + more > MAX_KEPT {
            let last = (0..self.partial.len()).max_by_key(|at| self.partial[*at].sequence);
            match last {
                Some(at) if self.partial[at].sequence > sequence => self.partial.swap_remove(at),
                _ => return false,
            };
        }
        true
    }

    /// The next message in order, if it is whole. One that cannot be right is dropped, to be sent better.
    pub(super) fn pop(&mut self) -> Option<Message> {
        let at =
            self.partial.iter().position(|partial| partial.sequence == self.next && partial.is_whole())?;
        let Partial { kind, length, sequence, data, .. } = self.partial.swap_remove(at);
        let place = self.expected.iter().position(|expected| *expected == kind)?;
        let again = kind == CLIENT_HELLO && self.hellos == 1 && self.passed == 1;
        let sound = kind != CERTIFICATE || hello::certificate_lengths_fit(&data);
        if (place < self.passed && !again) || !sound {
            return None;
        }
        self.passed = place + 1;
        self.hellos += u8::from(kind == CLIENT_HELLO);
        self.next += 1;
        let mut header = [0; HANDSHAKE_HEADER_LEN];
        header[0] = kind;
        let length = (length as u32).to_be_bytes();
        header[1..4].copy_from_slice(&length[1..]);
        header[4..6].copy_from_slice(&sequence.to_be_bytes());
        header[9..12].copy_from_slice(&length[1..]);
        Some(Message { header, body: data })
    }
}

impl Message {
    /// Whether it is a client's first or second.
    pub(super) fn is_client_hello(&self) -> bool {
        self.header[0] == CLIENT_HELLO
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::transport::dtls) fn fragment(
        kind: u8,
        length: usize,
        sequence: u16,
        offset: usize,
        data: &[u8],
    ) -> Vec<u8> {
        let mut bytes = vec![kind];
        bytes.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
        bytes.extend_from_slice(&sequence.to_be_bytes());
        bytes.extend_from_slice(&(offset as u32).to_be_bytes()[1..]);
        bytes.extend_from_slice(&(data.len() as u32).to_be_bytes()[1..]);
        bytes.extend_from_slice(data);
        bytes
    }

    fn server() -> Reassembly {
        Reassembly::new(DtlsRole::Server)
    }

    #[test]
    fn fragments_in_any_order_with_overlaps_make_the_message() {
        let body: Vec<u8> = (0..=255).collect();
        let mut rng = fastrand::Rng::with_seed(6347);
        for _ in 0..200 {
            let mut reassembly = server();
            let mut parts: Vec<(usize, usize)> = (0..16).map(|i| (i * 16, i * 16 + 16)).collect();
            for _ in 0..10 {
                let start = rng.usize(..255);
                parts.push((start, rng.usize(start + 1..=256)));
            }
            rng.shuffle(&mut parts);
            for (start, end) in parts {
                reassembly.push_record(&fragment(CLIENT_HELLO, 256, 0, start, &body[start..end]));
            }
            let message = reassembly.pop().expect("all parts came");
            assert_eq!(message.body, body);
            assert_eq!(message.header, [1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
            assert_eq!(reassembly.bytes_kept(), 0);
        }
    }

    #[test]
    fn a_message_in_too_many_pieces_is_given_up_and_may_come_again() {
        let mut reassembly = server();
        for at in 0..MAX_FRAGMENTS {
            assert_eq!(reassembly.push_record(&fragment(CLIENT_HELLO, 100, 0, at, &[7])), Verdict::Kept);
        }
        assert_eq!(reassembly.push_record(&fragment(CLIENT_HELLO, 100, 0, 50, &[7])), Verdict::Refused);
        assert_eq!(reassembly.bytes_kept(), 0);
        reassembly.push_record(&fragment(CLIENT_HELLO, 100, 0, 0, &[7; 100]));
        assert!(reassembly.pop().is_some());
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_next_message_finds_room() {
        let mut reassembly = server();
        for sequence in (0..=20).rev() {
            for kind in [CERTIFICATE, CLIENT_KEY_EXCHANGE] {
                reassembly.push_record(&fragment(kind, MAX_MESSAGE, sequence, MAX_MESSAGE - 2, &[1]));
                assert!(reassembly.bytes_kept() <= MAX_KEPT);
                assert!(reassembly.partial.len() <= usize::from(MAX_AHEAD) + 1);
            }
        }
        assert!(reassembly.bytes_kept() > 0);
        let hello = vec![1; MAX_MESSAGE];
        for (i, part) in hello.chunks(1024).enumerate() {
            reassembly.push_record(&fragment(CLIENT_HELLO, MAX_MESSAGE, 0, i * 1024, part));
            assert!(reassembly.bytes_kept() <= MAX_KEPT);
        }
        assert_eq!(reassembly.pop().map(|message| message.body), Some(hello));
    }

    #[test]
    fn empty_future_and_overlong_fragments_are_not_kept() {
        let mut reassembly = server();
        for bad in [
            fragment(CLIENT_HELLO, 10, 0, 0, &[]),
            fragment(CLIENT_HELLO, 10, MAX_AHEAD + 1, 0, &[1]),
            fragment(CLIENT_HELLO, 10, u16::MAX, 0, &[1]),
            fragment(CLIENT_HELLO, MAX_MESSAGE + 1, 0, 0, &[1]),
            fragment(CLIENT_HELLO, 10, 0, 9, &[1, 2]),
            fragment(CLIENT_HELLO, 10, 0, 0xff_ffff, &[1]),
            vec![1, 2, 3],
        ] {
            assert_eq!(reassembly.push_record(&bad), Verdict::Refused, "{bad:?}");
        }
        assert_eq!((reassembly.bytes_kept(), reassembly.partial.len()), (0, 0));
    }

    #[test]
    fn messages_pass_in_their_order_only() {
        let mut reassembly = server();
        let mut sequence = 0;
        let mut offer = |reassembly: &mut Reassembly, kind: u8| {
            let body: &[u8] = if kind == CERTIFICATE { &[0, 0, 0] } else { &[] };
            reassembly.push_record(&fragment(kind, body.len(), sequence, 0, body));
            let passed = reassembly.pop().is_some();
            sequence += u16::from(passed);
            passed
        };
        assert!(!offer(&mut reassembly, 20), "a Finished is never in plaintext");
        assert!(!offer(&mut reassembly, SERVER_HELLO));
        for kind in [CLIENT_HELLO, CLIENT_HELLO] {
            assert!(offer(&mut reassembly, kind));
        }
        assert!(!offer(&mut reassembly, CLIENT_HELLO), "two are enough");
        assert!(offer(&mut reassembly, CERTIFICATE));
        assert!(!offer(&mut reassembly, CERTIFICATE));
        assert!(offer(&mut reassembly, CLIENT_KEY_EXCHANGE));
        assert!(offer(&mut reassembly, CERTIFICATE_VERIFY));
        for kind in OF_CLIENT {
            assert!(!offer(&mut reassembly, *kind), "nothing follows the last");
        }
        assert_eq!(reassembly.push_record(&fragment(CLIENT_HELLO, 0, 0, 0, &[])), Verdict::Repeated);
    }

    #[test]
    fn an_unsound_certificate_is_dropped_and_may_come_again() {
        let mut reassembly = server();
        reassembly.push_record(&fragment(CLIENT_HELLO, 0, 0, 0, &[]));
        assert!(reassembly.pop().is_some());
        reassembly.push_record(&fragment(CERTIFICATE, 6, 1, 0, &[0, 0, 3, 0xff, 0xff, 0xff]));
        assert!(reassembly.pop().is_none());
        reassembly.push_record(&fragment(CERTIFICATE, 3, 1, 0, &[0, 0, 0]));
        assert!(reassembly.pop().is_some());
    }
}
