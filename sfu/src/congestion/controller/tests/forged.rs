//! Reports that lie, transport-wide or by stream: whatever they say, the target stays within what was sent and acknowledged.

use proptest::prelude::*;

use super::*;
use crate::stats::FeedbackRefusal;

/// What a report says of the packets since the one before.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// All came at one time.
    AtOnce,
    /// All came, in a tenth of the time.
    Compressed,
    /// Only the last ones came, so many.
    Few(u16),
    /// All came, years from now or before.
    Leap(u32),
    /// So many came, of numbers that begin so far from the truth.
    Shifted(i16, u16),
    /// The last report again.
    Again,
}

fn lie() -> impl Strategy<Value = Lie> {
    prop_oneof![
        Just(Lie::AtOnce),
        Just(Lie::Compressed),
        (1..8_u16).prop_map(Lie::Few),
        any::<u32>().prop_map(Lie::Leap),
        (any::<i16>(), any::<u16>()).prop_map(|(by, count)| Lie::Shifted(by, count)),
        Just(Lie::Again),
    ]
}

const KINDS: [FeedbackKind; 2] = [FeedbackKind::TransportWide, FeedbackKind::PerStream];

/// Its packets are of one stream, in which they have their transport-wide numbers.
struct Liar {
    now: Instant,
    kind: FeedbackKind,
    controller: Controller,
    /// First number that no report was about.
    base: u16,
    last: Vec<u8>,
    reports: u8,
    /// Bytes that left, by 50 ms.
    sent: Vec<u64>,
    /// The most that any probe asked.
    probed: Bitrate,
}

impl Liar {
    fn new(kind: FeedbackKind) -> Liar {
        let now = clock::start();
        let controller = Controller::new(now, Config { feedback: kind, ..Config::default() });
        Liar {
            now,
            kind,
            controller,
            base: 1,
            last: Vec::new(),
            reports: 0,
            sent: Vec::new(),
            probed: Bitrate::ZERO,
        }
    }

    /// 50 ms of sending what the target allows up to `demand`, and what probes want; then a report.
    fn step(&mut self, demand: Bitrate, lie: Lie) {
        let mut sent = 0;
        for tick in 0..10 {
            let rate = self.controller.target().min(demand);
            let plan = self.controller.pacing(self.now).probe;
            self.probed = self.probed.max(plan.map_or(Bitrate::ZERO, |plan| plan.rate));
            let cluster = plan.map(|plan| plan.cluster);
            let rate = plan.map_or(rate, |plan| plan.rate.max(rate));
            let mut left = rate.size_in(ms(5)).as_bytes();
            while left > 0 {
                let size = left.min(1200);
                left -= size;
                sent += size;
                self.controller.name_next(self.now, (Ssrc(1), self.controller.peek_number()));
                self.controller.on_sent(self.now, DataSize::bytes(size), PacketClass::Video, cluster);
            }
            if tick % 2 == 0 && self.controller.next_timeout().is_some_and(|at| at <= self.now) {
                self.controller.handle_timeout(self.now);
            }
            if self.controller.allocation_due(self.now) {
                self.controller.allocate(self.now, Bitrate::kbps(48), &[track()], Bitrate::ZERO);
            }
            self.now += ms(5);
        }
        self.sent.push(sent);
        self.report(lie);
        self.check(demand);
    }

    fn report(&mut self, lie: Lie) {
        let count = self.controller.peek_number().wrapping_sub(self.base).min(1000);
        let time = (self.now - clock::start()).as_millis() as u32 / 64;
        let kind = self.kind;
        let all = |base: u16, count: u16, time: u32, reports: u8| {
            if kind == FeedbackKind::PerStream {
                return by_stream(base, count, time);
            }
            let mut fci = [base.to_be_bytes(), count.to_be_bytes()].concat();
            fci.extend((time << 8 | u32::from(reports)).to_be_bytes());
            fci.extend((0x2000 | count.min(1400)).to_be_bytes());
            fci.resize(fci.len() + usize::from(count.min(1400)), 0);
            fci
        };
        self.reports = self.reports.wrapping_add(1);
        let fci = match lie {
            Lie::AtOnce => all(self.base, count, time, self.reports),
            Lie::Compressed => all(self.base, count, time / 10, self.reports),
            Lie::Few(few) => {
                let few = few.min(count);
                all(self.base.wrapping_add(count - few), few, time, self.reports)
            }
            Lie::Leap(by) => all(self.base, count, time.wrapping_add(by), self.reports),
            Lie::Shifted(by, count) => all(self.base.wrapping_add_signed(by), count, time, self.reports),
            Lie::Again => self.last.clone(),
        };
        if !matches!(lie, Lie::Shifted(..) | Lie::Again) {
            self.base = self.base.wrapping_add(count);
        }
        let _ = match self.kind {
            FeedbackKind::PerStream => self.controller.on_stream_feedback(self.now, &fci).is_ok(),
            FeedbackKind::TransportWide | FeedbackKind::ReceiverSide => {
                self.controller.on_feedback(self.now, &fci).is_ok()
            }
        };
        self.last = fci;
    }

    /// The target is no more than twice what left in any 300 ms of the last 5 s, or what a probe tried.
    fn check(&self, demand: Bitrate) {
        let rate = |bytes: &[u64]| Bitrate::of(DataSize::bytes(bytes.iter().sum()), ms(300));
        let most = self.sent.windows(6.min(self.sent.len())).map(rate).max().unwrap_or(Bitrate::ZERO);
        let start = Config::default().start;
        // What arrives at either end of a window counts for it.
        let bound = (most.scale(2.1) + Bitrate::kbps(10)).max(start).max(self.probed);
        let target = self.controller.target();
        assert!(target <= bound, "{target} of {bound}, demand {demand}");
        assert!(target >= Config::default().min);
    }
}

/// A report by stream that so many packets came at `time`, which counts in 64 ms.
fn by_stream(base: u16, count: u16, time: u32) -> Vec<u8> {
    let mut body = [&1_u32.to_be_bytes()[..], &base.to_be_bytes(), &count.to_be_bytes()].concat();
    let metrics = usize::from(count.min(1400));
    body.extend([0x80, 0].repeat(metrics));
    body.resize(body.len().next_multiple_of(4), 0);
    let timestamp = (u64::from(time & 0xff_ffff) * 4_194_304 / 1000) as u32;
    body.extend(timestamp.to_be_bytes());
    body
}

/// The reports of `seconds` all lie in one way while `demand` is sent; no probe asks for more. The target at the end.
fn after(seconds: u64, demand: Bitrate, kind: FeedbackKind, lie: Lie) -> (Bitrate, Liar) {
    let mut liar = Liar::new(kind);
    liar.controller.limit(liar.now, Config::default().max, true);
    for _ in 0..seconds * 20 {
        liar.step(demand, lie);
    }
    (liar.controller.target(), liar)
}

#[test]
fn what_arrives_in_no_time_is_worth_no_more_than_what_was_sent() {
    let demand = Bitrate::kbps(1000);
    for kind in KINDS {
        for lie in [Lie::AtOnce, Lie::Compressed, Lie::Leap(0x7f_ffff), Lie::Few(1)] {
            let (target, _) = after(120, demand, kind, lie);
            assert!(target <= demand.scale(1.6), "{kind:?}, {lie:?}: {target}");
        }
    }
}

#[test]
fn each_lie_is_counted_by_its_reason() {
    let cases = [
        (Lie::Leap(0x40_0000), FeedbackRefusal::ClockJump),
        (Lie::Again, FeedbackRefusal::Repeated),
        (Lie::Shifted(20_000, 30), FeedbackRefusal::NotSent),
        (Lie::Shifted(0, u16::MAX), FeedbackRefusal::Malformed),
    ];
    for (kind, (lie, reason)) in KINDS.into_iter().flat_map(|kind| cases.map(|case| (kind, case))) {
        let mut liar = Liar::new(kind);
        liar.step(Bitrate::kbps(500), Lie::AtOnce);
        liar.step(Bitrate::kbps(500), lie);
        let refused = liar.controller.take_refused();
        assert!(refused[reason as usize] > 0, "{kind:?}, {lie:?}: {refused:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn no_row_of_lies_lifts_the_target_above_its_bound(
        lies in prop::collection::vec((lie(), 1..40_u16), 1..20),
        demand in 100..8000_u64,
        probes: bool,
        kind in prop::sample::select(&KINDS),
    ) {
        let mut liar = Liar::new(kind);
        liar.controller.limit(liar.now, Config::default().max, !probes);
        for (lie, times) in lies {
            for _ in 0..times {
                liar.step(Bitrate::kbps(demand), lie);
            }
        }
    }
}
