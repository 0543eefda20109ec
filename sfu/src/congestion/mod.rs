//! How much fits through one subscriber's transport, and who gets it.
//!
//! [`Controller`] is the whole of it for one transport: it numbers what leaves ([`twcc`], [`ccfb`]), turns feedback
//! into facts ([`rate`], [`delay`], [`loss`], [`contest`], [`burst`]), the facts into one target ([`target`]), asks for probes where
//! the target is too small for what is wanted ([`probe`]) and divides the target over the tracks
//! ([`allocate`]), less where the machine is short of time ([`restraint`]). [`pacer`] decides what leaves next; [`feedback`] is the other direction, the reports that
//! we write for publishers. [`voice`] says when not even sound gets through; [`explain`] tells people how it came out.
//! Always: the target changes in one place and for one named cause, stays within its configured bounds, and
//! is not lowered because little was sent; feedback costs no more than its length; nothing here opens a
//! socket, reads a clock or knows another subscriber.
//! Not here: switching at keyframes (`forward`), the retransmission buffer (`forward`), packet formats other
//! than feedback in its two directions (`wire`).

pub mod allocate;
pub mod burst;
pub mod ccfb;
pub mod contest;
pub mod controller;
pub mod delay;
pub mod explain;
pub mod feedback;
pub mod loss;
pub mod pacer;
pub mod probe;
pub mod rate;
pub mod reorder;
pub mod restraint;
pub mod target;
pub mod twcc;
pub mod voice;
mod wire_clock;

pub use allocate::{Allocation, Choice, PerTrack, Priority, Step, Track, ceiling_for};
pub use ccfb::StreamRecorder;
pub use controller::{Config, Controller, FeedbackKind};
pub use feedback::FeedbackRecorder;
pub use pacer::{Departure, Enqueued, Frame, Pacer, PacerEvent, Pacing, TrackSlot};
pub use probe::{ClusterId, ProbeKind, ProbePlan};
pub use target::Cause;

/// What a packet is to the congestion control: the order of the pacer and the columns of its counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PacketClass {
    /// First transmission of audio: never delayed, never dropped, but counted.
    Audio,
    /// Retransmitted audio.
    AudioRtx,
    /// Retransmitted video.
    VideoRtx,
    /// First transmission of video.
    Video,
    /// Bytes sent only to learn what fits: padding, or old packets sent again.
    Padding,
}
