//! The DTLS record layer's framing (RFC 6347 §4.1), in both directions.

pub(super) const HEADER_LEN: usize = 13;
pub(super) const CHANGE_CIPHER_SPEC: u8 = 20;
pub(super) const ALERT: u8 = 21;
pub(super) const HANDSHAKE: u8 = 22;
pub(super) const APPLICATION_DATA: u8 = 23;

/// RFC 6347 §4.2.2: type, length, message_seq, fragment_offset, fragment_length.
pub(super) const HANDSHAKE_HEADER_LEN: usize = 12;

/// One record of a datagram.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    pub(super) content: u8,
    pub(super) epoch: u16,
    /// Header and body.
    pub(super) whole: &'a [u8],
}

impl<'a> Record<'a> {
    pub(super) fn body(&self) -> &'a [u8] {
        &self.whole[HEADER_LEN..]
    }
}

/// The records of a datagram, until one does not fit.
pub(super) struct Records<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        let header = self.0.first_chunk::<HEADER_LEN>()?;
        let length = HEADER_LEN + usize::from(u16::from_be_bytes([header[11], header[12]]));
        let (whole, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        // DTLS 1.0 on the first flights, 1.2 later; anything else is not for us to guess at.
        let known = header[1] == 0xfe && (header[2] == 0xff || header[2] == 0xfd);
        let content = if known { header[0] } else { 0 };
        Some(Record { content, epoch: u16::from_be_bytes([header[3], header[4]]), whole })
    }
}

/// Numbers the plaintext records of one direction anew: what is taken apart and put together, or sent twice, must not
/// carry a number twice, or the receiver's replay window drops it.
#[derive(Debug, Default)]
pub(super) struct PlaintextNumbers {
    next: u64,
}

impl PlaintextNumbers {
    fn take(&mut self) -> [u8; 8] {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        number.to_be_bytes()
    }

    /// Numbers the records of epoch 0 in `datagram`, in place.
    pub(super) fn renumber(&mut self, datagram: &mut [u8]) {
        let mut at = 0;
        while let Some(record) = Records(&datagram[at..]).next() {
            let (epoch, length) = (record.epoch, record.whole.len());
            if epoch == 0 {
                datagram[at + 5..at + 11].copy_from_slice(&self.take()[2..]);
            }
            at += length;
        }
    }

    /// A plaintext record around `body`, which is no longer than 65 535 bytes.
    pub(super) fn record(&mut self, content: u8, body: &[&[u8]]) -> Vec<u8> {
        let length: usize = body.iter().map(|part| part.len()).sum();
        let mut whole = Vec::with_capacity(HEADER_LEN + length);
        whole.extend_from_slice(&[content, 0xfe, 0xfd, 0, 0]);
        whole.extend_from_slice(&self.take()[2..]);
        whole.extend_from_slice(&(length as u16).to_be_bytes());
        for part in body {
            whole.extend_from_slice(part);
        }
        whole
    }
}
