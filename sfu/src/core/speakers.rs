//! Who speaks in a room and who spoke before: whose pictures matter most where not all fit.
//!
//! Two seconds of speech make a speaker, for ten seconds at least and as long as no more than ten pass without speech.
//! One of the speakers is the main one, until it pauses and another has the word.
//! Always: what changes, changes rarely, since a change may cost others their picture.

use std::time::{Duration, Instant};

/// So much speech, less the pauses in it, makes a speaker.
const ENTER: Duration = Duration::from_secs(2);
/// A speaker is one for so long, and so long after its last word; the main one is for so long, too.
const STAY: Duration = Duration::from_secs(10);

/// What somebody is in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Has the word, or had it last.
    Main,
    /// Speaks now and then.
    Speaker,
    /// So many were speakers later; `u32::MAX` for who never was.
    Listener(u32),
}

#[derive(Debug)]
struct Person {
    peer: usize,
    /// Speech of late: grows with it, shrinks in pauses.
    spoken: Duration,
    /// When it spoke last.
    last: Instant,
    /// Since when it is a speaker.
    since: Option<Instant>,
    /// When it was one last.
    was: Option<Instant>,
}

/// See the module's page.
#[derive(Debug, Default)]
pub(crate) struct Speakers {
    /// Those with a microphone.
    people: Vec<Person>,
    main: Option<(usize, Instant)>,
}

impl Speakers {
    /// What was heard in the `window` that ends now: everybody with a microphone, and whether they spoke. Says whether
    /// anybody's standing changed.
    pub(crate) fn update(
        &mut self,
        now: Instant,
        window: Duration,
        heard: impl Iterator<Item = (usize, bool)> + Clone,
    ) -> bool {
        let mut changed = false;
        self.people.retain(|person| {
            let stays = heard.clone().any(|(peer, _)| peer == person.peer);
            changed |= !stays && person.was.is_some();
            stays
        });
        for (peer, speaks) in heard {
            let at = self.people.iter().position(|person| person.peer == peer).unwrap_or_else(|| {
                self.people.push(Person { peer, spoken: Duration::ZERO, last: now, since: None, was: None });
                self.people.len() - 1
            });
            changed |= self.people[at].update(now, window, speaks);
        }
        changed | self.choose_main(now)
    }

    /// Somebody is gone, and its number may be given to another.
    pub(crate) fn forget(&mut self, peer: usize) {
        self.people.retain(|person| person.peer != peer);
        self.main = self.main.filter(|(main, _)| *main != peer);
    }

    /// What somebody is now.
    pub(crate) fn standing(&self, peer: usize) -> Standing {
        if self.main.is_some_and(|(main, _)| main == peer) {
            return Standing::Main;
        }
        let Some(person) = self.people.iter().find(|person| person.peer == peer) else {
            return Standing::Listener(u32::MAX);
        };
        match person.was {
            _ if person.since.is_some() => Standing::Speaker,
            Some(was) => {
                let later = |other: &&Person| other.was.is_some_and(|other| other > was);
                Standing::Listener(self.people.iter().filter(later).count() as u32)
            }
            None => Standing::Listener(u32::MAX),
        }
    }

    fn choose_main(&mut self, now: Instant) -> bool {
        let main = self.main.and_then(|(peer, since)| {
            let person = self.people.iter().find(|person| person.peer == peer)?;
            Some((person, since))
        });
        let holds = main.is_some_and(|(person, since)| {
            now.saturating_duration_since(since) < STAY || person.spoken > Duration::ZERO
        });
        if holds {
            return false;
        }
        let ready = |person: &&Person| person.since.is_some() && person.spoken >= ENTER;
        let next = self.people.iter().filter(ready).max_by_key(|person| (person.last, person.spoken));
        let (next, before) = (next.map(|person| person.peer), main.map(|(person, _)| person.peer));
        let changed = next.is_some() && next != before;
        if changed || main.is_none() {
            self.main = next.map(|peer| (peer, now));
        }
        changed
    }
}

impl Person {
    fn update(&mut self, now: Instant, window: Duration, speaks: bool) -> bool {
        self.spoken =
            if speaks { (self.spoken + window).min(ENTER) } else { self.spoken.saturating_sub(window) };
        if speaks {
            self.last = now;
        }
        let passed = |since: Instant| now.saturating_duration_since(since) >= STAY;
        let before = self.since.is_some();
        match self.since {
            None if self.spoken >= ENTER => self.since = Some(now),
            Some(since) if passed(since) && passed(self.last) => self.since = None,
            Some(_) | None => {}
        }
        if self.since.is_some() {
            self.was = Some(self.last);
        }
        before != self.since.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_millis(400);

    struct Talk {
        now: Instant,
        speakers: Speakers,
        changes: u32,
    }

    impl Talk {
        fn new() -> Talk {
            Talk { now: crate::test_time(), speakers: Speakers::default(), changes: 0 }
        }

        /// Of four people these speak for so many windows.
        fn windows(&mut self, count: u32, who: &[usize]) {
            for _ in 0..count {
                self.now += WINDOW;
                let heard = (0..4).map(|peer| (peer, who.contains(&peer)));
                self.changes += u32::from(self.speakers.update(self.now, WINDOW, heard));
            }
        }

        fn standing(&self) -> [Standing; 4] {
            [0, 1, 2, 3].map(|peer| self.speakers.standing(peer))
        }
    }

    const NEVER: Standing = Standing::Listener(u32::MAX);

    #[test]
    fn two_seconds_make_a_speaker_for_ten_at_least() {
        let mut talk = Talk::new();
        talk.windows(4, &[1]);
        assert_eq!(talk.standing(), [NEVER; 4], "1.6 s");
        talk.windows(1, &[1]);
        assert_eq!(talk.standing(), [NEVER, Standing::Main, NEVER, NEVER]);
        talk.windows(5, &[2]);
        assert_eq!(
            talk.standing(),
            [NEVER, Standing::Main, Standing::Speaker, NEVER],
            "main for ten seconds"
        );
        talk.windows(24, &[]);
        assert_eq!(talk.standing()[2], Standing::Speaker, "9.6 s after the last word");
        talk.windows(1, &[]);
        assert_eq!(talk.standing(), [NEVER, Standing::Main, Standing::Listener(0), NEVER]);
        assert_eq!(talk.changes, 4, "in, in, out, out");
    }

    #[test]
    fn the_main_speaker_changes_when_it_pauses_and_another_speaks() {
        let mut talk = Talk::new();
        talk.windows(30, &[0]);
        talk.windows(30, &[0, 1]);
        assert_eq!(talk.standing()[..2], [Standing::Main, Standing::Speaker], "it goes on");
        talk.windows(5, &[1]);
        assert_eq!(talk.standing()[..2], [Standing::Speaker, Standing::Main]);
        let changes = talk.changes;
        for _ in 0..20 {
            talk.windows(3, &[0]);
            talk.windows(3, &[1]);
        }
        assert!(talk.changes - changes <= 3, "{} changes in 48 s of alternating", talk.changes - changes);
    }

    #[test]
    fn a_cough_changes_nothing_and_who_is_gone_is_forgotten() {
        let mut talk = Talk::new();
        talk.windows(10, &[0]);
        let changes = talk.changes;
        for _ in 0..50 {
            talk.windows(2, &[0, 3]);
            talk.windows(2, &[0]);
        }
        assert_eq!((talk.changes, talk.standing()[3]), (changes, NEVER));
        talk.speakers.forget(0);
        assert_eq!(talk.standing(), [NEVER; 4]);
    }
}
