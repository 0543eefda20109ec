//! The least that the same packets could cost: what physics asks for, and nothing that a server is for.
//!
//! A thread wakes when the publisher's packets would have come, and for each subscriber copies them, seals them with
//! AES-128-GCM in place and gives them to the kernel, as runs, in as few calls as it takes. It receives nothing, decides
//! nothing and remembers nothing. What it costs is the machine's share of the server's figure.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sfu::command::Path;
use sluice::media::kernel::{BufferSizes, Outgoing, ReceiveBatch, SendBatch, UdpSocket};

use crate::Result;
use crate::server::thread_cpu;

/// As the bench's publisher: a frame of five packets thirty times a second, and a packet of sound each 20 ms.
const FRAME_INTERVAL: Duration = Duration::from_nanos(1_000_000_000 / 30);
const FRAME: (usize, usize) = (5, 1020);
const SOUND_INTERVAL: Duration = Duration::from_millis(20);
const SOUND: (usize, usize) = (1, 120);
/// RTP header and extensions: signed, not encrypted.
const HEADER: usize = 24;
const TAG: usize = 16;
const BUFFERS: BufferSizes = BufferSizes { receive: 1 << 20, send: 4 << 20 };
/// Of a model's run: few enough that all they need stays in the processor's caches.
const MODEL_SUBSCRIBERS: u16 = 50;
const MODEL_TIME: Duration = Duration::from_millis(500);
/// How often receivers empty their sockets, as the bench's clients do.
const LOOK: Duration = Duration::from_millis(1);

struct Sender {
    socket: UdpSocket,
    receivers: Vec<(Path, LessSafeKey)>,
    plain: Vec<u8>,
    slab: Vec<u8>,
    packets: u64,
}

impl Sender {
    fn send(&mut self, batch: &mut SendBatch, (packets, size): (usize, usize)) -> Result<()> {
        let sealed = size + TAG;
        let run = packets * sealed;
        self.slab.resize(self.receivers.len() * run, 0);
        for ((_, key), run) in self.receivers.iter().zip(self.slab.chunks_mut(run)) {
            for packet in run.chunks_mut(sealed) {
                packet[..size].copy_from_slice(&self.plain[..size]);
                let mut nonce = [0; 12];
                nonce[4..].copy_from_slice(&self.packets.to_be_bytes());
                self.packets += 1;
                let (header, rest) = packet.split_at_mut(HEADER);
                let (payload, tail) = rest.split_at_mut(size - HEADER);
                let nonce = Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(&*header), payload);
                tail.copy_from_slice(tag.map_err(|_| "cannot seal")?.as_ref());
            }
        }
        let runs = self.receivers.iter().zip(self.slab.chunks(run));
        let runs = runs.map(|((path, _), bytes)| Outgoing { path: *path, segment: sealed as u16, bytes });
        let report = batch.send(&mut self.socket, runs);
        if report.no_room + report.unreachable > 0 { Err(format!("{report:?}").into()) } else { Ok(()) }
    }

    /// Sends for `time`; the CPU time of it and the packets sent.
    fn run(mut self, time: Duration) -> Result<(Duration, u64)> {
        let mut batch = SendBatch::new();
        let (start, cpu) = (Instant::now(), thread_cpu()?);
        let (mut frame_due, mut sound_due) = (start, start + SOUND_INTERVAL / 3);
        loop {
            let now = Instant::now();
            if now - start >= time {
                return Ok((thread_cpu()?.saturating_sub(cpu), self.packets));
            }
            if frame_due <= now {
                frame_due += FRAME_INTERVAL;
                self.send(&mut batch, FRAME)?;
            }
            if sound_due <= now {
                sound_due += SOUND_INTERVAL;
                self.send(&mut batch, SOUND)?;
            }
            std::thread::sleep(frame_due.min(sound_due).saturating_duration_since(Instant::now()));
        }
    }
}

/// CPU time for each packet, in µs.
pub(crate) fn measure(subscribers: u16, time: Duration) -> Result<f64> {
    let (sender, sockets) = set_up(subscribers)?;
    let (cpu, packets) = drained(&sockets, move || sender.run(time))?;
    Ok(per_packet(cpu, packets))
}

/// The same for packets of `size` bytes in runs of so many, sent as fast as they can be: what each message, packet and byte costs
/// when nothing else is in the way.
pub(crate) fn measure_runs(run: (usize, usize)) -> Result<f64> {
    let (mut sender, sockets) = set_up(MODEL_SUBSCRIBERS)?;
    let (cpu, packets) = drained(&sockets, move || {
        let mut batch = SendBatch::new();
        let (start, cpu) = (Instant::now(), thread_cpu()?);
        while start.elapsed() < MODEL_TIME {
            sender.send(&mut batch, run)?;
        }
        Ok((thread_cpu()?.saturating_sub(cpu), sender.packets))
    })?;
    Ok(per_packet(cpu, packets))
}

fn per_packet(cpu: Duration, packets: u64) -> f64 {
    cpu.as_secs_f64() * 1e6 / packets as f64
}

fn set_up(subscribers: u16) -> Result<(Sender, Vec<UdpSocket>)> {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let bind = |_| UdpSocket::bind(loopback, BUFFERS);
    let sockets = (0..subscribers).map(bind).collect::<std::io::Result<Vec<_>>>()?;
    let socket = UdpSocket::bind(loopback, BUFFERS)?;
    let mut receivers = Vec::new();
    for (number, receiver) in (0_u128..).zip(&sockets) {
        let key = UnboundKey::new(&AES_128_GCM, &number.to_be_bytes()).map_err(|_| "not a key")?;
        let path = Path::udp(socket.local_addr(), receiver.local_addr());
        receivers.push((path, LessSafeKey::new(key)));
    }
    let sender = Sender { socket, receivers, plain: vec![7; FRAME.1], slab: Vec::new(), packets: 0 };
    Ok((sender, sockets))
}

/// What `send` gives, which runs on a thread of its own while the sockets are emptied here.
fn drained<T: Send + 'static>(
    sockets: &[UdpSocket],
    send: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let over = Arc::new(AtomicBool::new(false));
    let ends = Arc::clone(&over);
    // Errors cross threads as text.
    let thread = std::thread::spawn(move || {
        let result = send().map_err(|error| error.to_string());
        ends.store(true, Ordering::Release);
        result
    });
    let mut batch = ReceiveBatch::new();
    while !over.load(Ordering::Acquire) {
        std::thread::sleep(LOOK);
        for socket in sockets {
            while batch.receive(socket)? > 0 {}
        }
    }
    Ok(thread.join().map_err(|_| "the floor's thread panicked")??)
}
