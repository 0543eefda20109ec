//! Calls of the server API that a room has not answered yet.
//!
//! Always: an answer is given once the room has done all that the call leads to; whoever has given up waiting is forgotten
//! with its answer, which every call gets in the end.

use std::collections::HashMap;

use signaling::livekit::api::{Answer, ApiError};
use tokio::sync::oneshot;

use crate::webhooks::Written;

/// What came of a call.
pub(super) type Outcome = Result<Answer, ApiError>;

/// See the module's page.
#[derive(Default)]
pub(super) struct Calls {
    waiting: HashMap<u64, oneshot::Sender<Outcome>>,
    next: u64,
    ready: Vec<(u64, Outcome)>,
}

impl Calls {
    /// Whoever called waits for the answer to the question of this number.
    pub(super) fn wait(&mut self, answer: oneshot::Sender<Outcome>) -> u64 {
        self.next += 1;
        self.waiting.insert(self.next, answer);
        self.next
    }

    /// The room has an answer.
    pub(super) fn ready(&mut self, number: u64, outcome: Outcome) {
        self.ready.push((number, outcome));
    }

    /// All that came before the answers is done, but for events for the application's server, which may have to be `written`:
    /// then a task of its own waits for that.
    pub(super) fn give(&mut self, written: Option<Written>) {
        let waiting = &mut self.waiting;
        let answers =
            self.ready.drain(..).filter_map(|(number, outcome)| Some((waiting.remove(&number)?, outcome)));
        let answers: Vec<_> = answers.collect();
        // Whoever called may have given up.
        let give = |answers: Vec<(oneshot::Sender<Outcome>, Outcome)>| {
            for (answer, outcome) in answers {
                let _ = answer.send(outcome);
            }
        };
        match written {
            Some(written) if !answers.is_empty() => {
                tokio::spawn(async move {
                    written.wait().await;
                    give(answers);
                });
            }
            Some(_) | None => give(answers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_wait_for_what_comes_before_them() {
        let mut calls = Calls::default();
        let (answer, mut answered) = oneshot::channel();
        let (other, mut others) = oneshot::channel();
        let (number, _) = (calls.wait(answer), calls.wait(other));
        calls.ready(number, Ok(Answer::Done));
        assert!(answered.try_recv().is_err(), "not yet");
        calls.give(None);
        assert_eq!(answered.try_recv(), Ok(Ok(Answer::Done)));
        assert!(others.try_recv().is_err());
        assert_eq!((calls.waiting.len(), calls.ready.len()), (1, 0));
        calls.ready(99, Ok(Answer::Done));
        calls.give(None);
    }
}
