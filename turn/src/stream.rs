//! Where packets end in a stream (RFC 8656 §12.5, RFC 8489 §6.2.2).

use crate::message::{CHANNEL_HEADER_LEN, HEADER_LEN, MAGIC_COOKIE, MAX_PACKET, Malformed};

/// The bytes of the first packet in `bytes`, padding included; `None`: not all of it is there yet.
///
/// # Errors
/// [`Malformed`]: no packet begins like this, or it is longer than [`MAX_PACKET`]. The rest of the stream cannot be read.
pub fn first_packet(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(header) = bytes.first_chunk::<4>() else {
        // One byte tells HTTP, TLS and garbage from TURN.
        return if bytes.first().is_some_and(|first| first >> 6 > 1) { Err(Malformed) } else { Ok(None) };
    };
    let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let whole = match header[0] >> 6 {
        0 => {
            let cookie = bytes.get(4..8.min(bytes.len())).unwrap_or_default();
            if !MAGIC_COOKIE.starts_with(cookie) || !length.is_multiple_of(4) {
                return Err(Malformed);
            }
            HEADER_LEN + length
        }
        1 => CHANNEL_HEADER_LEN + length.next_multiple_of(4),
        _ => return Err(Malformed),
    };
    if whole > MAX_PACKET {
        return Err(Malformed);
    }
    Ok((bytes.len() >= whole).then_some(whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_cut_where_they_end() {
        let channel = [0x40, 0, 0, 5, 1, 2, 3, 4, 5, 0, 0, 0, 0x40];
        assert_eq!(first_packet(&channel), Ok(Some(12)));
        assert_eq!(first_packet(&channel[..11]), Ok(None));
        let mut binding = [0; 28];
        binding[..8].copy_from_slice(&[0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42]);
        for end in 0..28 {
            assert_eq!(first_packet(&binding[..end]), Ok(None));
        }
        assert_eq!(first_packet(&binding), Ok(Some(28)));
    }

    #[test]
    fn other_protocols_and_giants_are_refused_early() {
        for bytes in [&b"G"[..], b"GET / HTTP/1.1", &[0x16, 3, 1, 0, 1], &[0, 1, 0, 0, 0x20], &[0, 1, 0, 3]] {
            // "G" begins like ChannelData, which is why its length must bound what is read.
            let wanted = if bytes[0] == b'G' && bytes.len() < 4 { Ok(None) } else { Err(Malformed) };
            assert_eq!(first_packet(bytes), wanted, "{bytes:?}");
        }
        assert_eq!(first_packet(&[0x40, 0, 0xff, 0xff]), Err(Malformed));
        assert_eq!(first_packet(&[0xff]), Err(Malformed));
    }
}
