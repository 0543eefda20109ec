use super::*;
use crate::congestion::PacketClass;
use crate::ids::SeqNo;

/// Reports a run of `packets` that left after `at_ms` and arrived `gap_us` apart, without those in `lost`.
fn run(meter: &mut BurstMeter, at_ms: u64, packets: u64, gap_us: u64, lost: &[u64]) {
    let sent = sfu_testkit::clock::start() + Duration::from_millis(at_ms);
    let acked = |index: u64| Acked {
        number: SeqNo::first(at_ms as u16 + index as u16),
        sent,
        arrival: (!lost.contains(&index))
            .then(|| Arrival::micros((at_ms * 1000 + 20_000 + index * gap_us) as i64)),
        late: false,
        size: DataSize::bytes(1200),
        class: PacketClass::Video,
        cluster: None,
    };
    meter.on_acked(&(0..packets).map(acked).collect::<Vec<_>>());
}

/// A frame each 33 ms: as much of it as may leave at once, two packets at least, one each `gap_us`.
fn settle(meter: &mut BurstMeter, from_ms: u64, seconds: u64, gap_us: u64) {
    for at in (from_ms..from_ms + seconds * 1000).step_by(33) {
        let packets = meter.most().as_bytes().div_ceil(1200).max(2);
        run(meter, at, packets, gap_us, &[]);
    }
}

#[test]
fn a_wide_path_takes_a_whole_frame() {
    let mut meter = BurstMeter::default();
    settle(&mut meter, 0, 2, 50);
    assert_eq!(meter.most(), MOST);
}

#[test]
fn a_narrow_path_takes_what_passes_within_a_tick() {
    let mut meter = BurstMeter::default();
    // 4 Mbit/s: 2.4 ms a packet, two in a tick, and a third is tried.
    settle(&mut meter, 0, 5, 2400);
    assert!((1200..=3600).contains(&meter.most().as_bytes()), "{meter:?}");
    let mut meter = BurstMeter { most: MOST, ..BurstMeter::default() };
    run(&mut meter, 0, 16, 2400, &[]);
    run(&mut meter, 33, 1, 0, &[]);
    assert!(meter.most() <= DataSize::bytes(2500), "one run tells: {meter:?}");
}

#[test]
fn a_loss_in_a_run_halves_the_next_and_growth_waits() {
    let mut meter = BurstMeter { most: MOST, ..BurstMeter::default() };
    run(&mut meter, 0, 8, 50, &[6, 7]);
    assert_eq!(meter.most(), MOST.half(), "once, however many were lost");
    settle(&mut meter, 33, 1, 50);
    assert_eq!(meter.most(), MOST.half());
    settle(&mut meter, 1033, 1, 50);
    assert!(meter.most() > MOST.half());
}

/// What drops the tail of eight packets gets smaller runs most of the time.
#[test]
fn shallow_buffers_are_spared() {
    let mut meter = BurstMeter::default();
    let mut large = 0;
    for frame in 0..3000_u64 {
        let packets = meter.most().as_bytes().div_ceil(1200).max(2);
        let overflows = packets >= 8;
        large += u64::from(overflows);
        run(&mut meter, frame * 33, packets, 50, if overflows { &[7] } else { &[] });
    }
    assert!(large < 3000 / 30, "one a second at most: {large}");
}

#[test]
fn small_runs_prove_nothing_for_large_ones() {
    let mut meter = BurstMeter::default();
    for at in 0..100 {
        run(&mut meter, at * 33, 2, 0, &[]);
    }
    assert!(meter.most() <= DataSize::bytes(2 * 2400 + 1200), "{meter:?}");
}
