//! Frames in a byte stream: wherever it is cut, the same datagrams come out.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu::transport::framing::{Deframer, TooLong};

fuzz_target!(|data: &[u8]| {
    let Some((cut, stream)) = data.split_first_chunk() else { return };
    let (head, tail) = stream.split_at(usize::from(u16::from_be_bytes(*cut)).min(stream.len()));
    assert_eq!(read([head, tail]), read([stream, &[]]));
});

fn read(pieces: [&[u8]; 2]) -> (Vec<Vec<u8>>, Result<(), TooLong>) {
    let (mut deframer, mut datagrams) = (Deframer::default(), Vec::new());
    for piece in pieces {
        let result = deframer.read(&mut piece.to_vec(), |datagram| datagrams.push(datagram.to_vec()));
        if result.is_err() {
            return (datagrams, result);
        }
    }
    (datagrams, Ok(()))
}
