//! RTP header and header extensions; what was read is written again and must read the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sfu::wire::extension::{self, ExtensionKind, ExtensionMap, Extensions};
use sfu::wire::rtp::{FIXED_HEADER, FixedHeader, RtpHeader, split_retransmission};

fuzz_target!(|packet: &[u8]| {
    let Ok(header) = RtpHeader::parse(packet) else { return };
    assert!(header.header_len <= header.payload_end && header.payload_end <= packet.len());
    let _ = split_retransmission(&packet[header.payload()]);

    let mut map = ExtensionMap::default();
    for (id, kind) in (1..).zip(ExtensionKind::ALL) {
        assert!(map.insert(id, *kind), "ids are given once");
    }
    let Some((profile, body)) = header.extension.clone() else { return };
    let extensions = Extensions::read(&map, profile, &packet[body.clone()]);
    let elements: Vec<_> = extension::elements(profile, &packet[body]).collect();

    // The worst growth is from one-byte to two-byte heads.
    let mut out = vec![0; 2 * packet.len() + 64];
    let fixed = FixedHeader {
        marker: header.marker,
        payload_type: header.payload_type,
        sequence_number: header.sequence_number,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
    };
    let (head, rest) = out.split_first_chunk_mut::<FIXED_HEADER>().expect("there is room");
    fixed.write(head, !elements.is_empty());
    let len = FIXED_HEADER + extension::write(rest, &elements).expect("there is room for what was read");
    let again = RtpHeader::parse(&out[..len]).expect("what we write is RTP");
    assert_eq!((again.marker, again.payload_type), (header.marker, header.payload_type));
    assert_eq!((again.sequence_number, again.timestamp), (header.sequence_number, header.timestamp));
    assert_eq!((again.ssrc, again.header_len), (header.ssrc, len));
    let (profile, body) = again.extension.unwrap_or((extension::ONE_BYTE, 0..0));
    assert_eq!(extension::elements(profile, &out[body.clone()]).collect::<Vec<_>>(), elements);
    assert_eq!(Extensions::read(&map, profile, &out[body]), extensions);
});
