//! Datagrams in a byte stream: each behind its length in two bytes (RFC 4571 §2), as ICE has them over TCP (RFC 6544 §3).
//!
//! Always: what is held of a stream is one unfinished frame, of [`MAX_FRAME`] bytes at most.
//! Not here: the stream, and what the datagrams are.

/// Bytes of the length before each datagram.
pub const HEADER: usize = 2;
/// The longest datagram that is taken. What clients send fits an Ethernet frame; a stream with more in one piece is taken
/// for something else.
pub const MAX_FRAME: usize = 4096;

/// The stream announces a frame that is longer than any datagram of a client's: what comes next cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes; at most {MAX_FRAME}")]
pub struct TooLong(pub usize);

/// The length that a frame begins with; `None` if it has not come whole.
///
/// # Errors
/// [`TooLong`]
pub fn announced(bytes: &[u8]) -> Result<Option<usize>, TooLong> {
    let Some(&header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
    let length = usize::from(u16::from_be_bytes(header));
    if length > MAX_FRAME { Err(TooLong(length)) } else { Ok(Some(length)) }
}

/// Takes one stream apart.
#[derive(Debug, Default)]
pub struct Deframer {
    /// The begin of a frame.
    rest: Vec<u8>,
}

impl Deframer {
    /// Gives each datagram that is complete with the stream's next `bytes`, in order. Nothing is copied but what came in
    /// pieces. Empty frames carry nothing, and are passed over.
    ///
    /// # Errors
    /// [`TooLong`]; nothing more can be read from the stream.
    pub fn read(&mut self, mut bytes: &mut [u8], mut take: impl FnMut(&mut [u8])) -> Result<(), TooLong> {
        while !self.rest.is_empty() {
            let length = announced(&self.rest)?;
            let missing = length.map_or(HEADER, |length| HEADER + length) - self.rest.len();
            if missing > 0 {
                if bytes.is_empty() {
                    return Ok(());
                }
                let (more, behind) = bytes.split_at_mut(missing.min(bytes.len()));
                self.rest.extend_from_slice(more);
                bytes = behind;
            } else {
                if self.rest.len() > HEADER {
                    take(&mut self.rest[HEADER..]);
                }
                self.rest.clear();
            }
        }
        loop {
            let whole = announced(bytes)?.map(|length| HEADER + length).filter(|whole| *whole <= bytes.len());
            let Some(whole) = whole else { break };
            let (frame, behind) = bytes.split_at_mut(whole);
            if whole > HEADER {
                take(&mut frame[HEADER..]);
            }
            bytes = behind;
        }
        self.rest.extend_from_slice(bytes);
        Ok(())
    }
}

/// Appends `datagram` to `stream` as a frame. It must be shorter than 64 KiB.
pub fn write(stream: &mut Vec<u8>, datagram: &[u8]) {
    let length = u16::try_from(datagram.len()).expect("datagrams are shorter than 64 KiB");
    stream.extend_from_slice(&length.to_be_bytes());
    stream.extend_from_slice(datagram);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_in_pieces(stream: &[u8], sizes: &[usize]) -> Result<Vec<Vec<u8>>, TooLong> {
        let (mut deframer, mut datagrams) = (Deframer::default(), Vec::new());
        let (mut at, mut sizes) = (0, sizes.iter().cycle());
        while at < stream.len() {
            let size = (*sizes.next().expect("endless")).min(stream.len() - at);
            let mut piece = stream[at..at + size].to_vec();
            deframer.read(&mut piece, |datagram| datagrams.push(datagram.to_vec()))?;
            assert!(deframer.rest.len() < HEADER + MAX_FRAME);
            at += size;
        }
        assert!(deframer.rest.is_empty(), "the stream ended behind a frame");
        Ok(datagrams)
    }

    proptest! {
        #[test]
        fn datagrams_come_out_as_they_went_in_however_the_stream_is_cut(
            datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 1..12),
            sizes in prop::collection::vec(1_usize..3000, 1..20),
        ) {
            let mut stream = Vec::new();
            for datagram in &datagrams {
                write(&mut stream, datagram);
            }
            let carried: Vec<_> = datagrams.into_iter().filter(|datagram| !datagram.is_empty()).collect();
            prop_assert_eq!(read_in_pieces(&stream, &sizes), Ok(carried));
        }
    }

    #[test]
    fn a_frame_that_is_too_long_ends_the_stream_at_its_header() {
        let mut stream = Vec::new();
        write(&mut stream, b"before");
        let longest = vec![7; MAX_FRAME];
        write(&mut stream, &longest);
        assert_eq!(read_in_pieces(&stream, &[1]), Ok(vec![b"before".to_vec(), longest]));

        stream.extend_from_slice(&(MAX_FRAME as u16 + 1).to_be_bytes());
        for sizes in [[1], [stream.len()]] {
            assert_eq!(read_in_pieces(&stream, &sizes), Err(TooLong(MAX_FRAME + 1)));
        }
    }

    #[test]
    fn datagrams_are_given_where_they_lie_to_be_changed_there() {
        let mut stream = Vec::new();
        write(&mut stream, b"abc");
        Deframer::default().read(&mut stream, <[u8]>::reverse).expect("short");
        assert_eq!(stream, b"\0\x03cba");
    }
}
