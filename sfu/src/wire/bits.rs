//! Bit by bit through bytes, most significant bit first, with the number formats that codecs build on it.

/// A position in a run of bytes. Reading past the end gives `None`, and stays there.
#[derive(Clone, Debug)]
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    /// Bits taken, at most eight times the bytes.
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> BitReader<'a> {
        BitReader { bytes, at: 0 }
    }

    /// One bit.
    pub(super) fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at / 8)?;
        let bit = byte >> (7 - self.at % 8) & 1;
        self.at += 1;
        Some(bit == 1)
    }

    /// A number of `count` bits, at most 32.
    pub(super) fn bits(&mut self, count: u32) -> Option<u32> {
        debug_assert!(count <= 32, "{count} bits");
        if self.bytes.len() * 8 - self.at < count as usize {
            self.at = self.bytes.len() * 8;
            return None;
        }
        let mut value = 0;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    /// A number of `count` bits, at most 8.
    pub(super) fn small(&mut self, count: u32) -> Option<u8> {
        debug_assert!(count <= 8, "{count} bits");
        self.bits(count).map(|value| value as u8)
    }

    /// Passes over `count` bits.
    pub(super) fn skip(&mut self, count: u32) -> Option<()> {
        let at = self.at + count as usize;
        if at > self.bytes.len() * 8 {
            self.at = self.bytes.len() * 8;
            return None;
        }
        self.at = at;
        Some(())
    }

    /// An unsigned Exp-Golomb number of at most 32 bits (H.264 §9.1, `ue(v)`; AV1 §4.10.3, `uvlc`).
    pub(super) fn exp_golomb(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 32 {
                return None;
            }
        }
        let suffix = u64::from(self.bits(zeros)?);
        u32::try_from((1u64 << zeros) - 1 + suffix).ok()
    }

    /// A signed Exp-Golomb number (H.264 §9.1.1, `se(v)`): 1, -1, 2, -2...
    pub(super) fn signed_exp_golomb(&mut self) -> Option<i64> {
        let code = i64::from(self.exp_golomb()?);
        Some(if code & 1 == 1 { (code + 1) / 2 } else { -(code / 2) })
    }

    /// A number below `n`, which is at least 1, in as few bits as that allows (AV1 §4.10.7, `ns(n)`).
    pub(super) fn below(&mut self, n: u32) -> Option<u32> {
        let width = u32::BITS - n.leading_zeros();
        let short_codes = (1u64 << width) - u64::from(n);
        let value = self.bits(width.saturating_sub(1))?;
        if u64::from(value) < short_codes {
            return Some(value);
        }
        let extra = u64::from(self.flag()?);
        u32::try_from((u64::from(value) << 1) - short_codes + extra).ok()
    }
}

/// The other direction, for tests that make what the parsers read.
#[cfg(test)]
#[derive(Clone, Debug, Default)]
pub(super) struct BitWriter(Vec<bool>);

#[cfg(test)]
impl BitWriter {
    /// The `count` lowest bits of `value`.
    pub(super) fn put(&mut self, value: u64, count: u32) -> &mut BitWriter {
        self.0.extend((0..count).rev().map(|bit| value >> bit & 1 == 1));
        self
    }

    /// All bits of another one.
    pub(super) fn append(&mut self, other: &BitWriter) -> &mut BitWriter {
        self.0.extend_from_slice(&other.0);
        self
    }

    /// As bytes; the last one is filled up with zero bits.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| {
            bits.iter().enumerate().fold(0, |byte, (at, bit)| byte | u8::from(*bit) << (7 - at))
        };
        self.0.chunks(8).map(byte).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_count_up() {
        // 1, 010, 011, 00100, 00101, then padding.
        let mut bits = BitReader::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        let read: Vec<_> = (0..5).map(|_| bits.exp_golomb().unwrap()).collect();
        assert_eq!(read, [0, 1, 2, 3, 4]);
        let mut bits = BitReader::new(&[0b1010_0110, 0b0100_0010, 0b1000_0000]);
        let read: Vec<_> = (0..5).map(|_| bits.signed_exp_golomb().unwrap()).collect();
        assert_eq!(read, [0, 1, -1, 2, -2]);
        assert_eq!(BitReader::new(&[0; 16]).exp_golomb(), None, "more zeros than any number has");
        assert_eq!(BitReader::new(&[0, 0, 0, 0, 0x80, 0, 0, 0, 0]).exp_golomb(), Some(u32::MAX));
        assert_eq!(BitReader::new(&[0, 0, 0, 0, 0x80, 0, 0, 0, 0x80]).exp_golomb(), None, "one too large");
        assert_eq!(BitReader::new(&[0, 0, 0, 1, 0, 0, 0, 0]).exp_golomb(), Some((1 << 31) - 1));
    }

    /// The table of AV1 §4.10.7 for n = 5.
    #[test]
    fn numbers_below_five_take_two_or_three_bits() {
        let mut bits = BitReader::new(&[0b0001_1011, 0b0111_0000]);
        let read: Vec<_> = (0..5).map(|_| bits.below(5).unwrap()).collect();
        assert_eq!(read, [0, 1, 2, 3, 4]);
        assert_eq!(BitReader::new(&[]).below(1), Some(0), "the only number below 1 takes no bits");
    }

    #[test]
    fn nothing_is_read_past_the_end() {
        let mut bits = BitReader::new(&[0xff, 0x0f]);
        assert_eq!(bits.bits(12), Some(0xff0));
        assert_eq!(bits.bits(5), None);
        assert_eq!(bits.flag(), None, "the end is final");
        assert_eq!(BitReader::new(&[0]).skip(9), None);
    }
}
