//! What one packet costs to encrypt and to decrypt, by profile: the largest share of forwarding in user space.
//!
//! A sender serves 100 SSRCs in turn, as a subscriber's does in a room of 50 cameras.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use sfu::transport::srtp::{DtlsRole, MAX_OVERHEAD, SrtpKeys, SrtpProfile};

const PACKET_LEN: usize = 1200;
const SSRCS: u32 = 100;
const PROFILES: [SrtpProfile; 2] = [SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80];

fn keys(profile: SrtpProfile) -> SrtpKeys {
    SrtpKeys::from_exporter(profile, &vec![7; profile.keying_material_len()]).expect("of the right length")
}

/// The packet with running number `count`: SSRCs in turn, sequence numbers rising in each.
fn write_header(packet: &mut [u8], count: u32) {
    packet[0] = 0x80;
    packet[1] = 96;
    packet[2..4].copy_from_slice(&((count / SSRCS) as u16).to_be_bytes());
    packet[8..12].copy_from_slice(&(count % SSRCS).to_be_bytes());
}

fn rtp(c: &mut Criterion) {
    let mut group = c.benchmark_group("srtp");
    group.throughput(Throughput::Elements(1));
    for profile in PROFILES {
        let mut sender = keys(profile).sender(DtlsRole::Server);
        let mut packet = vec![0; PACKET_LEN + MAX_OVERHEAD];
        let mut count = 0;
        group.bench_function(format!("protect/{profile:?}"), |b| {
            b.iter(|| {
                write_header(&mut packet, count);
                count += 1;
                sender.protect_rtp(black_box(&mut packet), PACKET_LEN).expect("a fresh sequence number")
            });
        });

        let mut sender = keys(profile).sender(DtlsRole::Server);
        let mut receiver = keys(profile).receiver(DtlsRole::Client);
        let mut count = 0;
        let mut sealed = || {
            let mut packet = vec![0; PACKET_LEN + MAX_OVERHEAD];
            write_header(&mut packet, count);
            count += 1;
            let len = sender.protect_rtp(&mut packet, PACKET_LEN).expect("a fresh sequence number");
            packet.truncate(len);
            packet
        };
        group.bench_function(format!("unprotect/{profile:?}"), |b| {
            let open = |packet: &mut Vec<u8>| receiver.unprotect_rtp(packet).expect("a genuine packet");
            b.iter_batched_ref(&mut sealed, open, BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(benches, rtp);
criterion_main!(benches);
