//! What forward error correction would gain over retransmission on long paths. A measurement, not a promise:
//! `cargo xtask sim --scenario what_parity_would_gain`; the verdict is in docs/adaptation.md.

use std::time::Duration;

use sfu::command::Demand;
use sfu::units::Bitrate;
use sfu_testkit::call::{Access, Call, Reports};
use sfu_testkit::camera::CameraConfig;
use sfu_testkit::link::{LinkConfig, Loss, Parity, Protected};
use sfu_testkit::table::measure::{self, Span};

use crate::{access, good, ms, seconds};

/// A packet of the best layer leaves about this often: so long a group takes.
const BETWEEN: Duration = Duration::from_millis(5);
/// Of what is resent (the core's own offers).
const RTX: u8 = 97;
const SEEDS: u64 = 5;

/// What brings lost packets back beside retransmission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repair {
    /// Nothing.
    Rtx,
    /// All that is resent is resent twice.
    Twice,
    /// Parity: so much for so many packets. What it may bring back is not asked for, as an ideal receiver would have it.
    Code(u32, u32),
    /// The same, but what is missing is asked for at once, as libwebrtc does.
    Hasty(u32, u32),
}

impl Repair {
    fn name(self) -> String {
        match self {
            Repair::Rtx => "RTX".to_owned(),
            Repair::Twice => "RTX, each twice".to_owned(),
            Repair::Code(packets, parity) => format!("{packets} + {parity}, then RTX"),
            Repair::Hasty(packets, parity) => format!("{packets} + {parity} and RTX"),
        }
    }

    fn parity(self) -> Option<Parity> {
        match self {
            Repair::Rtx => None,
            Repair::Twice => Some(Parity { packets: 1, parity: 1, of: Protected::PayloadType(RTX) }),
            Repair::Code(packets, parity) | Repair::Hasty(packets, parity) => {
                Some(Parity { packets, parity, of: Protected::Large(300) })
            }
        }
    }
}

/// Means over all seeds.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    /// Percent of the time.
    frozen: f64,
    /// Milliseconds after the fastest possible, mean and 95th percentile.
    delay: f64,
    high: f64,
    fps: f64,
    bytes: f64,
}

impl Outcome {
    fn share(self, sum: Outcome) -> Outcome {
        let part = 1.0 / SEEDS as f64;
        Outcome {
            frozen: sum.frozen + self.frozen * part,
            delay: sum.delay + self.delay * part,
            high: sum.high + self.high * part,
            fps: sum.fps + self.fps * part,
            bytes: sum.bytes + self.bytes * part,
        }
    }
}

/// A minute of the best layer over 4 Mbit/s; the camera's rates are `scale` of the usual ones.
fn play(rtt: Duration, loss: Loss, repair: Repair, scale: f64) -> Outcome {
    let one = |seed| {
        let mut call = Call::quiet("what_parity_would_gain", seed);
        let camera = |ssrc, mid: &str, extensions| {
            let mut config = CameraConfig::simulcast(ssrc, mid, extensions);
            config.layers.iter_mut().for_each(|layer| layer.rate = layer.rate.scale(scale));
            config
        };
        let publisher = call.publish_with(camera, good(), Reports::TransportWide);
        call.run_for(seconds(2));
        let path = access(Bitrate::kbps(4000), rtt);
        let down = LinkConfig { loss, parity: repair.parity(), ..path.down };
        let viewer = call.subscribe(publisher, Access { down, ..path }, Demand::default());
        if let Repair::Code(packets, parity) = repair {
            call.delay_nacks(viewer, BETWEEN * (packets + parity));
        }
        // Until the best layer is there.
        call.run_for(seconds(10));
        let (from, before) = (call.time(), call.downlink(viewer).sent_bytes);
        call.run_for(seconds(60));
        let (to, stats) = (call.time(), call.downlink(viewer));
        assert_eq!(stats.queue_drops, 0, "there is room for parity");
        let seen = call.seen(viewer);
        let shown = || seen.video().shown.iter().zip(&seen.video().delays).filter(|((at, _), _)| *at >= from);
        let mut delays: Vec<f64> = shown().map(|(_, delay)| delay.as_secs_f64() * 1000.0).collect();
        delays.sort_by(f64::total_cmp);
        let span = Span { from, to };
        Outcome {
            frozen: measure::frozen(&seen, span).share(span),
            delay: delays.iter().sum::<f64>() / delays.len() as f64,
            high: delays[delays.len() * 95 / 100],
            fps: seen.fps(from, to),
            bytes: (stats.sent_bytes - before) as f64,
        }
    };
    (1..=SEEDS).map(one).fold(Outcome::default(), |sum, outcome| outcome.share(sum))
}

#[test]
#[ignore = "a measurement of some minutes"]
fn what_parity_would_gain() {
    println!("| round trip | lost | repair | bytes | frozen | delay of frames, p95 | frames/s |");
    println!("| ---: | --- | --- | ---: | ---: | ---: | ---: |");
    let tell = |rtt: Duration, lost: &str, repair: Repair, o: &Outcome, all: f64| {
        println!(
            "| {} ms | {lost} | {} | {:.2} | {:.2} % | {:.0}, {:.0} ms | {:.1} |",
            rtt.as_millis(),
            repair.name(),
            o.bytes / all,
            o.frozen,
            o.delay,
            o.high,
            o.fps
        );
    };
    for rtt in [160, 250, 400].map(ms) {
        for (lost, loss) in [
            ("2 %", Loss::Random(0.02)),
            ("5 %", Loss::Random(0.05)),
            ("10 %", Loss::Random(0.1)),
            ("5 %, bursts of 3", Loss::Bursts { ratio: 0.05, burst: 3.0 }),
        ] {
            let resent = play(rtt, loss, Repair::Rtx, 1.0);
            tell(rtt, lost, Repair::Rtx, &resent, resent.bytes);
            for repair in [
                Repair::Twice,
                Repair::Hasty(10, 1),
                Repair::Code(5, 1),
                Repair::Code(10, 1),
                Repair::Code(20, 4),
            ] {
                // Paid by the camera: as many bytes in all.
                let more = play(rtt, loss, repair, 1.0).bytes / resent.bytes;
                let outcome = play(rtt, loss, repair, 1.0 / more);
                tell(rtt, lost, repair, &outcome, resent.bytes);
            }
        }
    }
}
