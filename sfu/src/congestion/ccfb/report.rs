//! Reading one report by stream, without allocating.

/// Packets that one block may be about at most: a quarter of all numbers (RFC 8888 §3.1).
const MOST_REPORTS: u16 = 16_384;
/// The SSRC, the first number and the count of a block.
const BLOCK_HEADER: usize = 8;
/// Offsets from this one on are no times: over 8 s ago, or not known.
const NO_OFFSET: u16 = 0x1ffe;

/// Why a report was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CcfbError {
    /// It ends before the last packet or the time that it announces.
    #[error("report ends before what it announces")]
    Truncated,
    /// It has no block, one about more packets than are allowed, or bytes that belong to nothing.
    #[error("report is empty, or about too many packets")]
    Malformed,
}

/// One report, checked: iterating it cannot fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CcfbReport<'a> {
    /// When it was written: the middle 32 bits of an NTP time, of the receiver's clock.
    pub timestamp: u32,
    blocks: &'a [u8],
}

/// Decodes one report of congestion control feedback (RFC 8888 §3.1).
///
/// `body` is what follows the header and the SSRC of its sender; untrusted. It has a block for each stream that is
/// reported on. Costs one step for each block.
///
/// # Errors
/// [`CcfbError::Truncated`] if `body` ends before what it announces, [`CcfbError::Malformed`] if it has no block, one
/// of more than 16 384 packets, or a rest that is no block. Never panics.
pub fn parse(body: &[u8]) -> Result<CcfbReport<'_>, CcfbError> {
    let (blocks, timestamp) = body.split_last_chunk::<4>().ok_or(CcfbError::Truncated)?;
    if blocks.is_empty() {
        return Err(CcfbError::Malformed);
    }
    let mut rest = blocks;
    while !rest.is_empty() {
        let (_, tail) = split_block(rest)?;
        rest = tail;
    }
    Ok(CcfbReport { timestamp: u32::from_be_bytes(*timestamp), blocks })
}

fn split_block(bytes: &[u8]) -> Result<(Block<'_>, &[u8]), CcfbError> {
    let (header, rest) = bytes.split_first_chunk::<BLOCK_HEADER>().ok_or(CcfbError::Truncated)?;
    let count = u16::from_be_bytes([header[6], header[7]]);
    if count > MOST_REPORTS {
        return Err(CcfbError::Malformed);
    }
    let len = 2 * usize::from(count);
    let (metrics, tail) = rest.split_at_checked(len.next_multiple_of(4)).ok_or(CcfbError::Truncated)?;
    let block = Block {
        ssrc: u32::from_be_bytes([header[0], header[1], header[2], header[3]]),
        begin: u16::from_be_bytes([header[4], header[5]]),
        metrics: &metrics[..len],
    };
    Ok((block, tail))
}

impl<'a> CcfbReport<'a> {
    /// Its blocks, in their order.
    pub fn blocks(&self) -> impl Iterator<Item = Block<'a>> + use<'a> {
        let mut rest = self.blocks;
        std::iter::from_fn(move || {
            let (block, tail) = split_block(rest).ok()?;
            rest = tail;
            Some(block)
        })
    }
}

/// What is said of one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// The stream.
    pub ssrc: u32,
    /// The first sequence number that it is about.
    pub begin: u16,
    metrics: &'a [u8],
}

impl<'a> Block<'a> {
    /// How many packets it is about, one after the other from `begin` on; 0 to 16 384.
    pub fn count(&self) -> u16 {
        (self.metrics.len() / 2) as u16
    }

    /// What became of each of them.
    pub fn metrics(&self) -> impl Iterator<Item = Metric> + use<'a> {
        self.metrics.chunks_exact(2).map(|word| Metric::read(u16::from_be_bytes([word[0], word[1]])))
    }
}

/// What became of one packet. Its ECN mark is not read: we send none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Nothing, so far.
    Missing,
    /// It came, this many units of 1/1024 s before the report was written; `None` if the report cannot say.
    Arrived(Option<u16>),
}

impl Metric {
    fn read(word: u16) -> Metric {
        if word & 0x8000 == 0 {
            return Metric::Missing;
        }
        Metric::Arrived(Some(word & 0x1fff).filter(|offset| *offset < NO_OFFSET))
    }
}
