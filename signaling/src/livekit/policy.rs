//! What a participant's attributes ask of its downlink: a data budget, fewer frames, sound alone.
//!
//! They come with the token or at run time, like all attributes, and take effect at once. In the background a client is
//! spared what only a shown page needs (loudness, quality, counts), and told of changes to participants in groups; it gets
//! what it missed when it is back.

use std::collections::HashMap;

use sfu::command::{Command, DownlinkPolicy};
use sfu::units::Bitrate;

use super::fallback::NETWORK;
use super::participant::Seat;
use super::room::Room;

/// All that is sent to the participant, in kilobits a second.
const MAX_KBPS: &str = "sluice.max_kbps";
/// `on`: half the frame rate, and no probing.
const DATA_SAVER: &str = "sluice.data_saver";
/// `on`: the app is not in sight; sound alone.
const BACKGROUND: &str = "sluice.background";

/// Less does not carry a voice; more is no bound.
const KBPS: std::ops::RangeInclusive<u64> = 30..=1_000_000;

/// An attribute of ours with a value that means nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("attribute {name} is {value:?}: {right} is right")]
pub struct PolicyError {
    name: &'static str,
    value: String,
    right: &'static str,
}

/// What the attributes ask for.
///
/// # Errors
/// [`PolicyError`] names the attribute and what would be right.
pub(super) fn policy(attributes: &HashMap<String, String>) -> Result<DownlinkPolicy, PolicyError> {
    let error =
        |name, value: &str, right| PolicyError { name, value: value.chars().take(40).collect(), right };
    let switch = |name| match attributes.get(name).map(String::as_str) {
        None | Some("off") => Ok(false),
        Some("on") => Ok(true),
        Some(other) => Err(error(name, other, "on or off")),
    };
    let max = match attributes.get(MAX_KBPS) {
        None => None,
        Some(text) => match text.parse().ok().filter(|kbps| KBPS.contains(kbps)) {
            Some(kbps) => Some(Bitrate::kbps(kbps)),
            None => return Err(error(MAX_KBPS, text, "a number of kilobits a second from 30 to 1000000")),
        },
    };
    if let Some(claimed) = attributes.get(NETWORK) {
        return Err(error(NETWORK, claimed, "that the server alone sets it"));
    }
    Ok(DownlinkPolicy { max, data_saver: switch(DATA_SAVER)?, background: switch(BACKGROUND)? })
}

impl Room {
    /// Makes the core follow a participant's attributes, which were checked.
    pub(super) fn follow_policy(&mut self, seat: Seat) {
        let Some(who) = self.people.get_mut(&seat) else { return };
        let mut policy = policy(&who.attributes).unwrap_or_default();
        policy.max = policy.max.into_iter().chain(who.simulated_max).min();
        let before = std::mem::replace(&mut who.policy, policy);
        if policy == before {
            return;
        }
        let peer = who.link.subscriber();
        self.command(Command::Limit { peer, policy });
        if before.background && !policy.background {
            self.tell_news(seat);
            self.tell_loudness(seat);
            self.send_room_update_to(seat);
            self.judge_quality();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(attributes: &[(&str, &str)]) -> Result<DownlinkPolicy, String> {
        let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        policy(&attributes).map_err(|error| error.to_string())
    }

    #[test]
    fn attributes_become_a_policy_or_an_error_that_says_what_is_right() {
        assert_eq!(read(&[("other", "x"), (DATA_SAVER, "off")]), Ok(DownlinkPolicy::default()));
        assert_eq!(
            read(&[(MAX_KBPS, "500"), (DATA_SAVER, "on"), (BACKGROUND, "on")]),
            Ok(DownlinkPolicy { max: Some(Bitrate::kbps(500)), data_saver: true, background: true })
        );
        for wrong in ["", "0", "29", "-1", "1e3", "500 kbit", "99999999999999999999"] {
            let error = read(&[(MAX_KBPS, wrong)]).unwrap_err();
            assert!(
                error.starts_with("attribute sluice.max_kbps is ") && error.contains("from 30"),
                "{error}"
            );
        }
        assert_eq!(
            read(&[(BACKGROUND, "yes")]),
            Err("attribute sluice.background is \"yes\": on or off is right".to_owned())
        );
    }
}
