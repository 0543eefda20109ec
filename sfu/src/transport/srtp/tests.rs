use super::*;

const PROFILES: [SrtpProfile; 2] = [SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80];

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> =
        text.chars().filter_map(|c| c.to_digit(16)).map(|digit| u8::try_from(digit).unwrap()).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn keys(profile: SrtpProfile, seed: u64) -> SrtpKeys {
    let mut rng = fastrand::Rng::with_seed(seed);
    let material: Vec<u8> = (0..profile.keying_material_len()).map(|_| rng.u8(..)).collect();
    SrtpKeys::from_exporter(profile, &material).unwrap()
}

/// A client that sends and a server that receives.
fn pair(profile: SrtpProfile) -> (SrtpSender, SrtpReceiver) {
    let keys = keys(profile, 7);
    (keys.sender(DtlsRole::Client), keys.receiver(DtlsRole::Server))
}

/// A packet with neither CSRC nor extension, 40 bytes of payload that follow from the number.
fn rtp(ssrc: u32, seq: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(seq.to_be_bytes());
    packet.extend([0, 0, 1, 2]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend((0..40).map(|i| (seq as u8).wrapping_add(i)));
    packet
}

fn rtcp(ssrc: u32) -> Vec<u8> {
    let mut packet = hex("80 c9 00 01");
    packet.extend(ssrc.to_be_bytes());
    packet.extend(hex("81 cd 00 03 00000001 00000002 00010002"));
    packet
}

fn seal_rtp(sender: &mut SrtpSender, plain: &[u8]) -> Vec<u8> {
    let mut packet = plain.to_vec();
    packet.resize(plain.len() + MAX_OVERHEAD, 0xee);
    let len = sender.protect_rtp(&mut packet, plain.len()).unwrap();
    assert_eq!(len, plain.len() + sender.profile().rtp_overhead());
    packet.truncate(len);
    packet
}

fn seal_rtcp(sender: &mut SrtpSender, plain: &[u8]) -> Vec<u8> {
    let mut packet = plain.to_vec();
    packet.resize(plain.len() + MAX_OVERHEAD, 0xee);
    let len = sender.protect_rtcp(&mut packet, plain.len()).unwrap();
    assert_eq!(len, plain.len() + sender.profile().rtcp_overhead());
    packet.truncate(len);
    packet
}

fn open_rtp(receiver: &mut SrtpReceiver, sealed: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let mut packet = sealed.to_vec();
    let len = receiver.unprotect_rtp(&mut packet)?;
    packet.truncate(len);
    Ok(packet)
}

fn open_rtcp(receiver: &mut SrtpReceiver, sealed: &[u8]) -> Result<Vec<u8>, SrtpError> {
    let mut packet = sealed.to_vec();
    let len = receiver.unprotect_rtcp(&mut packet)?;
    packet.truncate(len);
    Ok(packet)
}

/// RFC 3711 App. B.3.
#[test]
fn session_keys_are_those_of_the_rfc() {
    let master = MasterKey {
        key: hex("E1F97A0D3E018BE0D64FA32C06DE4139").try_into().unwrap(),
        salt: hex("0EC675AD498AFEEBB6960B3AABE6").try_into().unwrap(),
    };
    let derive = |label, len| {
        let mut out = vec![0xff; len];
        kdf::derive(&master, label, &mut out);
        out
    };
    assert_eq!(derive(0, 16), hex("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(derive(2, 14), hex("30CBBC08863D8C85D49DB34A9AE1"));
    assert_eq!(
        derive(1, 94),
        hex("CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE
             E049646C43D9327AD175578EF7227098 6371C10C9A369AC2F94A8C5FBCDDDC25
             6D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2")
    );
}

/// RFC 7714 §16 and §17: "Quid pro quo".
fn rfc7714_cipher() -> Cipher {
    let key = hex("000102030405060708090a0b0c0d0e0f");
    let key = ring::aead::UnboundKey::new(&ring::aead::AES_128_GCM, &key).unwrap();
    Cipher::Gcm {
        key: Box::new(ring::aead::LessSafeKey::new(key)),
        salt: hex("517569642070726f2071756f").try_into().unwrap(),
    }
}

/// RFC 7714 §16.1.1 and §16.1.2.
#[test]
fn gcm_rtp_is_that_of_the_rfc() {
    let plain = hex("8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976
                     69736120 696e2070 61727465 73207472 6573");
    let sealed = hex("8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5
                      0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce");
    let mut packet = plain.clone();
    packet.resize(plain.len() + GCM_TAG, 0);
    let len = rfc7714_cipher().seal_rtp(&mut packet, 12, plain.len(), 0x5501a0b2, 0xf17b);
    assert_eq!(packet[..len], sealed);
    assert_eq!(rfc7714_cipher().open_rtp(&mut packet, 12, 0x5501a0b2, 0xf17b), Ok(plain.len()));
    assert_eq!(packet[..plain.len()], plain);
}

const GCM_TAG: usize = 16;

/// RFC 7714 §17.1 and §17.2.
#[test]
fn gcm_rtcp_is_that_of_the_rfc() {
    let plain = hex("81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
                     deadbeef deadbeef deadbeef deadbeef deadbeef");
    let sealed = hex("81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d
                      c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b c84aa458 96cf4d2f c5abf872
                      45d9eade 800005d4");
    let word = 0x8000_05d4;
    let cipher = rfc7714_cipher();
    let mut packet = plain.clone();
    packet.resize(plain.len() + MAX_OVERHEAD, 0);
    let len = cipher.seal_rtcp(&mut packet, plain.len(), 0x4d617273, word);
    assert_eq!(packet[..len], sealed);
    assert_eq!(cipher.rtcp_index_word(&packet), Some(word));
    assert_eq!(cipher.open_rtcp(&mut packet, 0x4d617273, word), Ok(plain.len()));
    assert_eq!(packet[..plain.len()], plain);
}

/// From the master key on, as libsrtp's own known answers have it: RFC 7714 gives none for the derivation
/// with a 12-byte salt (§11).
#[test]
fn gcm_from_master_keys_agrees_with_libsrtp() {
    let mut material = hex("000102030405060708090a0b0c0d0e0f");
    material.extend([0; 16]);
    material.extend(hex("a0a1a2a3a4a5a6a7a8a9aaab"));
    material.extend([0; 12]);
    let keys = SrtpKeys::from_exporter(SrtpProfile::AeadAes128Gcm, &material).unwrap();
    let plain = hex("800f1234 decafbad cafebabe abababab abababab abababab abababab");
    let sealed = seal_rtp(&mut keys.sender(DtlsRole::Client), &plain);
    assert_eq!(
        sealed,
        hex(
            "800f1234 decafbad cafebabe c5002ede 04cfdd2e b91159e0 880aa06e d2976826 f796b201 df3131a1 27e8a392"
        )
    );
    let sealed = hex("81c8000b cafebabe c98b8b5d f0392a55 852b6c21 ac8e7025 c52c6fbe a2b3b446
                      ea31123b a88ce61e 80000001");
    let plain = hex("81c8000b cafebabe abababab abababab abababab abababab");
    assert_eq!(open_rtcp(&mut keys.receiver(DtlsRole::Server), &sealed), Ok(plain));
}

#[test]
fn either_role_reads_what_the_other_sends_and_not_what_it_sends_itself() {
    for profile in PROFILES {
        let keys = keys(profile, 1);
        for (us, them) in [(DtlsRole::Client, DtlsRole::Server), (DtlsRole::Server, DtlsRole::Client)] {
            let sealed = seal_rtp(&mut keys.sender(us), &rtp(5, 9));
            assert_eq!(open_rtp(&mut keys.receiver(them), &sealed), Ok(rtp(5, 9)), "{profile:?}");
            let reflected = open_rtp(&mut keys.receiver(us), &sealed);
            assert_eq!(reflected, Err(SrtpError::AuthenticationFailed), "{profile:?}");

            let sealed = seal_rtcp(&mut keys.sender(us), &rtcp(5));
            assert_eq!(open_rtcp(&mut keys.receiver(them), &sealed), Ok(rtcp(5)), "{profile:?}");
            let reflected = open_rtcp(&mut keys.receiver(us), &sealed);
            assert_eq!(reflected, Err(SrtpError::AuthenticationFailed), "{profile:?}");
        }
    }
}

#[test]
fn keying_material_of_another_length_is_refused() {
    for (profile, len) in [(SrtpProfile::AeadAes128Gcm, 56), (SrtpProfile::Aes128CmHmacSha1_80, 60)] {
        assert!(SrtpKeys::from_exporter(profile, &vec![1; len]).is_ok());
        let refused = SrtpKeys::from_exporter(profile, &vec![1; len - 1]).unwrap_err();
        assert_eq!(refused, KeyingError { profile, got: len - 1 });
        assert_eq!(SrtpProfile::from_wire(profile.wire()), Some(profile));
    }
}

#[test]
fn headers_stay_readable_with_csrcs_and_extensions() {
    let mut packet = hex("92 60 0007 00000001 0000002a 00000001 00000002 bede0001 10aa0000");
    let header_len = packet.len();
    packet.extend(b"payload");
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let sealed = seal_rtp(&mut sender, &packet);
        assert_eq!(sealed[..header_len], packet[..header_len], "{profile:?}");
        assert_ne!(sealed[header_len..][..7], packet[header_len..], "{profile:?}");
        assert_eq!(open_rtp(&mut receiver, &sealed), Ok(packet.clone()), "{profile:?}");

        let empty = &packet[..header_len];
        let (mut sender, mut receiver) = pair(profile);
        let sealed = seal_rtp(&mut sender, empty);
        assert_eq!(open_rtp(&mut receiver, &sealed).as_deref(), Ok(empty), "{profile:?}: no payload");
    }
}

#[test]
fn a_change_of_any_bit_is_noticed_and_makes_no_state() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let sealed = seal_rtp(&mut sender, &rtp(5, 9));
        let sealed_rtcp = seal_rtcp(&mut sender, &rtcp(5));
        for at in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(open_rtp(&mut receiver, &bad).is_err(), "{profile:?}, byte {at}");
        }
        for at in 0..sealed_rtcp.len() {
            let mut bad = sealed_rtcp.clone();
            bad[at] ^= 1 << (at % 8);
            assert!(open_rtcp(&mut receiver, &bad).is_err(), "{profile:?}, RTCP byte {at}");
        }
        assert!(receiver.rtp_streams.is_empty() && receiver.rtcp_streams.is_empty());
        assert_eq!(open_rtp(&mut receiver, &sealed), Ok(rtp(5, 9)), "the genuine one still passes");
        assert_eq!(open_rtcp(&mut receiver, &sealed_rtcp), Ok(rtcp(5)));
    }
}

#[test]
fn packets_under_other_keys_are_refused() {
    for profile in PROFILES {
        let mut sender = keys(profile, 1).sender(DtlsRole::Client);
        let mut receiver = keys(profile, 2).receiver(DtlsRole::Server);
        let got = open_rtp(&mut receiver, &seal_rtp(&mut sender, &rtp(5, 9)));
        assert_eq!(got, Err(SrtpError::AuthenticationFailed));
        let got = open_rtcp(&mut receiver, &seal_rtcp(&mut sender, &rtcp(5)));
        assert_eq!(got, Err(SrtpError::AuthenticationFailed));
    }
}

#[test]
fn the_plain_packet_is_no_srtcp_whatever_its_flag() {
    for profile in PROFILES {
        let (sender, mut receiver) = pair(profile);
        // Unauthenticated, flag clear: what some stacks let through.
        let mut bare = rtcp(5);
        bare.resize(bare.len() + profile.rtcp_overhead(), 0);
        assert!(open_rtcp(&mut receiver, &bare).is_err(), "{profile:?}");

        // Genuine but unencrypted, as only a peer with the keys can make it.
        let mut signed = rtcp(5);
        let len = signed.len();
        signed.resize(len + MAX_OVERHEAD, 0);
        let sealed_len = sender.rtcp.seal_rtcp(&mut signed, len, 5, 17);
        signed.truncate(sealed_len);
        assert_eq!(open_rtcp(&mut receiver, &signed), Err(SrtpError::NotEncrypted), "{profile:?}");
        assert!(receiver.rtcp_streams.is_empty());
    }
}

#[test]
fn nothing_is_accepted_twice() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let packets: Vec<_> = (0..3000).map(|seq| seal_rtp(&mut sender, &rtp(5, seq))).collect();
        for at in [0, 2, 1, 2999] {
            assert!(open_rtp(&mut receiver, &packets[at]).is_ok(), "{profile:?}, {at}");
            assert_eq!(open_rtp(&mut receiver, &packets[at]), Err(SrtpError::Replayed), "{profile:?}, {at}");
        }
        assert_eq!(open_rtp(&mut receiver, &packets[1975]), Err(SrtpError::TooOld));
        assert!(open_rtp(&mut receiver, &packets[1976]).is_ok(), "the last inside the window");

        let packets: Vec<_> = (0..200).map(|_| seal_rtcp(&mut sender, &rtcp(5))).collect();
        for at in [0, 2, 1, 199] {
            assert!(open_rtcp(&mut receiver, &packets[at]).is_ok(), "{profile:?}, RTCP {at}");
            assert_eq!(open_rtcp(&mut receiver, &packets[at]), Err(SrtpError::Replayed));
        }
        assert_eq!(open_rtcp(&mut receiver, &packets[71]), Err(SrtpError::TooOld));
        assert!(open_rtcp(&mut receiver, &packets[72]).is_ok());
    }
}

#[test]
fn rollover_survives_loss_and_reordering_around_the_wrap() {
    for profile in PROFILES {
        for seed in 0..20 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let (mut sender, mut receiver) = pair(profile);
            let mut in_flight: Vec<(u32, Vec<u8>)> = vec![];
            let (mut at, mut arrived) = (1u32, 0);
            // Over three wraps; up to 8000 numbers lost in a row, up to 32 packets in flight.
            while at < 4 * 65_536 {
                at += if rng.u8(..200) == 0 { rng.u32(1..8000) } else { rng.u32(1..40) };
                in_flight.push((at, seal_rtp(&mut sender, &rtp(5, at as u16))));
                if in_flight.len() == 32 || rng.bool() {
                    let (number, packet) = in_flight.swap_remove(rng.usize(..in_flight.len()));
                    match open_rtp(&mut receiver, &packet) {
                        Ok(plain) => {
                            assert_eq!(plain, rtp(5, number as u16), "seed {seed}");
                            arrived += 1;
                        }
                        Err(error) => assert_eq!(error, SrtpError::TooOld, "seed {seed}, {number}"),
                    }
                }
            }
            assert!(arrived > 1000, "seed {seed}: {arrived}");
        }
    }
}

#[test]
fn a_packet_from_before_the_first_cycle_has_no_number() {
    let (mut sender, mut receiver) = pair(SrtpProfile::AeadAes128Gcm);
    let first = seal_rtp(&mut sender, &rtp(5, 3));
    assert!(open_rtp(&mut receiver, &first).is_ok());
    let mut early = rtp(5, 65_530);
    assert_eq!(receiver.unprotect_rtp(&mut early), Err(SrtpError::TooOld));
    early.resize(100, 0);
    assert_eq!(sender.protect_rtp(&mut early, 52), Err(SrtpError::TooOld));
}

#[test]
fn keys_are_not_used_past_their_life() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        sender.streams.entry(5).or_default().accept(RTP_INDEX_LIMIT - 2);
        let last = seal_rtp(&mut sender, &rtp(5, 65_535));
        let mut beyond = rtp(5, 0);
        beyond.resize(100, 0);
        assert_eq!(sender.protect_rtp(&mut beyond, 52), Err(SrtpError::KeyExhausted));

        receiver.rtp_streams.entry(5).or_default().accept(RTP_INDEX_LIMIT - 2);
        assert_eq!(open_rtp(&mut receiver, &last), Ok(rtp(5, 65_535)));
        assert_eq!(open_rtp(&mut receiver, &beyond), Err(SrtpError::KeyExhausted));

        sender.next_rtcp_index = RTCP_INDEX_LIMIT - 1;
        let last = seal_rtcp(&mut sender, &rtcp(5));
        assert_eq!(open_rtcp(&mut receiver, &last), Ok(rtcp(5)));
        let mut beyond = rtcp(5);
        let len = beyond.len();
        beyond.resize(len + MAX_OVERHEAD, 0);
        assert_eq!(sender.protect_rtcp(&mut beyond, len), Err(SrtpError::KeyExhausted));
    }
}

#[test]
fn gcm_never_seals_two_packets_under_one_number() {
    let (mut sender, _) = pair(SrtpProfile::AeadAes128Gcm);
    for seq in [10, 12, 11, 2000] {
        seal_rtp(&mut sender, &rtp(5, seq));
    }
    for seq in [10, 11, 12, 2000, 900] {
        let mut packet = rtp(5, seq);
        packet.resize(100, 0);
        let before = packet.clone();
        assert_eq!(sender.protect_rtp(&mut packet, 52), Err(SrtpError::IndexReused), "{seq}");
        assert_eq!(packet, before, "refused packets are left alone");
    }
    seal_rtp(&mut sender, &rtp(5, 1999));
    seal_rtp(&mut sender, &rtp(6, 10));

    let (mut sender, _) = pair(SrtpProfile::Aes128CmHmacSha1_80);
    let first = seal_rtp(&mut sender, &rtp(5, 10));
    assert_eq!(seal_rtp(&mut sender, &rtp(5, 10)), first, "there a repetition is harmless");
}

#[test]
fn streams_are_capped_and_can_be_forgotten() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        for ssrc in 0..MAX_STREAMS as u32 {
            assert!(open_rtp(&mut receiver, &seal_rtp(&mut sender, &rtp(ssrc, 1))).is_ok());
            assert!(open_rtcp(&mut receiver, &seal_rtcp(&mut sender, &rtcp(ssrc))).is_ok());
        }
        let one_more = seal_rtp(&mut sender, &rtp(9999, 1));
        let one_more_rtcp = seal_rtcp(&mut sender, &rtcp(9999));
        assert_eq!(open_rtp(&mut receiver, &one_more), Err(SrtpError::TooManyStreams));
        assert_eq!(open_rtcp(&mut receiver, &one_more_rtcp), Err(SrtpError::TooManyStreams));
        assert!(open_rtp(&mut receiver, &seal_rtp(&mut sender, &rtp(0, 2))).is_ok(), "the others live");
        receiver.forget(Ssrc(0));
        assert!(open_rtp(&mut receiver, &one_more).is_ok());
        assert!(open_rtcp(&mut receiver, &one_more_rtcp).is_ok());
    }
}

#[test]
fn short_and_broken_packets_are_refused() {
    for profile in PROFILES {
        let (mut sender, mut receiver) = pair(profile);
        let sealed = seal_rtp(&mut sender, &rtp(5, 9));
        let sealed_rtcp = seal_rtcp(&mut sender, &rtcp(5));
        for len in 0..sealed.len() {
            assert!(open_rtp(&mut receiver, &sealed[..len]).is_err(), "{profile:?}, {len}");
        }
        for len in 0..sealed_rtcp.len() {
            assert!(open_rtcp(&mut receiver, &sealed_rtcp[..len]).is_err(), "{profile:?}, {len}");
        }
        for (bad, why) in [
            ("40600007 00000001 00000005 00", "version 1"),
            ("8f600007 00000001 00000005 00000000", "15 CSRCs announced"),
            ("90600007 00000001 00000005 bede", "extension header cut"),
            ("90600007 00000001 00000005 bedeffff 00000000", "extension longer than the packet"),
        ] {
            let mut packet = hex(bad);
            assert_eq!(receiver.unprotect_rtp(&mut packet), Err(SrtpError::Malformed), "{why}");
            let len = packet.len();
            packet.resize(len + MAX_OVERHEAD, 0);
            assert_eq!(sender.protect_rtp(&mut packet, len), Err(SrtpError::Malformed), "{why}");
        }
        let mut tight = rtp(5, 10);
        let len = tight.len();
        assert_eq!(sender.protect_rtp(&mut tight, len + 1), Err(SrtpError::Malformed));
        tight.resize(len + profile.rtp_overhead() - 1, 0);
        assert_eq!(sender.protect_rtp(&mut tight, len), Err(SrtpError::NoRoom));
        let mut tight = rtcp(5);
        let len = tight.len();
        tight.resize(len + profile.rtcp_overhead() - 1, 0);
        assert_eq!(sender.protect_rtcp(&mut tight, len), Err(SrtpError::NoRoom));
    }
}

#[test]
fn debug_output_keeps_the_secrets() {
    let keys = keys(SrtpProfile::AeadAes128Gcm, 1);
    let texts = [
        format!("{keys:?}"),
        format!("{:?}", keys.sender(DtlsRole::Client)),
        format!("{:?}", keys.receiver(DtlsRole::Client)),
    ];
    for text in texts {
        assert!(text.len() < 80, "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn noise_is_never_accepted(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
        for profile in PROFILES {
            let (mut sender, mut receiver) = pair(profile);
            assert!(receiver.unprotect_rtp(&mut bytes).is_err());
            assert!(receiver.unprotect_rtcp(&mut bytes).is_err());
            let len = bytes.len() / 2;
            let _ = sender.protect_rtp(&mut bytes, len);
            let _ = sender.protect_rtcp(&mut bytes, len);
        }
    }
}
