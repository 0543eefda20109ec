//! What a client gets and why, put together from what is there when somebody asks.

use std::time::Instant;

use super::{Downlink, ceiling, half_rate, steps, svc_price};
use crate::command::MediaKind;
use crate::command::explanation::{Explanation, Quality, TrackExplanation};
use crate::congestion::controller::Snapshot;
use crate::congestion::explain::{Agreed, Facts, Pictures};
use crate::forward::select::Layout;
use crate::ids::LayerId;
use crate::peer::subscription::Subscription;
use crate::track::{Encoding, Track};

impl Downlink {
    /// Keeps how things are now in the history.
    pub(crate) fn take_sample(&mut self, now: Instant, tracks: &[Option<Box<Track>>]) {
        let Some(history) = &mut self.history else { return };
        let mut pictures = Pictures::default();
        for subscription in self.subscriptions.iter().flatten() {
            let muted = tracks.get(subscription.track).and_then(Option::as_ref).is_none_or(|t| t.muted);
            if subscription.kind == MediaKind::Video && subscription.flows() && !muted {
                let size = subscription.layer().map_or(0, |layer| usize::from(layer.spatial) + 1);
                let count = &mut pictures[size.min(Pictures::default().len() - 1)];
                *count = count.saturating_add(1);
            }
        }
        history.take(now, &self.controller.snapshot(), pictures);
    }

    /// What goes to the client and why, with so many seconds of history.
    pub(crate) fn explain(
        &self,
        now: Instant,
        connected: bool,
        tracks: &[Option<Box<Track>>],
        history: usize,
    ) -> Explanation {
        let estimate = self.controller.snapshot();
        let of = |subscription: &Subscription| {
            let track = tracks.get(subscription.track)?.as_deref()?;
            Some(self.explain_track(now, connected, &estimate, subscription, track))
        };
        Explanation {
            connected,
            feedback: self.controller.feedback(now),
            budget: self.controller.budget(),
            policy: self.policy,
            redundancy: self.redundancy.get(),
            tracks: self.iter().filter_map(of).collect(),
            history: self.history.as_ref().map(|kept| kept.recent(history)),
            estimate,
        }
    }

    fn explain_track(
        &self,
        now: Instant,
        connected: bool,
        estimate: &Snapshot,
        subscription: &Subscription,
        track: &Track,
    ) -> TrackExplanation {
        let demand = &subscription.demand;
        let video = subscription.kind == MediaKind::Video;
        let (muted, enabled) = (track.muted, demand.enabled);
        let choice = self.controller.allocation().choice(track.id).filter(|_| video);
        let agreed = match &subscription.format {
            _ if subscription.unsupported => Agreed::Unsupported,
            // Nobody has a say about video before the allocator.
            Some(_) if connected && (choice.is_some() || !video || muted || !enabled) => Agreed::Yes,
            Some(_) | None => Agreed::Pending,
        };
        let flows = agreed == Agreed::Yes && enabled && !muted && track.alive(now);
        let selector = &subscription.selector;
        // What the allocator said counts while it is asked: it is not of what is muted or disabled.
        let asked_for = flows && !self.policy.background;
        let (leaves, granted) = match subscription.kind {
            MediaKind::Audio => (flows.then(LayerId::default), flows.then(LayerId::default)),
            MediaKind::Video if asked_for => (selector.current(), selector.target()),
            MediaKind::Video => (None, None),
        };
        let announced = top(track, |_| true);
        let asked = ceiling(track, demand);
        let facts = Facts {
            agreed,
            enabled,
            muted,
            alive: track.alive(now),
            silent: estimate.muted,
            reason: choice.map(|choice| choice.reason),
            layers: (leaves, granted),
            awaits_keyframe: selector.wants_keyframe().is_some(),
            background: video && self.policy.background,
            held_back: estimate.held_back,
            limited: self.policy.max.is_some_and(|max| estimate.unmet.is_some_and(|unmet| unmet > max)),
            saver: self.policy.data_saver.then(|| half_rate(track)),
            asked,
            sent: top(track, |index| track.flows(now, &track.encodings[index])),
            announced,
        };
        let quality = |layer| quality(now, track, layer);
        let wanted = match subscription.kind {
            MediaKind::Audio => LayerId::default(),
            MediaKind::Video => within(track, announced, asked),
        };
        let next = (video && flows).then(|| self.next_step(now, track, subscription, granted)).flatten();
        TrackExplanation {
            track: track.id,
            kind: track.kind,
            mime: track.codec.mime.clone(),
            gets: leaves.map(quality),
            granted: granted.map(quality),
            wanted: enabled.then(|| quality(wanted)),
            next: next.map(quality),
            why: facts.why(),
            muted,
            enabled,
        }
    }

    /// The step that the allocator would take next, whether asked for or not.
    fn next_step(
        &self,
        now: Instant,
        track: &Track,
        subscription: &Subscription,
        granted: Option<LayerId>,
    ) -> Option<LayerId> {
        let ceiling = self.policy_ceiling(track, &subscription.demand);
        let steps = steps(now, track, ceiling.temporal);
        let above = steps.iter().map(|step| step.layer).filter(|layer| Some(*layer) > granted);
        let within = |layer: &LayerId| layer.spatial <= ceiling.spatial && layer.temporal <= ceiling.temporal;
        above.clone().find(within).or_else(|| above.min())
    }
}

/// The highest layer of the encodings that `counts` leaves, by their index.
fn top(track: &Track, counts: impl Fn(usize) -> bool) -> LayerId {
    let spatial = match track.layout {
        Layout::Simulcast => (0..track.encodings.len()).rfind(|index| counts(*index)).unwrap_or(0) as u8,
        Layout::Svc => track.svc_spatial,
    };
    LayerId { spatial, temporal: highest_temporal(track, spatial) }
}

/// The highest layer that is neither above `top` nor above `ceiling`.
fn within(track: &Track, top: LayerId, ceiling: LayerId) -> LayerId {
    let spatial = top.spatial.min(ceiling.spatial);
    LayerId { spatial, temporal: highest_temporal(track, spatial).min(ceiling.temporal) }
}

/// Of one that was never seen, that of the others.
fn highest_temporal(track: &Track, spatial: u8) -> u8 {
    let of =
        |index: usize| track.encodings.get(index).map_or(0, |encoding| encoding.meter.highest_temporal());
    match track.layout {
        Layout::Svc => of(0),
        Layout::Simulcast => match of(usize::from(spatial)) {
            0 => (0..track.encodings.len()).map(of).max().unwrap_or(0),
            seen => seen,
        },
    }
}

fn quality(now: Instant, track: &Track, layer: LayerId) -> Quality {
    let (index, rate, smaller) = match track.layout {
        Layout::Simulcast => (layer.spatial, track.price(layer.spatial, layer.temporal), 0),
        // Each spatial layer has half the width of the next, in every mode that browsers have.
        Layout::Svc => {
            (0, svc_price(track, layer), u32::from(track.svc_spatial.saturating_sub(layer.spatial)))
        }
    };
    let encoding = track.encodings.get(usize::from(index));
    let size = encoding.map(Encoding::size).filter(|(width, height)| *width > 0 && *height > 0);
    let fps = encoding.filter(|encoding| encoding.meter.alive(now)).map(|encoding| {
        let fewer = encoding.meter.highest_temporal().saturating_sub(layer.temporal);
        encoding.meter.fps() / 2_f64.powi(i32::from(fewer))
    });
    let video = track.kind == MediaKind::Video;
    Quality {
        layer,
        size: size.filter(|_| video).map(|(width, height)| (width >> smaller, height >> smaller)),
        fps: fps.filter(|_| video),
        rate,
    }
}
