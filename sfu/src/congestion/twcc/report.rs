//! Reading one transport-wide feedback report, without allocating.

/// Microseconds per tick of a receive delta (§3.1.5).
pub(in crate::congestion) const DELTA_US: i64 = 250;

/// Why a report was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TwccError {
    /// It ends before the last status or delta that it announces.
    #[error("report ends before its last delta")]
    Truncated,
    /// It reports on no packet, or uses the reserved status symbol (§3.1.1).
    #[error("report is empty or uses a reserved symbol")]
    Malformed,
    /// It reports on more packets than were in flight, or on numbers that were never sent.
    #[error("report on packets that were not sent")]
    NotSent,
}

/// One report, checked: iterating it cannot fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwccReport<'a> {
    /// Transport-wide number of the first packet reported on.
    pub base: u16,
    /// Packets reported on, 1 to 65 535.
    pub count: u16,
    /// Units of 64 ms, modulo 2^24.
    pub reference: u32,
    /// Counts reports, modulo 256.
    pub feedback_count: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

/// Decodes one transport-wide feedback report (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
///
/// `fci` is what follows the 12 bytes of RTCP header; untrusted. The report has one entry per sequence
/// number from its base on; [`TwccReport::received`] gives those that arrived. Costs one pass over the
/// chunks, of which there is one per 2 bytes.
///
/// # Errors
/// [`TwccError::Truncated`] if `fci` ends before the last delta it announces, [`TwccError::Malformed`] if it
/// announces no packet or uses the reserved symbol. Never panics.
pub fn parse(fci: &[u8]) -> Result<TwccReport<'_>, TwccError> {
    let (header, rest) = fci.split_first_chunk::<8>().ok_or(TwccError::Truncated)?;
    let base = u16::from_be_bytes([header[0], header[1]]);
    let count = u16::from_be_bytes([header[2], header[3]]);
    let reference = u32::from_be_bytes([0, header[4], header[5], header[6]]);
    if count == 0 {
        return Err(TwccError::Malformed);
    }
    let mut left = usize::from(count);
    let mut delta_len = 0;
    let mut chunk_len = 0;
    while left > 0 {
        let chunk = rest.get(chunk_len..chunk_len + 2).ok_or(TwccError::Truncated)?;
        chunk_len += 2;
        let chunk = Chunk(u16::from_be_bytes([chunk[0], chunk[1]]));
        let covered = chunk.len().min(left);
        delta_len += chunk.delta_len(covered).ok_or(TwccError::Malformed)?;
        left -= covered;
    }
    let (chunks, deltas) = rest.split_at(chunk_len);
    let deltas = deltas.get(..delta_len).ok_or(TwccError::Truncated)?;
    Ok(TwccReport { base, count, reference, feedback_count: header[7], chunks, deltas })
}

impl<'a> TwccReport<'a> {
    /// The packets that arrived, by number: offset from `base`, and arrival in microseconds after the
    /// reference time (which may be negative: packets may be reordered). Runs of lost ones cost nothing.
    pub fn received(&self) -> Received<'a> {
        Received {
            chunks: self.chunks,
            deltas: self.deltas,
            left: usize::from(self.count),
            chunk: Chunk(0),
            at: 0,
            len: 0,
            offset: 0,
            time: 0,
        }
    }
}

/// One status chunk (§3.1.3, §3.1.4).
#[derive(Clone, Copy, Debug)]
struct Chunk(u16);

/// Status symbols (§3.1.1).
const NOT_RECEIVED: u16 = 0;
const SMALL_DELTA: u16 = 1;
const LARGE_DELTA: u16 = 2;

impl Chunk {
    fn is_run(self) -> bool {
        self.0 & 0x8000 == 0
    }

    fn len(self) -> usize {
        if self.is_run() {
            usize::from(self.0 & 0x1fff)
        } else if self.0 & 0x4000 == 0 {
            14
        } else {
            7
        }
    }

    fn symbol(self, index: usize) -> u16 {
        if self.is_run() {
            (self.0 >> 13) & 3
        } else if self.0 & 0x4000 == 0 {
            (self.0 >> (13 - index)) & 1
        } else {
            (self.0 >> (12 - 2 * index)) & 3
        }
    }

    /// Bytes of deltas that the first `covered` symbols need; `None` for the reserved symbol and for a run
    /// of no packets, which would let a report grow without covering anything.
    fn delta_len(self, covered: usize) -> Option<usize> {
        if covered == 0 {
            return None;
        }
        if self.is_run() {
            return delta_len(self.symbol(0)).map(|len| len * covered);
        }
        (0..covered).map(|index| delta_len(self.symbol(index))).sum()
    }
}

fn delta_len(symbol: u16) -> Option<usize> {
    match symbol {
        NOT_RECEIVED => Some(0),
        SMALL_DELTA => Some(1),
        LARGE_DELTA => Some(2),
        _ => None,
    }
}

/// Iterator of [`TwccReport::received`].
#[derive(Clone, Debug)]
pub struct Received<'a> {
    chunks: &'a [u8],
    deltas: &'a [u8],
    left: usize, // packets not yet in `chunk`
    chunk: Chunk,
    at: usize,
    len: usize, // symbols of `chunk` that count
    offset: u16,
    time: i64,
}

impl Iterator for Received<'_> {
    type Item = (u16, i64);

    fn next(&mut self) -> Option<(u16, i64)> {
        loop {
            if self.at == self.len {
                if self.left == 0 {
                    return None;
                }
                let (bytes, rest) = self.chunks.split_first_chunk::<2>()?;
                self.chunks = rest;
                self.chunk = Chunk(u16::from_be_bytes(*bytes));
                self.len = self.chunk.len().min(self.left);
                self.left -= self.len;
                self.at = 0;
            }
            if self.chunk.is_run() && self.chunk.symbol(0) == NOT_RECEIVED {
                self.offset = self.offset.wrapping_add((self.len - self.at) as u16);
                self.at = self.len;
                continue;
            }
            let symbol = self.chunk.symbol(self.at);
            let offset = self.offset;
            self.at += 1;
            self.offset = self.offset.wrapping_add(1);
            let delta = match symbol {
                SMALL_DELTA => {
                    let (byte, rest) = self.deltas.split_first()?;
                    self.deltas = rest;
                    i64::from(*byte)
                }
                LARGE_DELTA => {
                    let (bytes, rest) = self.deltas.split_first_chunk::<2>()?;
                    self.deltas = rest;
                    i64::from(i16::from_be_bytes(*bytes))
                }
                _ => continue,
            };
            self.time += delta * DELTA_US;
            return Some((offset, self.time));
        }
    }
}
