//! What SDK test suites ask to have done to them. Only where the configuration allows it, and only to the asking client.

use std::time::Duration;

use livekit_protocol::leave_request::Action;
use livekit_protocol::simulate_scenario::Scenario;
use livekit_protocol::{CandidateProtocol, DisconnectReason, SimulateScenario};
use sfu::units::Bitrate;

use super::leave::Leaving;
use super::output::Clock;
use super::participant::{DropSignal, Seat};
use super::room::Room;

/// Eighths of the loudness of somebody who is said to speak.
const LOUD: u8 = 7;

/// The longest that somebody may be said to speak, in seconds.
const MAX_SPEECH: i32 = 60;

/// Identities of a room that are known to be sent over a relay.
const MAX_RELAYED: usize = 64;

impl Room {
    pub(super) fn simulate(&mut self, clock: Clock, seat: Seat, scenario: &SimulateScenario) {
        if !self.settings.simulate {
            return;
        }
        let leaving = match scenario.scenario {
            Some(Scenario::ServerLeave(true)) => {
                Leaving::told(DisconnectReason::ServerShutdown, Action::Disconnect)
            }
            Some(Scenario::NodeFailure(true)) => Leaving::silent(DisconnectReason::ServerShutdown),
            Some(Scenario::Migration(true)) => {
                return self.ask_to_resume(clock, seat, DisconnectReason::Migration, Duration::ZERO);
            }
            Some(Scenario::DisconnectSignalOnResume(on)) => {
                return self.simulate_drop(seat, on.then_some(DropSignal::Afterwards));
            }
            Some(Scenario::DisconnectSignalOnResumeNoMessages(on)) => {
                return self.simulate_drop(seat, on.then_some(DropSignal::AtOnce));
            }
            Some(Scenario::LeaveRequestFullReconnect(true)) => {
                Leaving::told(DisconnectReason::UnknownReason, Action::Reconnect)
            }
            Some(Scenario::SpeakerUpdate(seconds)) => return self.simulate_speech(clock, seat, seconds),
            Some(Scenario::SubscriberBandwidth(bps)) => return self.simulate_bandwidth(seat, bps),
            Some(Scenario::SwitchCandidateProtocol(protocol)) => {
                return self.simulate_relay(seat, protocol == CandidateProtocol::Tls as i32);
            }
            Some(
                Scenario::ServerLeave(false)
                | Scenario::NodeFailure(false)
                | Scenario::Migration(false)
                | Scenario::LeaveRequestFullReconnect(false),
            )
            | None => return,
        };
        self.depart(clock, seat, leaving);
    }

    fn simulate_drop(&mut self, seat: Seat, how: Option<DropSignal>) {
        if let Some(who) = self.people.get_mut(&seat) {
            who.simulated = how;
        }
    }

    /// Everybody is told that it speaks.
    fn simulate_speech(&mut self, clock: Clock, seat: Seat, seconds: i32) {
        let Some(who) = self.people.get_mut(&seat) else { return };
        let seconds = seconds.clamp(0, MAX_SPEECH).unsigned_abs();
        who.speaks_until = Some(clock.now + Duration::from_secs(seconds.into()));
        self.loudness.insert(seat, LOUD);
        self.tell_everybody_loudness();
    }

    pub(super) fn simulated_speech_ends(&mut self, seat: Seat) {
        self.silence(seat);
        if let Some(who) = self.people.get_mut(&seat) {
            who.speaks_until = None;
        }
    }

    /// Those of whom it is said that they speak, whatever the core heard.
    pub(super) fn add_simulated_speech(&mut self) {
        let speakers = self.people.values().filter(|who| who.speaks_until.is_some());
        self.loudness.extend(speakers.map(|who| (who.seat, LOUD)));
    }

    /// As if the link carried so many bits a second; any, if not above 0.
    fn simulate_bandwidth(&mut self, seat: Seat, bps: i64) {
        if let Some(who) = self.people.get_mut(&seat) {
            who.simulated_max = u64::try_from(bps).ok().filter(|bps| *bps > 0).map(Bitrate::bps);
        }
        self.follow_policy(seat);
    }

    /// As if the client's network let nothing but TLS through: from its next join on it is told to take the relay, if there is one.
    /// Clients leave by themselves after they have asked for this.
    fn simulate_relay(&mut self, seat: Seat, relayed: bool) {
        let Some(identity) = self.people.get(&seat).map(|who| who.identity.clone()) else { return };
        if !relayed {
            self.relayed.remove(&identity);
        } else if self.relayed.len() < MAX_RELAYED {
            self.relayed.insert(identity);
        }
    }
}
