//! SRTP and SRTCP: encrypts and decrypts one peer's packets in place (RFC 3711, RFC 7714, RFC 5764).
//!
//! `kdf` turns DTLS keying material into session keys, `cipher` seals and opens single packets, `replay`
//! remembers which were seen. This file joins them: which index a sequence number stands for, and which
//! stream it belongs to.
//! Always: nothing of a packet is believed, and no state made for its SSRC, before its tag verified; no index
//! is accepted twice; under GCM no index is sealed twice. No allocation per packet, only one per new SSRC.
//! Not here: the handshake and the choice of the profile (`dtls`), RTP beyond the header's length (`wire`).

mod cipher;
mod kdf;
mod replay;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use self::cipher::Cipher;
use self::replay::ReplayWindow;
use crate::ahead::look;
use crate::ids::Ssrc;

/// Which end of the DTLS connection we are; decides whose keys protect what we send (RFC 5764 §4.2) and the
/// parity of our data channels (RFC 8832 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DtlsRole {
    /// We sent the ClientHello.
    Client,
    /// We answered it.
    Server,
}

/// A protection profile that we speak, in the order in which we prefer them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// `SRTP_AEAD_AES_128_GCM` (RFC 7714 §14.2): the cheaper one, about a third of the other's CPU time.
    AeadAes128Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80` (RFC 5764 §4.1.2): what every client has.
    Aes128CmHmacSha1_80,
}

impl SrtpProfile {
    /// The number of the profile in the `use_srtp` extension (RFC 5764 §4.1.2, RFC 7714 §14.2).
    pub const fn wire(self) -> u16 {
        match self {
            SrtpProfile::AeadAes128Gcm => 0x0007,
            SrtpProfile::Aes128CmHmacSha1_80 => 0x0001,
        }
    }

    /// The profile of that number, if it is one of ours.
    pub const fn from_wire(number: u16) -> Option<SrtpProfile> {
        match number {
            0x0007 => Some(SrtpProfile::AeadAes128Gcm),
            0x0001 => Some(SrtpProfile::Aes128CmHmacSha1_80),
            _ => None,
        }
    }

    /// Bytes to export from DTLS under the label `EXTRACTOR-dtls_srtp` (RFC 5764 §4.2): two keys, two salts.
    pub const fn keying_material_len(self) -> usize {
        2 * (MASTER_KEY_LEN + self.salt_len())
    }

    /// Bytes that an RTP packet grows by: its tag.
    pub const fn rtp_overhead(self) -> usize {
        match self {
            SrtpProfile::AeadAes128Gcm => cipher::GCM_TAG_LEN,
            SrtpProfile::Aes128CmHmacSha1_80 => cipher::CM_TAG_LEN,
        }
    }

    /// Bytes that an RTCP packet grows by: its tag and its index.
    pub const fn rtcp_overhead(self) -> usize {
        self.rtp_overhead() + cipher::RTCP_INDEX_LEN
    }

    const fn salt_len(self) -> usize {
        match self {
            SrtpProfile::AeadAes128Gcm => 12,
            SrtpProfile::Aes128CmHmacSha1_80 => 14,
        }
    }
}

/// Room that a buffer needs behind any RTP or RTCP packet, whatever the profile.
pub const MAX_OVERHEAD: usize = cipher::GCM_TAG_LEN + cipher::RTCP_INDEX_LEN;

/// SSRCs for which one receiver keeps state, RTP and RTCP counted apart. Room for some 80 simulcast video
/// tracks with RTX; at 170 bytes each, an authenticated peer can make us hold 90 kB.
pub const MAX_STREAMS: usize = 512;

/// Both profiles use AES-128.
const MASTER_KEY_LEN: usize = 16;

/// Longest packet: what UDP carries. The 16-bit block counter of AES-CM would reach to 1 MiB (RFC 3711 §4.1.1).
const MAX_PACKET_LEN: usize = 65_535;

/// RTP indexes (ROC and sequence number) are 48 bits wide, and so is the life of a key (RFC 3711 §9.2).
const RTP_INDEX_LIMIT: u64 = 1 << 48;

/// SRTCP indexes are 31 bits wide (RFC 3711 §3.4).
const RTCP_INDEX_LIMIT: u32 = 1 << 31;

/// The encryption flag in front of the SRTCP index (RFC 3711 §3.4).
const RTCP_ENCRYPTED: u32 = 1 << 31;

/// Bits of the RTP replay window. RFC 3711 §3.3.2 asks for 64; a retransmission under its old number may be
/// a round trip late, which is some 600 packets at 8 Mbit/s and 500 ms.
const RTP_WINDOW: usize = 1024;

/// Bits of the SRTCP replay window.
const RTCP_WINDOW: usize = 128;

/// Fixed RTCP header up to and including the sender's SSRC, which stays in the clear (RFC 3711 §3.4).
const RTCP_HEADER_LEN: usize = 8;

/// Why a packet could not be protected, or must be dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SrtpError {
    /// Too short, too long, or its header announces more than it has.
    #[error("not an RTP or RTCP packet")]
    Malformed,
    /// Ours: the buffer has no room for the tag behind the packet.
    #[error("no room for the tag")]
    NoRoom,
    /// The tag is wrong: other keys, a changed packet, or a rollover that we missed.
    #[error("authentication failed")]
    AuthenticationFailed,
    /// This index was received before.
    #[error("replayed")]
    Replayed,
    /// Older than what the replay window remembers.
    #[error("older than the replay window")]
    TooOld,
    /// SRTCP that its sender did not encrypt, which neither profile allows over DTLS (RFC 5764 §4.1.2).
    #[error("unencrypted SRTCP")]
    NotEncrypted,
    /// A further SSRC, beyond [`MAX_STREAMS`].
    #[error("too many SSRCs")]
    TooManyStreams,
    /// The key has protected as many packets as it may; the peer must handshake again (RFC 3711 §9.2).
    #[error("key exhausted")]
    KeyExhausted,
    /// Ours, GCM only: this SSRC and sequence number were sealed before, or are too far back to tell.
    /// A second packet under the same nonce would give away the authentication key (RFC 7714 §8.1).
    #[error("sequence number sealed twice")]
    IndexReused,
}

/// Why keying material was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{got} bytes of keying material, {profile:?} needs {}", profile.keying_material_len())]
pub struct KeyingError {
    /// The profile the material was meant for.
    pub profile: SrtpProfile,
    /// Its length.
    pub got: usize,
}

/// The master keys and salts of both directions, as exported from DTLS (RFC 5764 §4.2).
#[derive(Clone, PartialEq, Eq)]
pub struct SrtpKeys {
    profile: SrtpProfile,
    client: MasterKey,
    server: MasterKey,
}

/// One direction's master key and salt; the 12-byte salt of GCM is followed by two zero bytes.
#[derive(Clone, PartialEq, Eq)]
struct MasterKey {
    key: [u8; MASTER_KEY_LEN],
    salt: [u8; 14],
}

impl SrtpKeys {
    /// Splits DTLS exporter output: client key, server key, client salt, server salt.
    ///
    /// # Errors
    /// If `material` is not [`SrtpProfile::keying_material_len`] bytes long.
    pub fn from_exporter(profile: SrtpProfile, material: &[u8]) -> Result<SrtpKeys, KeyingError> {
        if material.len() != profile.keying_material_len() {
            return Err(KeyingError { profile, got: material.len() });
        }
        let (keys, salts) = material.split_at(2 * MASTER_KEY_LEN);
        let (client_key, server_key) = keys.split_at(MASTER_KEY_LEN);
        let (client_salt, server_salt) = salts.split_at(profile.salt_len());
        let master = |from: &[u8], salt_from: &[u8]| {
            let (mut key, mut salt) = ([0; MASTER_KEY_LEN], [0; 14]);
            key.copy_from_slice(from);
            salt[..salt_from.len()].copy_from_slice(salt_from);
            MasterKey { key, salt }
        };
        Ok(SrtpKeys {
            profile,
            client: master(client_key, client_salt),
            server: master(server_key, server_salt),
        })
    }

    /// The profile that these keys are for.
    pub fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// Protects what we send, `role` being ours.
    pub fn sender(&self, role: DtlsRole) -> SrtpSender {
        let master = match role {
            DtlsRole::Client => &self.client,
            DtlsRole::Server => &self.server,
        };
        SrtpSender {
            profile: self.profile,
            rtp: kdf::rtp_cipher(self.profile, master),
            rtcp: kdf::rtcp_cipher(self.profile, master),
            streams: HashMap::default(),
            next_rtcp_index: 0,
        }
    }

    /// Opens what we receive, `role` being ours.
    pub fn receiver(&self, role: DtlsRole) -> SrtpReceiver {
        let master = match role {
            DtlsRole::Client => &self.server,
            DtlsRole::Server => &self.client,
        };
        SrtpReceiver {
            rtp: kdf::rtp_cipher(self.profile, master),
            rtcp: kdf::rtcp_cipher(self.profile, master),
            rtp_streams: HashMap::default(),
            rtcp_streams: HashMap::default(),
        }
    }
}

impl fmt::Debug for SrtpKeys {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpKeys").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// Encrypts what goes to one peer.
pub struct SrtpSender {
    profile: SrtpProfile,
    rtp: Cipher,
    rtcp: Cipher,
    /// By SSRC. All of them are ours, so there is no cap here.
    streams: StreamMap<RtpWindow>,
    /// One count for all our SSRCs: it may skip numbers, never repeat one (RFC 3711 §3.4).
    next_rtcp_index: u32,
}

impl SrtpSender {
    /// The profile in use; its overheads say how much room a packet needs.
    pub fn profile(&self) -> SrtpProfile {
        self.profile
    }

    /// Encrypts the RTP packet in `packet[..len]` in place and returns its new length.
    ///
    /// `packet` must reach at least [`SrtpProfile::rtp_overhead`] bytes further than `len`. Sequence numbers of
    /// an SSRC may come in any order within 1024 of its newest; the rollover count follows from them, starting
    /// at zero, so the first packet of an SSRC must not be one before its first wrap.
    ///
    /// # Errors
    /// [`Malformed`](SrtpError::Malformed), [`NoRoom`](SrtpError::NoRoom), [`TooOld`](SrtpError::TooOld) before
    /// the first packet's cycle, [`KeyExhausted`](SrtpError::KeyExhausted), and under GCM
    /// [`IndexReused`](SrtpError::IndexReused). The packet is then as it was.
    pub fn protect_rtp(&mut self, packet: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let header = RtpHeader::parse(packet.get(..len).ok_or(SrtpError::Malformed)?)?;
        if packet.len() - len < self.profile.rtp_overhead() {
            return Err(SrtpError::NoRoom);
        }
        let stream = self.streams.entry(header.ssrc).or_default();
        let index = stream.index(header.seq)?;
        match stream.check(index) {
            Ok(()) => stream.accept(index),
            // Equal keystream over an equal payload and a keyed hash without a nonce: nothing is given away.
            Err(_) if self.profile == SrtpProfile::Aes128CmHmacSha1_80 => {}
            Err(_) => return Err(SrtpError::IndexReused),
        }
        Ok(self.rtp.seal_rtp(packet, header.len, len, header.ssrc, index))
    }

    /// Encrypts the compound RTCP packet in `packet[..len]` in place and returns its new length.
    ///
    /// `packet` must reach at least [`SrtpProfile::rtcp_overhead`] bytes further than `len`.
    ///
    /// # Errors
    /// [`Malformed`](SrtpError::Malformed), [`NoRoom`](SrtpError::NoRoom) or
    /// [`KeyExhausted`](SrtpError::KeyExhausted). The packet is then as it was.
    pub fn protect_rtcp(&mut self, packet: &mut [u8], len: usize) -> Result<usize, SrtpError> {
        let ssrc = rtcp_ssrc(packet.get(..len).ok_or(SrtpError::Malformed)?)?;
        if packet.len() - len < self.profile.rtcp_overhead() {
            return Err(SrtpError::NoRoom);
        }
        if self.next_rtcp_index >= RTCP_INDEX_LIMIT {
            return Err(SrtpError::KeyExhausted);
        }
        let index = self.next_rtcp_index;
        self.next_rtcp_index += 1;
        Ok(self.rtcp.seal_rtcp(packet, len, ssrc, RTCP_ENCRYPTED | index))
    }

    /// Reads ahead what protecting this stream's next packet needs.
    pub(crate) fn ahead(&self, ssrc: Ssrc) {
        self.rtp.ahead();
        if let Some(stream) = self.streams.get(&ssrc.0) {
            look(&stream.highest());
        }
    }

    /// Drops what is known of an SSRC that will never be sent again with these keys: sending it again would
    /// begin at rollover count zero and repeat nonces.
    pub fn forget(&mut self, ssrc: Ssrc) {
        self.streams.remove(&ssrc.0);
    }
}

impl fmt::Debug for SrtpSender {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpSender").field("streams", &self.streams.len()).finish_non_exhaustive()
    }
}

/// Decrypts and authenticates what comes from one peer.
pub struct SrtpReceiver {
    rtp: Cipher,
    rtcp: Cipher,
    rtp_streams: StreamMap<RtpWindow>,
    rtcp_streams: StreamMap<RtcpWindow>,
}

impl SrtpReceiver {
    /// Decrypts an RTP packet in place and returns the length of the plain packet; the tag stays behind it.
    ///
    /// # Errors
    /// Any [`SrtpError`] but the two that are ours. The bytes behind the header are then unspecified: drop them.
    pub fn unprotect_rtp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let header = RtpHeader::parse(packet)?;
        let known = self.rtp_streams.get(&header.ssrc);
        let index = match known {
            Some(stream) => {
                let index = stream.index(header.seq)?;
                stream.check(index)?;
                index
            }
            None if self.rtp_streams.len() >= MAX_STREAMS => return Err(SrtpError::TooManyStreams),
            None => u64::from(header.seq),
        };
        let len = self.rtp.open_rtp(packet, header.len, header.ssrc, index)?;
        self.rtp_streams.entry(header.ssrc).or_default().accept(index);
        Ok(len)
    }

    /// Reads ahead what RTCP needs.
    pub(crate) fn ahead_of_rtcp(&self) {
        self.rtcp.ahead();
        look(&self.rtcp_streams.len());
    }

    /// Decrypts a compound RTCP packet in place and returns the length of the plain packet; index and tag stay
    /// behind it.
    ///
    /// # Errors
    /// Any [`SrtpError`] but the two that are ours. The bytes behind the header are then unspecified: drop them.
    pub fn unprotect_rtcp(&mut self, packet: &mut [u8]) -> Result<usize, SrtpError> {
        let ssrc = rtcp_ssrc(packet)?;
        let word = self.rtcp.rtcp_index_word(packet).ok_or(SrtpError::Malformed)?;
        let index = u64::from(word & !RTCP_ENCRYPTED);
        match self.rtcp_streams.get(&ssrc) {
            Some(stream) => stream.check(index)?,
            None if self.rtcp_streams.len() >= MAX_STREAMS => return Err(SrtpError::TooManyStreams),
            None => {}
        }
        let len = self.rtcp.open_rtcp(packet, ssrc, word)?;
        self.rtcp_streams.entry(ssrc).or_default().accept(index);
        Ok(len)
    }

    /// Drops what is known of an SSRC whose stream has ended, to make room for others. Its old packets would
    /// be accepted once more if somebody replayed them.
    pub fn forget(&mut self, ssrc: Ssrc) {
        self.rtp_streams.remove(&ssrc.0);
        self.rtcp_streams.remove(&ssrc.0);
    }
}

impl fmt::Debug for SrtpReceiver {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpReceiver").field("streams", &self.rtp_streams.len()).finish_non_exhaustive()
    }
}

type RtpWindow = ReplayWindow<{ RTP_WINDOW / 64 }>;
type RtcpWindow = ReplayWindow<{ RTCP_WINDOW / 64 }>;

impl RtpWindow {
    /// The 48-bit index that `seq` stands for: the one nearest to the highest so far (RFC 3711 App. A).
    fn index(&self, seq: u16) -> Result<u64, SrtpError> {
        let Some(highest) = self.highest() else { return Ok(u64::from(seq)) };
        let step = seq.wrapping_sub(highest as u16) as i16;
        let index = highest.checked_add_signed(i64::from(step)).ok_or(SrtpError::TooOld)?;
        if index < RTP_INDEX_LIMIT { Ok(index) } else { Err(SrtpError::KeyExhausted) }
    }
}

/// What the cipher needs to know of an RTP header.
struct RtpHeader {
    /// Fixed header, CSRCs and extension: what is authenticated but not encrypted (RFC 3711 §3.1).
    len: usize,
    seq: u16,
    ssrc: u32,
}

impl RtpHeader {
    /// RFC 3550 §5.1 and §5.3.1, lengths only.
    fn parse(packet: &[u8]) -> Result<RtpHeader, SrtpError> {
        let Some((&[first, _, seq_hi, seq_lo, _, _, _, _, s0, s1, s2, s3], rest)) =
            packet.split_first_chunk::<12>()
        else {
            return Err(SrtpError::Malformed);
        };
        if first >> 6 != 2 || packet.len() > MAX_PACKET_LEN {
            return Err(SrtpError::Malformed);
        }
        let csrcs = usize::from(first & 0x0f) * 4;
        let extension = if first & 0x10 == 0 {
            0
        } else {
            let &[_, _, hi, lo] =
                rest.get(csrcs..).and_then(<[u8]>::first_chunk::<4>).ok_or(SrtpError::Malformed)?;
            4 + 4 * usize::from(u16::from_be_bytes([hi, lo]))
        };
        let len = 12 + csrcs + extension;
        if packet.len() < len {
            return Err(SrtpError::Malformed);
        }
        Ok(RtpHeader {
            len,
            seq: u16::from_be_bytes([seq_hi, seq_lo]),
            ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
        })
    }
}

/// The SSRC of the first packet in the compound, under which all of it is protected.
fn rtcp_ssrc(packet: &[u8]) -> Result<u32, SrtpError> {
    let &[first, _, _, _, s0, s1, s2, s3] =
        packet.first_chunk::<RTCP_HEADER_LEN>().ok_or(SrtpError::Malformed)?;
    if first >> 6 != 2 || packet.len() > MAX_PACKET_LEN {
        return Err(SrtpError::Malformed);
    }
    Ok(u32::from_be_bytes([s0, s1, s2, s3]))
}

type StreamMap<T> = HashMap<u32, T, BuildHasherDefault<SsrcHasher>>;

/// Spreads an SSRC over the hash's bits, top ones included, by one multiplication. A peer that picks colliding
/// SSRCs gains little: a receiver has at most [`MAX_STREAMS`].
#[derive(Default)]
struct SsrcHasher(u64);

impl Hasher for SsrcHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    fn write_u32(&mut self, ssrc: u32) {
        // 2^64 divided by the golden ratio: Knuth's multiplicative hash. The fold carries the high half, where
        // the entropy is, down to the bits that pick a bucket.
        let product = (self.0 ^ u64::from(ssrc)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }
}
