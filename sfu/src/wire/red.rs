//! Redundant audio (RFC 2198): a packet's own block, and earlier ones that go along with it.

/// Header of a redundant block, and that of the primary one (§3).
const HEADER: usize = 4;
const PRIMARY_HEADER: usize = 1;
/// Longest redundant block: its length has 10 bits.
pub const MAX_LENGTH: usize = 0x3ff;
/// Oldest redundant block, in ticks: its offset has 14 bits.
pub const MAX_OFFSET: u16 = 0x3fff;

/// A redundant block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block<'a> {
    /// 0 to 127.
    pub payload_type: u8,
    /// Ticks before the packet's timestamp.
    pub offset: u16,
    /// What its own packet carried.
    pub payload: &'a [u8],
}

impl Block<'_> {
    /// What it adds to a packet.
    pub fn size(&self) -> usize {
        HEADER + self.payload.len()
    }
}

/// A payload whose headers agree with its length.
#[derive(Clone, Copy, Debug)]
pub struct Red<'a> {
    headers: &'a [u8],
    bodies: &'a [u8],
    /// The primary block's payload type.
    pub payload_type: u8,
    /// The primary block.
    pub primary: &'a [u8],
}

impl<'a> Red<'a> {
    /// `None` if the headers are cut, or announce more than there is.
    pub fn parse(payload: &'a [u8]) -> Option<Red<'a>> {
        let (mut at, mut redundant) = (0, 0);
        loop {
            let first = *payload.get(at)?;
            if first & 0x80 == 0 {
                let (headers, rest) = payload.split_at(at);
                let (bodies, primary) = rest[PRIMARY_HEADER..].split_at_checked(redundant)?;
                return Some(Red { headers, bodies, payload_type: first, primary });
            }
            redundant += length(payload.get(at..at + HEADER)?);
            at += HEADER;
        }
    }

    /// The redundant blocks in the order they stand in, which is oldest first.
    pub fn blocks(&self) -> impl Iterator<Item = Block<'a>> {
        let mut bodies = self.bodies;
        self.headers.chunks_exact(HEADER).map_while(move |header| {
            let (payload, rest) = bodies.split_at_checked(length(header))?;
            bodies = rest;
            let offset = u16::from_be_bytes([header[1], header[2]]) >> 2;
            Some(Block { payload_type: header[0] & 0x7f, offset, payload })
        })
    }
}

fn length(header: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([header[2], header[3]])) & MAX_LENGTH
}

/// Writes redundant blocks, oldest first, and the primary one; the length, or `None` if something does not fit.
pub fn write(out: &mut [u8], blocks: &[Block<'_>], payload_type: u8, primary: &[u8]) -> Option<usize> {
    let mut at = 0;
    let mut put = |bytes: &[u8]| {
        out.get_mut(at..at + bytes.len())?.copy_from_slice(bytes);
        at += bytes.len();
        Some(())
    };
    for block in blocks {
        if block.payload.len() > MAX_LENGTH || block.offset > MAX_OFFSET {
            return None;
        }
        let [high, low] = (block.offset << 2 | (block.payload.len() >> 8) as u16).to_be_bytes();
        put(&[0x80 | block.payload_type, high, low, block.payload.len() as u8])?;
    }
    put(&[payload_type & 0x7f])?;
    for payload in blocks.iter().map(|block| block.payload).chain([primary]) {
        put(payload)?;
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_primary_block_is_the_last() {
        // One redundant block of two bytes, 960 ticks old, then the primary of type 111.
        let payload = [0xef, 0x0f, 0x00, 0x02, 111, 1, 2, 7, 8, 9];
        let red = Red::parse(&payload).unwrap();
        assert_eq!((red.payload_type, red.primary), (111, &[7, 8, 9][..]));
        let block = Block { payload_type: 111, offset: 960, payload: &[1, 2] };
        assert_eq!(red.blocks().collect::<Vec<_>>(), [block]);
        let mut out = [0; 20];
        assert_eq!(write(&mut out, &[block], 111, &[7, 8, 9]), Some(payload.len()));
        assert_eq!(out[..payload.len()], payload);

        let red = Red::parse(&[111, 5]).unwrap();
        assert_eq!((red.payload_type, red.primary, red.blocks().count()), (111, &[5][..], 0));
        assert!(Red::parse(&payload[..6]).is_none());
        assert!(Red::parse(&[]).is_none());
    }

    #[test]
    fn what_its_fields_cannot_say_is_not_written() {
        let (long, mut out) = ([0; MAX_LENGTH + 1], [0; 3000]);
        for (offset, len, fits) in [
            (MAX_OFFSET, MAX_LENGTH, true),
            (MAX_OFFSET + 1, MAX_LENGTH, false),
            (MAX_OFFSET, MAX_LENGTH + 1, false),
        ] {
            let block = Block { payload_type: 111, offset, payload: &long[..len] };
            assert_eq!(write(&mut out, &[block], 111, &[1]).is_some(), fits, "{offset} {len}");
        }
        assert_eq!(write(&mut out[..5], &[], 111, &[1; 5]), None, "no room");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Some(red) = Red::parse(&bytes) {
                let blocks: usize = red.blocks().map(|block| block.size()).sum();
                prop_assert_eq!(blocks + PRIMARY_HEADER + red.primary.len(), bytes.len());
            }
        }

        #[test]
        fn what_is_written_is_read(
            blocks in proptest::collection::vec(
                (0..128_u8, 0..=MAX_OFFSET, proptest::collection::vec(any::<u8>(), 0..=MAX_LENGTH)), 0..4),
            primary in proptest::collection::vec(any::<u8>(), 0..1300),
        ) {
            let blocks: Vec<Block<'_>> = blocks
                .iter()
                .map(|(payload_type, offset, payload)| {
                    Block { payload_type: *payload_type, offset: *offset, payload }
                })
                .collect();
            let mut out = [0; 6000];
            let len = write(&mut out, &blocks, 111, &primary).unwrap();
            let red = Red::parse(&out[..len]).unwrap();
            prop_assert_eq!((red.payload_type, red.primary), (111, &primary[..]));
            prop_assert_eq!(red.blocks().collect::<Vec<_>>(), blocks);
        }
    }
}
