//! SCTP packets as bytes: their chunks, their checksum, and how to split one that is too large (RFC 9260 §3).

use bytes::{BufMut, Bytes, BytesMut};

/// Ports, verification tag and checksum.
pub(super) const COMMON_HEADER_LEN: usize = 12;

/// DATA (RFC 9260 §3.3.1).
pub(super) const CHUNK_DATA: u8 = 0;
/// INIT (RFC 9260 §3.3.2).
pub(super) const CHUNK_INIT: u8 = 1;
/// SACK (RFC 9260 §3.3.4).
pub(super) const CHUNK_SACK: u8 = 3;

/// The chunks of a packet with header and padding, up to the first whose length is wrong.
pub(super) fn chunks(packet: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = packet.get(COMMON_HEADER_LEN..).unwrap_or_default();
    std::iter::from_fn(move || {
        let &[_, _, hi, lo] = rest.first_chunk::<4>()?;
        let len = usize::from(u16::from_be_bytes([hi, lo]));
        if len < 4 || len > rest.len() {
            return None;
        }
        let (chunk, behind) = rest.split_at(len.next_multiple_of(4).min(rest.len()));
        rest = behind;
        Some(chunk)
    })
}

/// Deals the chunks of a packet of ours out to packets of at most `limit` bytes, in order.
///
/// The library leaves chunk headers and padding out of account when it bundles small messages, and overshoots
/// its MTU by up to a fifth. Returns how many chunks fit no packet and are left out.
pub(super) fn split(packet: &[u8], limit: usize, mut emit: impl FnMut(Bytes)) -> u64 {
    let Some(header) = packet.first_chunk::<COMMON_HEADER_LEN>() else { return 1 };
    let mut part = BytesMut::new();
    let mut flush = |part: &mut BytesMut| {
        if !part.is_empty() {
            write_checksum(part);
            emit(part.split().freeze());
        }
    };
    let mut left_out = 0;
    for chunk in chunks(packet) {
        if COMMON_HEADER_LEN + chunk.len() > limit {
            left_out += 1;
            continue;
        }
        if part.len() + chunk.len() > limit {
            flush(&mut part);
        }
        if part.is_empty() {
            part.put_slice(header);
        }
        part.put_slice(chunk);
    }
    flush(&mut part);
    left_out
}

/// Puts the CRC32c of a packet in its place (RFC 9260 §6.8 and App. A).
pub(super) fn write_checksum(packet: &mut [u8]) {
    let Some(field) = packet.get_mut(8..12) else { return };
    field.fill(0);
    let crc =
        packet.iter().fold(u32::MAX, |crc, &byte| CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8));
    packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
}

/// Castagnoli's polynomial, bits reversed.
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut crc = index as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
            bit += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_that_of_the_rfc() {
        // RFC 3720 App. B.4: 32 bytes of zeros.
        let mut packet = [0; 32];
        write_checksum(&mut packet);
        assert_eq!(packet[8..12], [0xaa, 0x36, 0x91, 0x8a]);
    }

    #[test]
    fn parts_have_all_chunks_in_order_and_fit() {
        let mut packet = vec![7; COMMON_HEADER_LEN];
        for number in 0..60 {
            packet.extend([0, 3, 0, 5, number, 0, 0, 0]);
        }
        packet.extend([3, 0, 0, 200]);
        packet.extend([9; 196]);
        let mut numbers = vec![];
        let left_out = split(&packet, 100, |part| {
            assert!(part.len() <= 100, "{}", part.len());
            assert_eq!(part[..8], [7; 8]);
            let mut checked = part.to_vec();
            write_checksum(&mut checked);
            assert_eq!(part, checked);
            numbers.extend(chunks(&part).map(|chunk| chunk[4]));
        });
        assert_eq!(numbers, (0..60).collect::<Vec<_>>());
        assert_eq!(left_out, 1, "the chunk of 200 bytes");
    }

    proptest::proptest! {
        #[test]
        fn noise_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            split(&bytes, 50, |part| assert!(part.len() <= 50));
        }
    }
}
