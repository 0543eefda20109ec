//! What the server sends, as a file for Wireshark: encryption is left out, so every field of it can be judged there.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Packets begin with their IP header (`LINKTYPE_RAW` of the tcpdump project's list).
const RAW_IP: u32 = 101;

/// A capture file in the classic pcap format, microseconds, one for each call.
pub(super) struct Capture(BufWriter<File>);

impl Capture {
    /// In the folder that `SIM_PCAP` names; `None` without that.
    ///
    /// # Panics
    /// If the file cannot be written.
    pub(super) fn wanted() -> Option<Capture> {
        static COUNT: AtomicU32 = AtomicU32::new(1);
        let folder = PathBuf::from(std::env::var_os("SIM_PCAP")?);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        std::fs::create_dir_all(&folder).expect("the folder of SIM_PCAP can be made");
        let file = File::create(folder.join(format!("{}-{count}.pcap", std::process::id())));
        let mut capture = Capture(BufWriter::new(file.expect("SIM_PCAP can be written")));
        let (version, no_zone, snap_length) = (2_u32 | 4 << 16, [0_u32; 2], 65_535_u32);
        for word in [0xa1b2_c3d4, version, no_zone[0], no_zone[1], snap_length, RAW_IP] {
            capture.write(&word.to_le_bytes());
        }
        Some(capture)
    }

    /// One datagram, `at` after the beginning.
    pub(super) fn datagram(
        &mut self,
        at: Duration,
        source: SocketAddr,
        destination: SocketAddr,
        data: &[u8],
    ) {
        let ip = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => ip,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        };
        let (udp_length, ip_length) = (data.len() + 8, data.len() + 28);
        for word in [at.as_secs() as u32, at.subsec_micros(), ip_length as u32, ip_length as u32] {
            self.write(&word.to_le_bytes());
        }
        // Version 4, 20 bytes, no options; 64 hops, UDP; checksums are left out.
        self.write(&[0x45, 0]);
        self.write(&(ip_length as u16).to_be_bytes());
        self.write(&[0, 0, 0, 0, 64, 17, 0, 0]);
        self.write(&ip(source).octets());
        self.write(&ip(destination).octets());
        for field in [source.port(), destination.port(), udp_length as u16, 0] {
            self.write(&field.to_be_bytes());
        }
        self.write(data);
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("SIM_PCAP can be written");
    }
}
