//! Many datagrams in one system call: `recvmmsg` with GRO in, `sendmmsg` with GSO out.
//!
//! A batch is made once and used again: nothing here allocates per call. Raw pointers into the batch and into
//! the caller's bytes are set before each system call and are not followed after it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::ptr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sfu::command::Path;

use super::udp::{Name, UdpSocket, destination_v4, destination_v6, packet_info_v4, packet_info_v6};

/// Room for control messages: packet info (40 bytes with its header at most), a segment size (24), a time (32).
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 96]);

const NO_CONTROL: Control = Control([0; 96]);
const NO_VECTOR: libc::iovec = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };

fn no_header() -> libc::mmsghdr {
    // SAFETY: all-zero bytes are a value: null pointers and zero lengths.
    unsafe { std::mem::zeroed() }
}

/// Buffers for received datagrams.
pub struct ReceiveBatch {
    slab: Box<[u8]>,
    names: [Name; ReceiveBatch::SLOTS],
    controls: [Control; ReceiveBatch::SLOTS],
    vectors: [libc::iovec; ReceiveBatch::SLOTS],
    headers: [libc::mmsghdr; ReceiveBatch::SLOTS],
    /// Where the headers point to: the address of the batch when they were laid out.
    laid_out: usize,
    filled: usize,
}

impl ReceiveBatch {
    /// Messages a call. With GRO each may hold up to 64 datagrams of one sender.
    pub const SLOTS: usize = 32;
    /// A datagram that seems to be older shows that the clock was set.
    const OLDEST: Duration = Duration::from_millis(50);
    /// The largest message: what an IP packet can hold.
    const SLOT: usize = 1 << 16;

    /// Empty buffers; 2 MiB, on the heap.
    pub fn new() -> Box<ReceiveBatch> {
        Box::new(ReceiveBatch {
            slab: vec![0; Self::SLOTS * Self::SLOT].into_boxed_slice(),
            names: [Name::EMPTY; Self::SLOTS],
            controls: [NO_CONTROL; Self::SLOTS],
            vectors: [NO_VECTOR; Self::SLOTS],
            headers: std::array::from_fn(|_| no_header()),
            laid_out: 0,
            filled: 0,
        })
    }

    /// Takes what the socket has, up to [`ReceiveBatch::SLOTS`] messages, in place of what was here. Does not
    /// wait: with nothing there the batch is empty. Gives the number of messages.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        // The kernel has changed what it filled; the rest lies as it was, unless the batch has been moved.
        let here = ptr::from_mut(self).addr();
        let stale = if self.laid_out == here { self.filled } else { Self::SLOTS };
        (self.laid_out, self.filled) = (here, 0);
        for i in 0..stale {
            self.vectors[i] = libc::iovec {
                iov_base: self.slab[i * Self::SLOT..].as_mut_ptr().cast(),
                iov_len: Self::SLOT,
            };
            let header = &mut self.headers[i].msg_hdr;
            header.msg_name = (&raw mut self.names[i]).cast();
            header.msg_namelen = size_of::<Name>() as libc::socklen_t;
            header.msg_iov = &raw mut self.vectors[i];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[i].0.as_mut_ptr().cast();
            header.msg_controllen = size_of::<Control>() as _;
            header.msg_flags = 0;
        }
        // SAFETY: every header points at its own name, vector and control buffer, each vector at its own
        // `SLOT` bytes of the slab, since `self` has not moved since they were laid out; all belong to `self`, which is
        // borrowed for the whole call.
        let got = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                Self::SLOTS as libc::c_uint,
                libc::MSG_DONTWAIT as _,
                ptr::null_mut(),
            )
        };
        if got < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(0),
                _ => Err(error),
            };
        }
        self.filled = got as usize;
        Ok(self.filled)
    }

    /// The ways that the messages of the batch came, where there are several.
    pub fn paths(&self, local: SocketAddr) -> impl Iterator<Item = Path> {
        let several = if self.filled > 1 { self.filled } else { 0 };
        (0..several).filter_map(move |i| {
            let to = read_control(&self.headers[i].msg_hdr).to;
            let remote = self.names[i].address()?;
            Some(Path::udp(SocketAddr::new(to.unwrap_or(local.ip()), local.port()), remote))
        })
    }

    /// Each datagram of the batch, in the order of arrival, with when it came (`now` at the latest), where from and
    /// where to. `local` is where the socket is bound. Messages without a usable sender are passed over.
    pub fn for_each(
        &mut self,
        now: Instant,
        local: SocketAddr,
        mut take: impl FnMut(Instant, Path, &mut [u8]),
    ) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        for i in 0..self.filled {
            let header = &self.headers[i];
            let Some(remote) = self.names[i].address() else { continue };
            if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
                continue;
            }
            let Received { to, segment, at } = read_control(&header.msg_hdr);
            let age = at.map_or(Duration::ZERO, |at| unix.saturating_sub(at)).min(Self::OLDEST);
            let arrival = now.checked_sub(age).unwrap_or(now);
            let path = Path::udp(SocketAddr::new(to.unwrap_or(local.ip()), local.port()), remote);
            let length = (header.msg_len as usize).min(Self::SLOT);
            let bytes = &mut self.slab[i * Self::SLOT..][..length];
            for datagram in bytes.chunks_mut(segment.unwrap_or(length).max(1)) {
                take(arrival, path, datagram);
            }
        }
    }
}

/// What the kernel tells of a message.
#[derive(Default)]
struct Received {
    /// The address it was sent to.
    to: Option<IpAddr>,
    /// The size of the datagrams in it when there may be several.
    segment: Option<usize>,
    /// When it came, since the Unix epoch.
    at: Option<Duration>,
}

fn read_control(header: &libc::msghdr) -> Received {
    let mut received = Received::default();
    // SAFETY: the kernel has filled `msg_control` and set `msg_controllen` to match, and the buffer is aligned
    // as control messages need; the macros stay within that length. The payload of a message has the type
    // that its level and type name; it is read unaligned.
    unsafe {
        let mut next = libc::CMSG_FIRSTHDR(header);
        while let Some(message) = next.as_ref() {
            let data = libc::CMSG_DATA(message);
            match (message.cmsg_level, message.cmsg_type) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    received.to = Some(destination_v4(&ptr::read_unaligned(data.cast())));
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    received.to = Some(destination_v6(&ptr::read_unaligned(data.cast())));
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    received.segment = usize::try_from(ptr::read_unaligned(data.cast::<libc::c_int>())).ok();
                }
                (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                    let at: libc::timespec = ptr::read_unaligned(data.cast());
                    received.at = u64::try_from(at.tv_sec)
                        .ok()
                        .map(|seconds| Duration::new(seconds, at.tv_nsec.clamp(0, 999_999_999) as u32));
                }
                _ => {}
            }
            next = libc::CMSG_NXTHDR(header, message);
        }
    }
    received
}

/// Datagrams of equal size for one destination: `bytes` cut every `segment` bytes, the last may be shorter.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// From which address of ours to which client.
    pub path: Path,
    /// Bytes of each datagram but the last; not zero.
    pub segment: u16,
    /// All of them, end to end.
    pub bytes: &'a [u8],
}

/// What became of some datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendReport {
    /// System calls made.
    pub calls: u64,
    /// Messages that the kernel took: runs of datagrams.
    pub messages: u64,
    /// Datagrams that the kernel took.
    pub sent: u64,
    /// Datagrams dropped since the socket's buffer was full.
    pub no_room: u64,
    /// Datagrams dropped since the kernel has no way to their destination.
    pub unreachable: u64,
}

/// Buffers for sending.
pub struct SendBatch {
    names: [Name; SendBatch::SLOTS],
    controls: [Control; SendBatch::SLOTS],
    vectors: [libc::iovec; SendBatch::SLOTS],
    headers: [libc::mmsghdr; SendBatch::SLOTS],
    /// Datagrams in each message, and the bytes of each but the last.
    shapes: [(u64, u16); SendBatch::SLOTS],
    filled: usize,
    report: SendReport,
}

impl SendBatch {
    /// Messages a call.
    pub const SLOTS: usize = 64;
    /// The kernel's own bounds on one segmented message (`UDP_MAX_SEGMENTS`, and the length of an IP packet less
    /// its headers).
    const MAX_SEGMENTS: usize = 64;
    const MAX_BYTES: usize = 65_535 - 40 - 8;

    /// Empty buffers.
    pub fn new() -> Box<SendBatch> {
        Box::new(SendBatch {
            names: [Name::EMPTY; Self::SLOTS],
            controls: [NO_CONTROL; Self::SLOTS],
            vectors: [NO_VECTOR; Self::SLOTS],
            headers: std::array::from_fn(|_| no_header()),
            shapes: [(0, 0); Self::SLOTS],
            filled: 0,
            report: SendReport::default(),
        })
    }

    /// Sends all of `outgoing`, in order, in as few system calls as the kernel allows. Does not wait: what
    /// finds no room in the socket's buffer is dropped and counted, as a router would. The kernel's refusal to
    /// segment is answered by sending datagrams singly.
    pub fn send<'a>(
        &mut self,
        socket: &mut UdpSocket,
        outgoing: impl IntoIterator<Item = Outgoing<'a>>,
    ) -> SendReport {
        self.report = SendReport::default();
        for run in outgoing {
            let segment = usize::from(run.segment.max(1));
            let most = if socket.segments {
                Self::MAX_SEGMENTS.min((Self::MAX_BYTES / segment).max(1)) * segment
            } else {
                segment
            };
            for bytes in run.bytes.chunks(most) {
                if self.filled == Self::SLOTS {
                    // SAFETY: the messages were pushed in this call, and their bytes live for `'a`.
                    unsafe { self.flush(socket) };
                }
                self.push(run.path, run.segment.max(1), bytes);
            }
        }
        // SAFETY: as above.
        unsafe { self.flush(socket) };
        self.report
    }

    /// Adds a message. There must be room for it.
    fn push(&mut self, path: Path, segment: u16, bytes: &[u8]) {
        let i = self.filled;
        let datagrams = bytes.len().div_ceil(usize::from(segment)) as u64;
        let (name, name_length) = Name::from_address(path.remote);
        self.names[i] = name;
        self.vectors[i] = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        self.shapes[i] = (datagrams, segment);
        let control = &mut self.controls[i].0;
        let mut used = match (path.local.ip(), path.remote) {
            (IpAddr::V4(ip), SocketAddr::V4(_)) => {
                write_control(control, 0, libc::IPPROTO_IP, libc::IP_PKTINFO, packet_info_v4(ip))
            }
            (IpAddr::V6(ip), SocketAddr::V6(remote)) => {
                let info = packet_info_v6(ip, remote.scope_id());
                write_control(control, 0, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, info)
            }
            // The kernel will refuse the family; nothing to add.
            _ => 0,
        };
        // Last, so that cutting it off makes a plain message.
        if datagrams > 1 {
            used = write_control(control, used, libc::SOL_UDP, libc::UDP_SEGMENT, segment);
        }
        let header = &mut self.headers[i].msg_hdr;
        header.msg_namelen = name_length;
        header.msg_controllen = used as _;
        self.filled += 1;
    }

    /// Sends the messages pushed so far and forgets them.
    ///
    /// # Safety
    /// The bytes given to `push` since the last flush must still be there.
    unsafe fn flush(&mut self, socket: &mut UdpSocket) {
        for i in 0..self.filled {
            let header = &mut self.headers[i].msg_hdr;
            header.msg_name = (&raw mut self.names[i]).cast();
            header.msg_iov = &raw mut self.vectors[i];
            header.msg_iovlen = 1;
            header.msg_control = self.controls[i].0.as_mut_ptr().cast();
        }
        let mut done = 0;
        while done < self.filled {
            self.report.calls += 1;
            // SAFETY: `done..filled` headers point at names, vectors and controls of `self`, set above, and the
            // vectors at bytes that the caller vouches for; the kernel only reads through them.
            let result = unsafe {
                libc::sendmmsg(
                    socket.as_raw_fd(),
                    self.headers[done..].as_mut_ptr(),
                    (self.filled - done) as libc::c_uint,
                    libc::MSG_DONTWAIT as _,
                )
            };
            if let Ok(accepted) = usize::try_from(result) {
                self.report.messages += accepted as u64;
                self.report.sent +=
                    self.shapes[done..done + accepted].iter().map(|shape| shape.0).sum::<u64>();
                done += accepted;
                continue;
            }
            // The error is that of the first message.
            let (datagrams, segment) = self.shapes[done];
            match io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => continue,
                Some(libc::EAGAIN | libc::ENOBUFS) => {
                    self.report.no_room +=
                        self.shapes[done..self.filled].iter().map(|shape| shape.0).sum::<u64>();
                    break;
                }
                Some(errno @ (libc::EIO | libc::EINVAL)) if datagrams > 1 => {
                    // EIO: the card cannot make checksums of segments, and never will. EINVAL: not this message,
                    // for instance since the way to its destination has a small MTU.
                    if errno == libc::EIO {
                        tracing::info!(
                            "network card without UDP segmentation: datagrams are sent one by one"
                        );
                        socket.segments = false;
                    }
                    // SAFETY: as above.
                    unsafe { self.send_singly(socket, done, segment) };
                }
                _ => self.report.unreachable += datagrams,
            }
            done += 1;
        }
        self.filled = 0;
    }

    /// Sends message `i` as single datagrams.
    ///
    /// # Safety
    /// As for `flush`, whose pointers must be set.
    unsafe fn send_singly(&mut self, socket: &UdpSocket, i: usize, segment: u16) {
        let whole = self.vectors[i];
        let mut header = self.headers[i].msg_hdr;
        header.msg_controllen -= control_space(size_of::<u16>()) as usize;
        let mut at = 0;
        while at < whole.iov_len {
            let length = usize::from(segment).min(whole.iov_len - at);
            // SAFETY: `at + length` is within the vector.
            let mut part = libc::iovec { iov_base: unsafe { whole.iov_base.byte_add(at) }, iov_len: length };
            header.msg_iov = &raw mut part;
            self.report.calls += 1;
            // SAFETY: as in `flush`; `part` lives through the call.
            let result = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
            if result >= 0 {
                self.report.messages += 1;
                self.report.sent += 1;
            } else {
                match io::Error::last_os_error().raw_os_error() {
                    Some(libc::EINTR) => continue,
                    Some(libc::EAGAIN | libc::ENOBUFS) => self.report.no_room += 1,
                    _ => self.report.unreachable += 1,
                }
            }
            at += length;
        }
    }

    /// As `send` does after the kernel has refused to segment.
    #[cfg(test)]
    pub(super) fn send_after_refusal(&mut self, socket: &mut UdpSocket, run: Outgoing<'_>) -> SendReport {
        self.report = SendReport::default();
        self.push(run.path, run.segment, run.bytes);
        self.headers[0].msg_hdr.msg_name = (&raw mut self.names[0]).cast();
        self.headers[0].msg_hdr.msg_control = self.controls[0].0.as_mut_ptr().cast();
        self.headers[0].msg_hdr.msg_iovlen = 1;
        // SAFETY: the pointers of message 0 were just set, and `run` lives through the call.
        unsafe { self.send_singly(socket, 0, run.segment) };
        self.filled = 0;
        self.report
    }
}

/// Bytes that a control message with `payload` bytes takes.
const fn control_space(payload: usize) -> usize {
    // SAFETY: arithmetic only.
    unsafe { libc::CMSG_SPACE(payload as libc::c_uint) as usize }
}

/// Writes a control message at `used` and gives the bytes used now.
fn write_control<T: Copy>(
    control: &mut [u8; 96],
    used: usize,
    level: libc::c_int,
    kind: libc::c_int,
    value: T,
) -> usize {
    let end = used + control_space(size_of::<T>());
    assert!(end <= control.len(), "the buffer was sized for both messages");
    // SAFETY: arithmetic only.
    let length = unsafe { libc::CMSG_LEN(size_of::<T>() as libc::c_uint) };
    let message = control[used..end].as_mut_ptr();
    // SAFETY: from `message` on there are `CMSG_SPACE` bytes (asserted), which hold the header and, at
    // `CMSG_DATA`, the value; both are written unaligned.
    unsafe {
        let mut header: libc::cmsghdr = std::mem::zeroed();
        header.cmsg_len = length as _;
        header.cmsg_level = level;
        header.cmsg_type = kind;
        ptr::write_unaligned(message.cast(), header);
        ptr::write_unaligned(libc::CMSG_DATA(message.cast()).cast(), value);
    }
    end
}
