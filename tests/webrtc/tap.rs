//! A place on the wire: sees every packet between a client's stack and SRTP, and loses the ones it is told to.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rtc::interceptor::{Interceptor, Packet, StreamInfo, TaggedPacket};
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::sansio::Protocol;
use rtc::shared::error::Error;
use tokio::sync::mpsc;

use super::journal::Shared;
use super::source::VIDEO_PAYLOAD_TYPE;

/// Losses that a test orders: the next packet of video, once.
#[derive(Default)]
pub(crate) struct Losses {
    pub(crate) outgoing: AtomicBool,
    pub(crate) incoming: AtomicBool,
}

/// See the module's page.
pub(crate) struct Tap {
    journal: Shared,
    losses: Arc<Losses>,
    /// SSRCs of which the server wants a keyframe.
    keyframes: mpsc::UnboundedSender<u32>,
    inward: VecDeque<TaggedPacket>,
    outward: VecDeque<TaggedPacket>,
}

impl Tap {
    pub(crate) fn new(journal: Shared, losses: Arc<Losses>, keyframes: mpsc::UnboundedSender<u32>) -> Tap {
        Tap { journal, losses, keyframes, inward: VecDeque::new(), outward: VecDeque::new() }
    }
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Tap {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = Error;
    type Time = Instant;

    fn handle_read(&mut self, tagged: TaggedPacket) -> Result<(), Error> {
        match &tagged.message.packet {
            Packet::Rtp(packet) if is_lost(packet, &self.losses.incoming) => {
                self.journal.write(|journal| journal.lost.push(packet.clone()));
                return Ok(());
            }
            Packet::Rtp(packet) => self.journal.write(|journal| journal.received.push(packet.clone())),
            Packet::Rtcp(packets) => {
                let requests =
                    packets.iter().filter_map(|p| p.as_any().downcast_ref::<PictureLossIndication>());
                for request in requests {
                    // Nobody listens at a client without a camera.
                    let _ = self.keyframes.send(request.media_ssrc);
                }
                self.journal.write(|journal| journal.feedback.extend(packets.iter().cloned()));
            }
            _ => {}
        }
        self.inward.push_back(tagged);
        Ok(())
    }

    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.inward.pop_front()
    }

    fn handle_write(&mut self, tagged: TaggedPacket) -> Result<(), Error> {
        if let Packet::Rtp(packet) = &tagged.message.packet {
            if is_lost(packet, &self.losses.outgoing) {
                self.journal.write(|journal| journal.lost.push(packet.clone()));
                return Ok(());
            }
            self.journal.write(|journal| journal.sent.push(packet.clone()));
        }
        self.outward.push_back(tagged);
        Ok(())
    }

    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.outward.pop_front()
    }
}

impl Interceptor for Tap {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}

fn is_lost(packet: &rtc::rtp::Packet, order: &AtomicBool) -> bool {
    packet.header.payload_type == VIDEO_PAYLOAD_TYPE && order.swap(false, Ordering::Relaxed)
}
