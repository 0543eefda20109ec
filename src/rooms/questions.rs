//! Reports that people asked for and the media core has not answered yet.
//!
//! Always: a room asks its worker so many questions a second at most, whoever wants to know; whoever has given up
//! waiting is forgotten with the next question.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use signaling::livekit::explain::{ReadError, Report};
use tokio::sync::oneshot;

/// Questions of one room in [`WINDOW`]: pages of a full room that each ask every two seconds, and some administrators.
const MOST: u32 = 100;
const WINDOW: Duration = Duration::from_secs(1);

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AskError {
    /// There is nobody to ask about.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Others ask too often.
    #[error("too many reports are asked of this room; try again in a second")]
    TooMany,
}

/// Where an answer goes.
pub(super) type Answer = oneshot::Sender<Result<Box<Report>, AskError>>;

/// See the module's page.
#[derive(Default)]
pub(super) struct Questions {
    waiting: HashMap<u64, Answer>,
    next: u64,
    /// When the present window began, and how many were asked in it.
    window: Option<(Instant, u32)>,
}

impl Questions {
    /// A number for one more question, if it may be asked now.
    pub(super) fn number(&mut self, now: Instant) -> Result<u64, AskError> {
        let (since, asked) = self
            .window
            .filter(|(since, _)| now.saturating_duration_since(*since) < WINDOW)
            .unwrap_or((now, 0));
        if asked >= MOST {
            return Err(AskError::TooMany);
        }
        self.window = Some((since, asked + 1));
        self.next += 1;
        Ok(self.next)
    }

    /// Whoever asked waits for the answer.
    pub(super) fn wait(&mut self, number: u64, answer: Answer) {
        self.waiting.retain(|_, answer| !answer.is_closed());
        self.waiting.insert(number, answer);
    }

    /// The answer came.
    pub(super) fn answer(&mut self, number: u64, report: Box<Report>) {
        if let Some(answer) = self.waiting.remove(&number) {
            // Whoever asked may have given up meanwhile.
            let _ = answer.send(Ok(report));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_room_is_asked_so_often_a_second_and_forgets_who_gave_up() {
        let now = Instant::now();
        let mut questions = Questions::default();
        for number in 1..=u64::from(MOST) {
            assert_eq!(questions.number(now), Ok(number));
            // The other end is dropped at once.
            questions.wait(number, oneshot::channel().0);
            assert_eq!(questions.waiting.len(), 1);
        }
        assert_eq!(questions.number(now + WINDOW / 2), Err(AskError::TooMany));
        assert_eq!(questions.number(now + WINDOW), Ok(u64::from(MOST) + 1));
    }
}
