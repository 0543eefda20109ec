//! One packet in twenty is lost in either direction, on both ends of the call.

use std::time::Duration;

use sfu::command::Demand;
use sfu_testkit::call::{Access, Call, Machines};
use sfu_testkit::camera::CameraConfig;
use sfu_testkit::link::{LinkConfig, Loss};

use crate::{access, ms, seconds, seeds};

fn one_in_twenty(name: &str, rtt: Duration) {
    for seed in seeds() {
        let mut call = Call::new(name, seed, Machines::Idle);
        let link =
            LinkConfig { loss: Loss::Random(0.05), ..access(sfu::units::Bitrate::kbps(20_000), rtt).down };
        let publisher = call.publish(CameraConfig::small, Access::same(link));
        let viewer = call.subscribe(publisher, Access::same(link), Demand::default());
        call.run_for(seconds(3));
        let begin = call.time();
        let sent = |call: &Call| call.published(publisher).frames.values().sum::<u64>();
        let before = sent(&call);
        call.run_for(seconds(60));

        let seen = call.seen(viewer);
        let sent = (sent(&call) - before) as f64;
        let shown = seen.fps(begin, call.time()) * 60.0;
        assert!(shown >= 0.9 * sent, "seed {seed}: {shown} of {sent}");
        let heard = seen.heard(begin, call.time());
        // Lost on either way: 1 - 0.95², give or take.
        assert!(heard.missed() < 0.14, "seed {seed}: {heard:?}");
        let (nacks, resent) = {
            let stats = call.server().sfu().stats();
            (stats.nacks, stats.retransmissions)
        };
        assert!(
            nacks.0 > 50 && nacks.1 > 50 && resent.0 > 50 && resent.1 > 50,
            "seed {seed}: {nacks:?} {resent:?}"
        );
        let published = call.published(publisher);
        assert!(published.nacked > 50 && published.resent > 50, "seed {seed}: {published:?}");
        assert!(seen.video().nacks > 50 && seen.video().resent > 50, "seed {seed}: {:?}", seen.video());
        let freezes = seen.freezes(begin, call.time(), ms(500));
        assert!(freezes.is_empty(), "seed {seed}: {freezes:?}");
        assert_eq!(seen.video().undecodable, 0, "seed {seed}");
    }
}

#[test]
fn loss_of_5_percent_over_20_ms() {
    one_in_twenty("loss over 20 ms", ms(20));
}

#[test]
fn loss_of_5_percent_over_150_ms() {
    one_in_twenty("loss over 150 ms", ms(150));
}
