//! Redundant audio (RFC 2198): finding the primary block, for subscribers that take no RED.

/// The primary block's payload type and where it lies in the payload; `None` if the headers are cut.
pub fn primary(payload: &[u8]) -> Option<(u8, &[u8])> {
    let (mut at, mut redundant) = (0, 0);
    loop {
        let first = *payload.get(at)?;
        if first & 0x80 == 0 {
            let start = at + 1 + redundant;
            return Some((first & 0x7f, payload.get(start..)?));
        }
        let length = payload.get(at + 2..at + 4)?;
        redundant += usize::from(u16::from_be_bytes([length[0] & 0x03, length[1]]));
        at += 4;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_primary_block_is_the_last() {
        // One redundant block of two bytes, 960 ticks old, then the primary of type 111.
        let payload = [0xef, 0x0f, 0x00, 0x02, 111, 1, 2, 7, 8, 9];
        assert_eq!(primary(&payload), Some((111, &[7, 8, 9][..])));
        assert_eq!(primary(&[111, 5]), Some((111, &[5][..])));
        assert_eq!(primary(&payload[..6]), None);
        assert_eq!(primary(&[]), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = primary(&bytes);
        }
    }
}
