//! Seals and opens one packet with session keys, in place: AES-128-GCM (RFC 7714), or AES-128 in counter
//! mode with an 80-bit HMAC-SHA1 tag (RFC 3711 §4).
//!
//! GCM is `ring`'s. Its HMAC-SHA1 does not use the processor's SHA instructions and took 3.1 µs for a packet of
//! 1200 bytes, where that of the `hmac` and `sha1` crates takes 0.7 µs.
//! Callers have parsed the header and know the index; nothing here remembers a packet.

use aes::Aes128Enc;
use aes::cipher::generic_array::GenericArray;
use aes::cipher::{BlockEncrypt, KeyInit};
use hmac::{Hmac, Mac};
use ring::aead;
use sha1::Sha1;

use super::{RTCP_ENCRYPTED, RTCP_HEADER_LEN, SrtpError};
use crate::ahead::look;

/// RFC 7714 §13.1.
pub(super) const GCM_TAG_LEN: usize = 16;
/// RFC 5764 §4.1.2: 80 bits, for RTP and RTCP.
pub(super) const CM_TAG_LEN: usize = 10;
/// Encryption flag and SRTCP index (RFC 3711 §3.4).
pub(super) const RTCP_INDEX_LEN: usize = 4;

/// The session keys of one direction, for either RTP or RTCP.
pub(super) enum Cipher {
    Gcm { key: Box<aead::LessSafeKey>, salt: [u8; 12] },
    Cm { counter: Box<AesCounter>, auth: Hmac<Sha1>, salt: [u8; 14] },
}

impl Cipher {
    /// Reads ahead what sealing and opening need.
    pub(super) fn ahead(&self) {
        match self {
            Cipher::Gcm { key, .. } => look(&std::ptr::from_ref(key.algorithm())),
            Cipher::Cm { salt, .. } => look(salt),
        }
    }

    /// Seals `packet[..len]`, whose first `header_len` bytes stay in the clear. The tag must fit behind.
    pub(super) fn seal_rtp(
        &self,
        packet: &mut [u8],
        header_len: usize,
        len: usize,
        ssrc: u32,
        index: u64,
    ) -> usize {
        let (plain, tail) = packet.split_at_mut(len);
        let (header, payload) = plain.split_at_mut(header_len);
        match self {
            Cipher::Gcm { key, salt } => {
                let tag = seal(key, rtp_nonce(salt, ssrc, index), header, payload);
                tail[..GCM_TAG_LEN].copy_from_slice(tag.as_ref());
                len + GCM_TAG_LEN
            }
            Cipher::Cm { counter, auth, salt } => {
                counter.apply(cm_iv(salt, ssrc, index), payload);
                let tag = hmac_of(auth, &[plain, &roc(index)]);
                tail[..CM_TAG_LEN].copy_from_slice(&tag);
                len + CM_TAG_LEN
            }
        }
    }

    /// Opens a whole SRTP packet; returns the length without the tag.
    pub(super) fn open_rtp(
        &self,
        packet: &mut [u8],
        header_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<usize, SrtpError> {
        match self {
            Cipher::Gcm { key, salt } => {
                let (sealed, tag) = split_tag::<GCM_TAG_LEN>(packet, header_len)?;
                let (header, payload) = sealed.split_at_mut(header_len);
                open(key, rtp_nonce(salt, ssrc, index), header, tag, payload)?;
                Ok(sealed.len())
            }
            Cipher::Cm { counter, auth, salt } => {
                let (sealed, tag) = split_tag::<CM_TAG_LEN>(packet, header_len)?;
                verify(tag, hmac_of(auth, &[sealed, &roc(index)]))?;
                counter.apply(cm_iv(salt, ssrc, index), &mut sealed[header_len..]);
                Ok(sealed.len())
            }
        }
    }

    /// Seals `packet[..len]` under the flag and index in `word`. Tag and word must fit behind.
    pub(super) fn seal_rtcp(&self, packet: &mut [u8], len: usize, ssrc: u32, word: u32) -> usize {
        let word_bytes = word.to_be_bytes();
        let (header, rest) = packet.split_at_mut(RTCP_HEADER_LEN);
        let body_len = len - RTCP_HEADER_LEN;
        match self {
            Cipher::Gcm { key, salt } => {
                // RFC 7714 §9: the tag follows the ciphertext, the word comes last and in the clear.
                let (payload, tail) = rest.split_at_mut(body_len);
                let tag = seal(key, rtcp_nonce(salt, ssrc, word), &rtcp_aad(header, word_bytes), payload);
                tail[..GCM_TAG_LEN].copy_from_slice(tag.as_ref());
                tail[GCM_TAG_LEN..][..RTCP_INDEX_LEN].copy_from_slice(&word_bytes);
                len + GCM_TAG_LEN + RTCP_INDEX_LEN
            }
            Cipher::Cm { counter, auth, salt } => {
                // RFC 3711 §3.4: the word follows the ciphertext, the tag covers both.
                counter.apply(cm_iv(salt, ssrc, rtcp_index(word)), &mut rest[..body_len]);
                let (signed, tail) = packet.split_at_mut(len + RTCP_INDEX_LEN);
                signed[len..].copy_from_slice(&word_bytes);
                tail[..CM_TAG_LEN].copy_from_slice(&hmac_of(auth, &[signed]));
                len + RTCP_INDEX_LEN + CM_TAG_LEN
            }
        }
    }

    /// The flag and index of a sealed RTCP packet, not yet authenticated; `None` if it is too short.
    pub(super) fn rtcp_index_word(&self, packet: &[u8]) -> Option<u32> {
        let end = match self {
            Cipher::Gcm { .. } => packet.len(),
            Cipher::Cm { .. } => packet.len().checked_sub(CM_TAG_LEN)?,
        };
        packet.get(..end)?.last_chunk::<RTCP_INDEX_LEN>().copied().map(u32::from_be_bytes)
    }

    /// Opens a whole SRTCP packet, `word` being its [`Self::rtcp_index_word`]; returns the length without
    /// word and tag.
    pub(super) fn open_rtcp(&self, packet: &mut [u8], ssrc: u32, word: u32) -> Result<usize, SrtpError> {
        match self {
            Cipher::Gcm { key, salt } => {
                // Without the flag nothing would be encrypted and all of it be associated data (RFC 7714 §9.3);
                // such a packet is refused genuine or not.
                if word & RTCP_ENCRYPTED == 0 {
                    return Err(SrtpError::NotEncrypted);
                }
                let end = packet.len().checked_sub(RTCP_INDEX_LEN).ok_or(SrtpError::Malformed)?;
                let (sealed, tag) = split_tag::<GCM_TAG_LEN>(&mut packet[..end], RTCP_HEADER_LEN)?;
                let (header, payload) = sealed.split_at_mut(RTCP_HEADER_LEN);
                let aad = rtcp_aad(header, word.to_be_bytes());
                open(key, rtcp_nonce(salt, ssrc, word), &aad, tag, payload)?;
                Ok(sealed.len())
            }
            Cipher::Cm { counter, auth, salt } => {
                let (signed, tag) = split_tag::<CM_TAG_LEN>(packet, RTCP_HEADER_LEN + RTCP_INDEX_LEN)?;
                verify(tag, hmac_of(auth, &[signed]))?;
                if word & RTCP_ENCRYPTED == 0 {
                    return Err(SrtpError::NotEncrypted);
                }
                let len = signed.len() - RTCP_INDEX_LEN;
                counter.apply(cm_iv(salt, ssrc, rtcp_index(word)), &mut signed[RTCP_HEADER_LEN..len]);
                Ok(len)
            }
        }
    }
}

/// AES-128 in counter mode, with the 16-bit block counter of RFC 3711 §4.1.1.
pub(super) struct AesCounter(Aes128Enc);

/// Blocks encrypted at once: what AES-NI keeps in flight.
const BATCH: usize = 8;

impl AesCounter {
    pub(super) fn new(key: &[u8; 16]) -> AesCounter {
        AesCounter(Aes128Enc::new(GenericArray::from_slice(key)))
    }

    /// Combines `data`, at most 2^16 blocks, with the key stream that starts at `iv`.
    pub(super) fn apply(&self, iv: [u8; 16], data: &mut [u8]) {
        let mut next = u128::from_be_bytes(iv);
        for run in data.chunks_mut(16 * BATCH) {
            let mut stream = [GenericArray::from([0; 16]); BATCH];
            let blocks = run.len().div_ceil(16);
            for block in &mut stream[..blocks] {
                *block = GenericArray::from(next.to_be_bytes());
                next = next.wrapping_add(1);
            }
            self.0.encrypt_blocks(&mut stream[..blocks]);
            let (whole, rest) = run.as_chunks_mut::<16>();
            let (keys, last) = stream.split_at(whole.len());
            for (bytes, &key) in whole.iter_mut().zip(keys) {
                let mixed = u128::from_ne_bytes(*bytes) ^ u128::from_ne_bytes(key.into());
                *bytes = mixed.to_ne_bytes();
            }
            for (byte, key) in rest.iter_mut().zip(last.iter().flatten()) {
                *byte ^= key;
            }
        }
    }
}

/// RFC 3711 §4.1.1: salt, SSRC and index, moved up by the 16 bits of the block counter.
fn cm_iv(salt: &[u8; 14], ssrc: u32, index: u64) -> [u8; 16] {
    let mut salted = [0; 16];
    salted[..14].copy_from_slice(salt);
    let number = (u128::from(ssrc) << 64) ^ (u128::from(index) << 16);
    (u128::from_be_bytes(salted) ^ number).to_be_bytes()
}

/// RFC 7714 §8.1: SSRC, rollover count and sequence number, behind 16 zero bits.
fn rtp_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> aead::Nonce {
    nonce(salt, (u128::from(ssrc) << 48) | u128::from(index))
}

/// RFC 7714 §9.1: SSRC, 16 zero bits and the 31-bit index, behind 16 zero bits.
fn rtcp_nonce(salt: &[u8; 12], ssrc: u32, word: u32) -> aead::Nonce {
    nonce(salt, (u128::from(ssrc) << 48) | u128::from(rtcp_index(word)))
}

fn nonce(salt: &[u8; 12], number: u128) -> aead::Nonce {
    let mut nonce = *salt;
    for (byte, number) in nonce.iter_mut().zip(&number.to_be_bytes()[4..]) {
        *byte ^= number;
    }
    aead::Nonce::assume_unique_for_key(nonce)
}

fn rtcp_index(word: u32) -> u64 {
    u64::from(word & !RTCP_ENCRYPTED)
}

/// RFC 7714 §9.2: the clear header and the word.
fn rtcp_aad(header: &[u8], word: [u8; RTCP_INDEX_LEN]) -> [u8; RTCP_HEADER_LEN + RTCP_INDEX_LEN] {
    let mut aad = [0; RTCP_HEADER_LEN + RTCP_INDEX_LEN];
    aad[..RTCP_HEADER_LEN].copy_from_slice(header);
    aad[RTCP_HEADER_LEN..].copy_from_slice(&word);
    aad
}

/// RFC 3711 §4.2: the rollover count is signed with the packet.
fn roc(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

fn seal(key: &aead::LessSafeKey, nonce: aead::Nonce, aad: &[u8], payload: &mut [u8]) -> aead::Tag {
    key.seal_in_place_separate_tag(nonce, aead::Aad::from(aad), payload)
        .expect("a packet is far shorter than the limit of GCM")
}

fn open(
    key: &aead::LessSafeKey,
    nonce: aead::Nonce,
    aad: &[u8],
    tag: &[u8; GCM_TAG_LEN],
    payload: &mut [u8],
) -> Result<(), SrtpError> {
    key.open_in_place_separate_tag(nonce, aead::Aad::from(aad), aead::Tag::from(*tag), payload, 0..)
        .map(|_| ())
        .map_err(|_| SrtpError::AuthenticationFailed)
}

/// `key` is a fresh state under the key; copying it spares its two blocks of hashing for every packet.
fn hmac_of(key: &Hmac<Sha1>, parts: &[&[u8]]) -> [u8; CM_TAG_LEN] {
    let mut mac = key.clone();
    for part in parts {
        mac.update(part);
    }
    *mac.finalize().into_bytes().first_chunk().expect("SHA-1 has 20 bytes")
}

/// Compares all bytes, wherever the first difference is.
fn verify(got: &[u8; CM_TAG_LEN], expected: [u8; CM_TAG_LEN]) -> Result<(), SrtpError> {
    let difference = got.iter().zip(expected).fold(0, |sum, (a, b)| sum | (a ^ b));
    if std::hint::black_box(difference) == 0 { Ok(()) } else { Err(SrtpError::AuthenticationFailed) }
}

/// Splits off the tag; at least `clear_len` bytes must stand before it.
fn split_tag<const TAG: usize>(
    packet: &mut [u8],
    clear_len: usize,
) -> Result<(&mut [u8], &[u8; TAG]), SrtpError> {
    match packet.split_last_chunk_mut::<TAG>() {
        Some((sealed, tag)) if sealed.len() >= clear_len => Ok((sealed, tag)),
        Some(_) | None => Err(SrtpError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3711 App. B.2.
    #[test]
    fn key_stream_is_that_of_the_rfc() {
        let counter = AesCounter::new(&0x2B7E151628AED2A6ABF7158809CF4F3C_u128.to_be_bytes());
        let mut stream = vec![0; 0xff02 * 16];
        counter.apply(0xF0F1F2F3F4F5F6F7F8F9FAFBFCFD0000_u128.to_be_bytes(), &mut stream);
        for (block, expected) in [
            (0, 0xE03EAD0935C95E80E166B16DD92B4EB4_u128),
            (1, 0xD23513162B02D0F72A43A2FE4A5F97AB),
            (2, 0x41E95B3BB0A2E8DD477901E4FCA894C0),
            (0xfeff, 0xEC8CDF7398607CB0F2D21675EA9EA1E4),
            (0xff00, 0x362B7C3C6773516318A077D7FC5073AE),
            (0xff01, 0x6A2CC3787889374FBEB4C81B17BA6C44),
        ] {
            assert_eq!(stream[block * 16..][..16], expected.to_be_bytes(), "block {block:#x}");
        }
    }
}
