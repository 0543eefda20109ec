//! Who gets what: a pure function from a budget and what is asked to one step per track.
//!
//! The ideal division ([`ideal`]) is computed twice, for the budget and for the budget less a margin. A
//! track between its two results stays where it is; below the cautious one it may rise, above the full one
//! it must fall. That is the whole hysteresis, and why noise of a few per cent moves nothing.
//! Always, once settled: prices add up to no more than the budget; with more budget and every floor paid no
//! track gets less; every visible track has its lowest step before any has more than its base; nothing above a
//! ceiling; nothing is paused for a moment; the order of the tracks changes nothing. Audio is not here: it was
//! taken out of the budget.
//! Not here: measuring prices (`forward`), switching at keyframes (`forward`), the budget
//! ([`super::target`]).

use std::time::{Duration, Instant};

use smallvec::{SmallVec, smallvec};

use crate::ids::{LayerId, TrackId};
use crate::units::Bitrate;

/// A step up must fit with this much to spare: layers are bursty and estimates are noisy.
pub(super) const UP_MARGIN: f64 = 1.12;
/// Overrun by more than this is answered at once.
const URGENT: f64 = 1.10;
/// A smaller overrun is answered after this long.
const DOWN_DELAY: Duration = Duration::from_millis(700);
/// A video is paused only if its lowest step did not fit for this long.
const PAUSE_DELAY: Duration = Duration::from_millis(300);
/// After any change of a track, its next rise waits.
const DWELL: Duration = Duration::from_millis(1500);
/// After a fall, the next rise waits longer, and twice as long again if a step was lost soon after a rise.
const DWELL_AFTER_DOWN: Duration = Duration::from_secs(4);
/// The most: a path that recovered must be used within a few seconds.
const DWELL_MAX: Duration = Duration::from_secs(8);
/// With so much to spare a fall is over, and only the usual dwell time counts.
const AMPLE: f64 = 1.5;
/// "Soon": losing a step this early means the rise was a mistake.
const LOST_SOON: Duration = Duration::from_secs(10);
/// Shortest pause, from its notice on, so that a picture does not flicker.
const MIN_PAUSE: Duration = Duration::from_secs(2);

/// A value for each video track; without allocation up to what a page of LiveKit's gallery shows, 25.
pub type PerTrack<T> = SmallVec<[T; 32]>;

/// What a track means to the one who watches, lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Not shown; gets nothing.
    Hidden,
    /// One of many.
    Visible,
    /// Speaks, or spoke lately.
    Speaker,
    /// A shared screen.
    Screen,
    /// Chosen by the viewer.
    Pinned,
}

impl Priority {
    fn weight(self) -> f64 {
        match self {
            Priority::Hidden => 0.0,
            Priority::Visible => 1.0,
            Priority::Speaker => 3.0,
            Priority::Screen | Priority::Pinned => 4.0,
        }
    }
}

/// One quality of a track and what it costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// What is forwarded.
    pub layer: LayerId,
    /// All of it on the wire, lower temporal layers included, without retransmission. Never zero for a
    /// layer that is merely silent: the last price it had, or a preset.
    pub price: Bitrate,
}

/// One video track as its subscriber sees it.
#[derive(Clone, Copy, Debug)]
pub struct Track<'a> {
    /// Its name.
    pub id: TrackId,
    /// Its weight.
    pub priority: Priority,
    /// Its place among those of the same priority where not all fit, the least first: who spoke last.
    pub rank: u32,
    /// As much as this is given before anybody of a lower priority gets anything. The lowest step always is.
    pub base: LayerId,
    /// Nothing above it in size or in rate is chosen, except the lowest step.
    pub ceiling: LayerId,
    /// What can be had now (layers that flow, or would if asked), cheapest first. A price below its
    /// predecessor's counts as its predecessor's. Empty: the track gets nothing.
    pub steps: &'a [Step],
}

impl Track<'_> {
    /// Levels count from one; level 0 is no video.
    fn top(&self) -> usize {
        if self.priority == Priority::Hidden || self.steps.is_empty() {
            return 0;
        }
        let fits = |step: &Step| {
            step.layer.spatial <= self.ceiling.spatial && step.layer.temporal <= self.ceiling.temporal
        };
        self.steps.iter().rposition(fits).map_or(1, |index| index + 1)
    }

    /// What all that is asked for costs, in bit/s.
    pub(super) fn most(&self) -> u64 {
        self.price(self.top())
    }

    fn price(&self, level: usize) -> u64 {
        self.steps[..level].iter().map(|step| step.price.as_bps()).max().unwrap_or(0)
    }

    /// The level of [`Track::base`], 1 at least.
    fn base_level(&self) -> usize {
        let within = |level: usize| {
            let layer = self.steps[level - 1].layer;
            layer.spatial <= self.base.spatial && layer.temporal <= self.base.temporal
        };
        (1..=self.top()).rfind(|&level| self.allowed(level) && within(level)).unwrap_or(1)
    }

    /// The next level above `level` that the ceiling allows.
    fn next(&self, level: usize) -> Option<usize> {
        let top = self.top();
        (level + 1..=top).find(|&next| next == 1 || self.allowed(next))
    }

    fn allowed(&self, level: usize) -> bool {
        let layer = self.steps[level - 1].layer;
        level == 1 || (layer.spatial <= self.ceiling.spatial && layer.temporal <= self.ceiling.temporal)
    }

    /// The level that a layer stands for now: its own, or if that cannot be had any more the next of the same size,
    /// or the next below.
    fn level_of(&self, layer: LayerId) -> usize {
        let layer_of = |level: usize| self.steps[level - 1].layer;
        let mut levels = (1..=self.top()).filter(|&level| self.allowed(level));
        let same = |step: LayerId| step.spatial == layer.spatial && step.temporal >= layer.temporal;
        let below = || (1..=self.top()).rfind(|&l| self.allowed(l) && layer_of(l) <= layer).unwrap_or(0);
        levels.find(|&level| same(layer_of(level))).unwrap_or_else(below)
    }
}

/// Why a track has no more than it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// All that was asked for.
    Satisfied,
    /// The next step does not fit the budget.
    Budget,
    /// The next step fits, and is given once the dwell time is over.
    Settling,
    /// Nothing is asked for, or nothing flows.
    Off,
}

/// One track's share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Whose.
    pub track: TrackId,
    /// What is forwarded; `None`: nothing.
    pub layer: Option<LayerId>,
    /// Nothing is forwarded because not even the lowest step fits, and that is no passing moment.
    pub paused: bool,
    /// Its price.
    pub price: Bitrate,
    /// Why not more.
    pub reason: Reason,
    unfit: Option<Instant>, // since when not even the lowest step fits
    changed: Option<Instant>,
    up: Option<Instant>,
    down: Option<Instant>,
    hold: Duration,
    given: bool, // it had a layer once
}

/// What [`allocate`] decided, and the memory its next run needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// One per track asked about, in the order asked.
    pub choices: Vec<Choice>,
    /// What all choices cost together.
    pub total: Bitrate,
    /// What everything asked for would cost.
    pub wanted: Bitrate,
    /// What the lowest step of each track would cost.
    pub least: Bitrate,
    /// The budget that the next step would need; `None` if the budget is no obstacle.
    pub unmet: Option<Bitrate>,
    /// When to run again though nothing changed.
    pub revisit: Option<Instant>,
    pressed: Option<Instant>, // since when something is above its ideal
}

impl Allocation {
    /// The choice for one track.
    pub fn choice(&self, track: TrackId) -> Option<&Choice> {
        self.choices.iter().find(|choice| choice.track == track)
    }
}

/// The smallest of `sizes` (width and height in pixels, smallest first) that covers what is asked, by its
/// index; the last one if none does, 0 if there are none. Orientation does not matter: a phone turns.
pub fn ceiling_for(sizes: &[(u32, u32)], asked: (u32, u32)) -> u8 {
    let ordered = |(a, b): (u32, u32)| (a.min(b), a.max(b));
    let (short, long) = ordered(asked);
    let covers = |&size: &(u32, u32)| ordered(size).0 >= short && ordered(size).1 >= long;
    sizes.iter().position(covers).unwrap_or(sizes.len().saturating_sub(1)) as u8
}

/// Divides `media` (bits per second for first transmissions of video) over `tracks`.
///
/// `prev` is the last result for this subscriber, `Allocation::default()` at first. The same `prev`, budget
/// and time give the same answer, and feeding an answer back changes nothing. Its memory is used again.
pub fn allocate(media: Bitrate, tracks: &[Track<'_>], prev: Allocation, now: Instant) -> Allocation {
    let before: PerTrack<Option<(Choice, usize)>> =
        tracks.iter().map(|track| previous(&prev, track)).collect();
    let has_one = |index: usize| before[index].is_some_and(|(_, level)| level > 0);
    let order = floor_order(tracks, has_one);
    let full = ideal(media.as_bps(), tracks, &order, |_| false);
    let with_margin = |margin: f64| ideal(media.scale(1.0 / margin).as_bps(), tracks, &order, has_one);
    let (cautious, ample) = (with_margin(UP_MARGIN), with_margin(AMPLE));

    let held: u64 = tracks.iter().zip(&before).map(|(t, b)| b.map_or(0, |(_, level)| t.price(level))).sum();
    let above = before.iter().zip(&full).any(|(b, &full)| b.is_some_and(|(_, level)| level > full));
    let pressed = above.then(|| prev.pressed.unwrap_or(now));
    let newcomer = before.iter().zip(&full).any(|(b, &full)| b.is_none() && full > 0);
    let pressed_for = pressed.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
    let urgent = newcomer || held as f64 > media.as_bps() as f64 * URGENT || pressed_for >= DOWN_DELAY;

    let mut choices = prev.choices;
    choices.clear();
    let mut result = Allocation { choices, pressed, ..Allocation::default() };
    let mut levels: PerTrack<usize> = SmallVec::new();
    for (index, track) in tracks.iter().enumerate() {
        let (full, cautious) = (full[index], cautious[index].min(full[index]));
        let unfit = (full == 0 && track.top() > 0)
            .then(|| before[index].and_then(|(choice, _)| choice.unfit).unwrap_or(now));
        let pause_at = unfit.map(|since| since + PAUSE_DELAY).filter(|&at| at > now);
        result.revisit = earliest(result.revisit, pause_at);
        let (level, dwell) = match before[index] {
            None => (full, None),
            Some((_, level)) if level > full && urgent => (if pause_at.is_some() { 1 } else { full }, None),
            // All that was asked for, and now more is: no estimate was wrong, and somebody waits.
            Some((choice, level)) if choice.reason == Reason::Satisfied && level < full && !above => {
                (full, None)
            }
            Some((choice, level)) if level < cautious => {
                let ready = ready_to_rise(&choice, level, ample[index] >= cautious);
                let rise = !above && ready.is_none_or(|at| at <= now);
                (if rise { cautious } else { level }, ready.filter(|&at| at > now))
            }
            Some((_, level)) => (level, None),
        };
        result.revisit = earliest(result.revisit, dwell);
        levels.push(level);
        let pauses = level == 0 && unfit.is_some() && pause_at.is_none();
        let choice = choice(track, level, cautious, before[index], now);
        result.choices.push(choice.with_pause(unfit, pauses, now));
    }
    let left_above = levels.iter().zip(&full).any(|(level, full)| level > full);
    if let Some(since) = pressed {
        let at = Some(since + DOWN_DELAY).filter(|_| left_above && !urgent);
        result.revisit = earliest(result.revisit, at);
        result.pressed = left_above.then_some(since);
    }

    let total: u64 = tracks.iter().zip(&levels).map(|(track, &level)| track.price(level)).sum();
    result.total = Bitrate::bps(total);
    result.wanted = Bitrate::bps(tracks.iter().map(Track::most).sum());
    result.least = Bitrate::bps(tracks.iter().map(|track| track.price(track.top().min(1))).sum());
    // What only waits for its time is as good as given: the question is what comes after it.
    let coming: PerTrack<usize> =
        levels.iter().zip(&cautious).map(|(level, cautious)| *level.max(cautious)).collect();
    let next = next_floor(tracks, &coming, &order).or_else(|| next_step(tracks, &coming));
    let unmet = next.map(|(index, level)| {
        let paid: u64 = tracks.iter().zip(&coming).map(|(track, &level)| track.price(level)).sum();
        let delta = tracks[index].price(level) - tracks[index].price(coming[index]);
        Bitrate::bps(paid + delta).scale(UP_MARGIN) + Bitrate::bps(1000)
    });
    result.unmet = unmet.filter(|&needed| needed > media);
    result
}

/// The track's choice in the last run and the level that it means now.
fn previous(prev: &Allocation, track: &Track<'_>) -> Option<(Choice, usize)> {
    let choice = prev.choice(track.id).filter(|choice| choice.reason != Reason::Off)?;
    let level = choice.layer.map_or(0, |layer| track.level_of(layer).max(track.top().min(1)));
    Some((*choice, level))
}

/// When a track at `level` may rise; `None`: at once.
fn ready_to_rise(choice: &Choice, level: usize, ample: bool) -> Option<Instant> {
    let hold = match level {
        // One that was paused soon after it came stays away for longer.
        0 if ample || choice.hold <= DWELL_AFTER_DOWN => MIN_PAUSE,
        _ if ample => DWELL,
        _ => choice.hold,
    };
    let fallen = choice.down.map(|at| at + hold);
    fallen.max(choice.changed.map(|at| at + DWELL))
}

fn choice(
    track: &Track<'_>,
    level: usize,
    cautious: usize,
    before: Option<(Choice, usize)>,
    now: Instant,
) -> Choice {
    let layer = level.checked_sub(1).map(|index| track.steps[index].layer);
    let reason = match track.top() {
        0 => Reason::Off,
        top if level >= top => Reason::Satisfied,
        _ if level < cautious => Reason::Settling,
        _ => Reason::Budget,
    };
    let price = Bitrate::bps(track.price(level));
    let fresh = Choice {
        track: track.id,
        layer,
        paused: false,
        price,
        reason,
        unfit: None,
        changed: None,
        up: None,
        down: None,
        hold: DWELL_AFTER_DOWN,
        given: level > 0,
    };
    let Some((old, was)) = before else { return fresh };
    let mut choice = Choice { layer, price, reason, given: old.given || level > 0, ..old };
    if level > was {
        choice.up = Some(now);
        // The first step towards what somebody has just asked for does not delay the next.
        if old.reason != Reason::Satisfied {
            choice.changed = Some(now);
        }
    } else if level < was {
        let lost_soon = old.up.is_some_and(|at| now.saturating_duration_since(at) < LOST_SOON);
        choice.hold = if lost_soon { (old.hold * 2).min(DWELL_MAX) } else { DWELL_AFTER_DOWN };
        (choice.changed, choice.down) = (Some(now), Some(now));
    }
    choice
}

impl Choice {
    /// Notes that not even the lowest step fits, and since when. A pause that was told lasts until there is a layer, and
    /// some time at least, but for what was never seen: it waits only until it is known to fit.
    fn with_pause(self, unfit: Option<Instant>, pauses: bool, now: Instant) -> Choice {
        let paused = self.layer.is_none() && (self.paused || pauses);
        let begins = paused && !self.paused && self.given;
        Choice { unfit, paused, down: if begins { Some(now) } else { self.down }, ..self }
    }
}

/// Floors are paid by priority and rank; among equals to those first that have theirs, so that nobody's comes and goes
/// with the prices, then to the cheap ones, so that most are seen.
fn floor_order(tracks: &[Track<'_>], has_one: impl Fn(usize) -> bool) -> PerTrack<usize> {
    let mut order: PerTrack<usize> = (0..tracks.len()).filter(|&index| tracks[index].top() > 0).collect();
    order.sort_unstable_by_key(|&index| {
        let track = &tracks[index];
        (std::cmp::Reverse(track.priority), track.rank, !has_one(index), track.price(1), track.id)
    });
    order
}

/// The division without memory: one level per track.
///
/// Floors first, up to what is owed before others; one that does not fit is skipped. Then steps by weighted
/// quality per bit, until the first that does not fit: going on with cheaper ones behind it would take them away
/// again when the budget grows.
///
/// With a margin, what `stays` though it does not fit still costs all that is left.
fn ideal(
    media: u64,
    tracks: &[Track<'_>],
    order: &[usize],
    stays: impl Fn(usize) -> bool,
) -> PerTrack<usize> {
    let mut levels: PerTrack<usize> = smallvec![0; tracks.len()];
    let mut left = media;
    for &index in order {
        let track = &tracks[index];
        let affordable = |&level: &usize| track.allowed(level) && track.price(level) <= left;
        if let Some(level) = (1..=track.base_level()).rfind(affordable) {
            left -= track.price(level);
            levels[index] = level;
        } else if stays(index) {
            left = 0;
        }
    }
    while let Some((index, level)) = next_step(tracks, &levels) {
        let delta = tracks[index].price(level) - tracks[index].price(levels[index]);
        let Some(rest) = left.checked_sub(delta) else { break };
        left = rest;
        levels[index] = level;
    }
    levels
}

fn next_floor(tracks: &[Track<'_>], levels: &[usize], order: &[usize]) -> Option<(usize, usize)> {
    order.iter().find(|&&index| levels[index] == 0).map(|&index| (index, tracks[index].next(0).unwrap_or(1)))
}

/// The step of a running track that gives most for its price.
fn next_step(tracks: &[Track<'_>], levels: &[usize]) -> Option<(usize, usize)> {
    let gain = |index: usize, next: usize| {
        let track = &tracks[index];
        let (from, to) = (track.price(levels[index]), track.price(next));
        let delta = to.saturating_sub(from).max(1) as f64;
        track.priority.weight() * (quality(to) - quality(from)).max(f64::MIN_POSITIVE) / delta
    };
    let running = (0..tracks.len()).filter(|&index| levels[index] > 0);
    let steps = running.filter_map(|index| Some((index, tracks[index].next(levels[index])?)));
    steps.max_by(|&(a, to_a), &(b, to_b)| {
        gain(a, to_a).total_cmp(&gain(b, to_b)).then_with(|| tracks[b].id.cmp(&tracks[a].id))
    })
}

/// Concave, so that equals are filled like water: each doubling of the rate is worth about the same, and
/// less than that near the bottom. 50 kbit/s is about the least that shows a face.
fn quality(price: u64) -> f64 {
    (price as f64 / 50_000.0).ln_1p()
}

fn earliest(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests;
