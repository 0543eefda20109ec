//! Session keys from master keys (RFC 3711 §4.3.3; RFC 7714 §11 uses the same function for GCM).
//!
//! The key derivation rate is zero, as DTLS-SRTP has it: derived once, for the life of the connection.

use hmac::{Hmac, Mac};
use ring::aead;

use super::cipher::{AesCounter, Cipher};
use super::{MasterKey, SrtpProfile};

/// Cipher for RTP of one direction.
pub(super) fn rtp_cipher(profile: SrtpProfile, master: &MasterKey) -> Cipher {
    cipher(profile, master, [0x00, 0x01, 0x02])
}

/// Cipher for SRTCP of one direction.
pub(super) fn rtcp_cipher(profile: SrtpProfile, master: &MasterKey) -> Cipher {
    cipher(profile, master, [0x03, 0x04, 0x05])
}

/// `labels`: of the encryption key, the authentication key and the salt (RFC 3711 §4.3.2).
fn cipher(profile: SrtpProfile, master: &MasterKey, labels: [u8; 3]) -> Cipher {
    let [key_label, auth_label, salt_label] = labels;
    let mut key = [0; 16];
    derive(master, key_label, &mut key);
    match profile {
        SrtpProfile::AeadAes128Gcm => {
            let mut salt = [0; 12];
            derive(master, salt_label, &mut salt);
            let key = aead::UnboundKey::new(&aead::AES_128_GCM, &key).expect("the key has 16 bytes");
            Cipher::Gcm { key: Box::new(aead::LessSafeKey::new(key)), salt }
        }
        SrtpProfile::Aes128CmHmacSha1_80 => {
            let mut auth = [0; 20];
            let mut salt = [0; 14];
            derive(master, auth_label, &mut auth);
            derive(master, salt_label, &mut salt);
            let auth = Hmac::new_from_slice(&auth).expect("HMAC takes keys of any length");
            Cipher::Cm { counter: Box::new(AesCounter::new(&key)), auth, salt }
        }
    }
}

/// The first bytes of the key stream of the master key, at the counter that salt and label give.
pub(super) fn derive(master: &MasterKey, label: u8, out: &mut [u8]) {
    let mut iv = [0; 16];
    iv[..14].copy_from_slice(&master.salt);
    // The label stands above a 48-bit index, which is zero at a derivation rate of zero.
    iv[7] ^= label;
    out.fill(0);
    AesCounter::new(&master.key).apply(iv, out);
}
