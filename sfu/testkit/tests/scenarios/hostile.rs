//! A subscriber that lies or floods gains nothing, and nobody else notices; a messy path costs few needless repairs.

use sfu::command::Demand;
use sfu::stats::{FeedbackRefusal, KeyframeRefusal, NackRefusal};
use sfu::units::Bitrate;
use sfu_testkit::call::{Access, Attack, Call, Forgery, Machines, PublisherId, SubscriberId};
use sfu_testkit::camera::CameraConfig;
use sfu_testkit::link::{Jitter, LinkConfig, Loss};

use crate::{Faults, access, good, ms, seconds, seeds};

/// 6 Mbit/s, 40 ms there and back; 3 % held back by up to 60 ms, 2 % twice.
fn messy(loss: Loss) -> Access {
    let path = access(Bitrate::kbps(6000), ms(40));
    let jitter = Jitter::Reorder { share: 0.03, most: ms(60) };
    Access { down: LinkConfig { jitter, duplicate: 0.02, loss, ..path.down }, up: path.up }
}

/// 40 s on a messy path: of the packets sent, the share resent and the share resent in vain; share of time frozen.
fn repaired(name: &str, loss: Loss, seed: u64) -> (f64, f64, f64) {
    let mut call = Call::new(name, seed, Machines::Idle);
    let publisher = call.publish(CameraConfig::simulcast, good());
    let viewer = call.subscribe(publisher, messy(loss), Demand::default());
    call.run_for(seconds(5));
    let (video, stats) = (call.seen(viewer).video().clone(), call.server().sfu().stats().clone());
    call.run_for(seconds(40));
    let (seen, now) = (call.seen(viewer).video(), call.server().sfu().stats());
    let sent = (now.sent.video.packets - stats.sent.video.packets) as f64;
    let resent = (now.retransmissions.1 - stats.retransmissions.1) as f64 / sent;
    let spurious = (seen.spurious - video.spurious) as f64 / sent;
    let frozen = seen.frozen.saturating_sub(video.frozen).as_secs_f64() / 40.0;
    println!("{name}, seed {seed}: {resent:.4} resent, {spurious:.4} in vain, {frozen:.4} frozen");
    (resent, spurious, frozen)
}

#[test]
fn what_is_merely_late_is_hardly_ever_resent() {
    let mut faults = Faults::default();
    for seed in seeds() {
        // Without waiting for reports and for what is late it were 2.5 % in vain on the first two. Frozen over 20 seeds,
        // median and worst: nothing, 1.9 and 3.1 %, 7.0 and 11.7 %.
        for (loss, most, frozen_most) in [
            (Loss::Never, 0.02, 0.01),
            (Loss::Bursts { ratio: 0.05, burst: 3.0 }, 0.09, 0.035),
            (Loss::Random(0.2), 0.30, 0.13),
        ] {
            let (resent, spurious, frozen) =
                repaired("what_is_merely_late_is_hardly_ever_resent", loss, seed);
            faults.check(spurious < 0.02, seed, || format!("{loss:?}: {spurious} in vain"));
            faults.check(resent < most, seed, || format!("{loss:?}: {resent} resent"));
            faults.check(frozen < frozen_most, seed, || format!("{loss:?}: {frozen} of the time frozen"));
        }
    }
    faults.none();
}

/// A publisher, a subscriber that will turn hostile, and another one.
fn three(name: &str, seed: u64, demand: Demand) -> (Call, PublisherId, [SubscriberId; 2]) {
    let mut call = Call::new(name, seed, Machines::Idle);
    let publisher = call.publish(CameraConfig::simulcast, good());
    let viewers = [demand, Demand::default()].map(|demand| call.subscribe(publisher, good(), demand));
    call.run_for(seconds(8));
    (call, publisher, viewers)
}

/// The least picture alone, so that the liar needs no keyframe whatever the allocator thinks of it.
fn lowest() -> Demand {
    Demand { max_spatial: 0, ..Demand::default() }
}

/// What a well-behaved call and one with a liar in it send to the other subscriber.
fn others(name: &str, seed: u64, attacks: &[Attack]) -> Vec<u64> {
    let run = |attack: Option<Attack>| {
        let (mut call, _, [liar, other]) = three(name, seed, lowest());
        if let Some(attack) = attack {
            call.attack(liar, attack);
        }
        call.run_for(seconds(6));
        call.trace_of(other)
    };
    [None].into_iter().chain(attacks.iter().copied().map(Some)).map(run).collect()
}

#[test]
fn nobody_else_notices_a_liar() {
    let mut faults = Faults::default();
    // Who reports on nothing that was sent is cut off, and will need a keyframe: that is another test.
    let silent = |forgery: &Forgery| matches!(forgery, Forgery::Everything | Forgery::NeverSent);
    let reports: Vec<_> = Forgery::ALL.into_iter().filter(|f| !silent(f)).map(Attack::Reports).collect();
    let attacks = [&reports[..], &[Attack::NackAll, Attack::NackReceived, Attack::Remb(1 << 63)]].concat();
    for seed in seeds() {
        let sent = others("nobody_else_notices_a_liar", seed, &attacks);
        for (attack, sent_now) in attacks.iter().zip(&sent[1..]) {
            faults.check(*sent_now == sent[0], seed, || format!("{attack:?} changes what others get"));
        }
        faults.check(sent[0] != 0, seed, || "nothing was sent".into());
    }
    faults.none();
}

#[test]
fn forged_reports_gain_nothing() {
    let mut faults = Faults::default();
    for seed in seeds() {
        for forgery in Forgery::ALL {
            let (mut call, publisher, [liar, other]) =
                three("forged_reports_gain_nothing", seed, Demand::default());
            let asked = call.published(publisher).plis.len();
            let before = call.samples(liar).last().expect("it is sampled").snapshot.target;
            call.attack(liar, Attack::Reports(forgery));
            call.run_for(seconds(20));
            // All three encodings are 2.3 Mbit/s: more than twice what the best costs was never sent.
            let most = call.samples(liar).iter().map(|s| s.snapshot.target).max().expect("it is sampled");
            let bound = before.max(Bitrate::kbps(4800));
            faults.check(most <= bound, seed, || format!("{forgery:?}: {most} of {bound}"));
            let seen = call.seen(other);
            let sizes = seen.sizes(seconds(8), call.time());
            faults.check(sizes == [(1280, 720)], seed, || format!("{forgery:?}: the other saw {sizes:?}"));
            let freezes = seen.freezes(seconds(8), call.time(), ms(200));
            faults
                .check(freezes.is_empty(), seed, || format!("{forgery:?}: the other's freezes {freezes:?}"));
            let asked = call.published(publisher).plis.len() - asked;
            faults.check(asked <= 20, seed, || format!("{forgery:?}: {asked} keyframes asked for in 20 s"));
            let refused = call.server().sfu().stats().feedback_refused;
            let reason = match forgery {
                // Nothing in them can be seen to be wrong.
                Forgery::AtOnce | Forgery::Compressed => continue,
                Forgery::Future | Forgery::Noise => FeedbackRefusal::ClockJump,
                Forgery::Everything | Forgery::NeverSent => FeedbackRefusal::NotSent,
                Forgery::Repeated => FeedbackRefusal::Repeated,
            };
            let count = refused[reason as usize];
            faults.check(count >= 10, seed, || format!("{forgery:?}: {count} {}", reason.as_str()));
        }
    }
    faults.none();
}

#[test]
fn who_asks_for_everything_again_gets_a_small_share() {
    let mut faults = Faults::default();
    for seed in seeds() {
        for attack in [Attack::NackAll, Attack::NackReceived] {
            let (mut call, _, [liar, _]) =
                three("who_asks_for_everything_again_gets_a_small_share", seed, Demand::default());
            let before = call.server().sfu().stats().clone();
            call.attack(liar, attack);
            call.run_for(seconds(20));
            let stats = call.server().sfu().stats();
            // Half of what is sent goes to the other one.
            let sent = (stats.sent.video.packets - before.sent.video.packets) as f64 / 2.0;
            let resent = (stats.retransmissions.1 - before.retransmissions.1) as f64 / sent;
            println!("{attack:?}, seed {seed}: {resent:.4} resent");
            let asked = stats.nacks.0 - before.nacks.0;
            faults.check(asked > 50_000, seed, || format!("asked for {asked} only"));
            let refused = |reason: NackRefusal| stats.nacks_refused[reason as usize];
            if attack == Attack::NackAll {
                faults.check(resent < 0.15, seed, || format!("{resent} resent"));
            } else {
                faults.check(resent == 0.0, seed, || format!("{resent} resent"));
            }
            faults.check(refused(NackRefusal::Arrived) > asked / 2, seed, || {
                format!("{} refused of {asked}", refused(NackRefusal::Arrived))
            });
        }
    }
    faults.none();
}

/// Reports that hide nothing, and requests for all: real loss is no licence.
#[test]
fn who_loses_a_fifth_and_asks_for_all_gets_what_was_lost() {
    let mut faults = Faults::default();
    for seed in seeds() {
        let name = "who_loses_a_fifth_and_asks_for_all_gets_what_was_lost";
        let mut call = Call::new(name, seed, Machines::Idle);
        let publisher = call.publish(CameraConfig::simulcast, good());
        let path = LinkConfig { loss: Loss::Random(0.2), ..good().down };
        let viewer = call.subscribe(publisher, Access { down: path, up: good().up }, Demand::default());
        call.run_for(seconds(8));
        let before = call.server().sfu().stats().clone();
        call.attack(viewer, Attack::NackAll);
        call.run_for(seconds(20));
        let stats = call.server().sfu().stats();
        let resent = (stats.retransmissions.1 - before.retransmissions.1) as f64;
        let first = (stats.sent.video.packets - before.sent.video.packets) as f64 - resent;
        let share = resent / (first + resent);
        println!("{name}, seed {seed}: {share:.4} of what is sent is resent");
        faults.check((0.15..0.30).contains(&share), seed, || format!("{share} resent"));
    }
    faults.none();
}

#[test]
fn a_flood_of_keyframe_requests_is_not_passed_on() {
    let mut faults = Faults::default();
    for seed in seeds() {
        for attack in [Attack::Plis(500), Attack::Firs(500)] {
            let (mut call, publisher, [liar, other]) =
                three("a_flood_of_keyframe_requests_is_not_passed_on", seed, Demand::default());
            let begin = call.time();
            let plis = |call: &Call| call.published(publisher).plis.len();
            let counts: Vec<usize> = [0, 10, 50]
                .into_iter()
                .map(|time| {
                    if time == 0 {
                        call.attack(liar, attack);
                    }
                    call.run_for(seconds(time));
                    plis(&call)
                })
                .collect();
            let (at_first, later) = (counts[1] - counts[0], counts[2] - counts[1]);
            faults.check((5..=11).contains(&at_first), seed, || format!("{at_first} passed in 10 s"));
            faults.check(later <= 6, seed, || format!("{later} passed in the 50 s after"));
            let refused = call.server().sfu().stats().plis_refused;
            let floods = refused[KeyframeRefusal::Flood as usize];
            faults.check(floods > 20_000, seed, || format!("{floods} refused as a flood"));
            let seen = call.seen(other);
            let sizes = seen.sizes(begin, call.time());
            faults.check(sizes == [(1280, 720)], seed, || format!("the other saw {sizes:?}"));
            let freezes = seen.freezes(begin, call.time(), ms(300));
            faults.check(freezes.is_empty(), seed, || format!("the other's freezes {freezes:?}"));
        }
    }
    faults.none();
}
