//! The ciphers of SRTP: AES-GCM (RFC 7714) by `ring`, AES in counter mode (RFC 3711 §4.1.1) block by block.

use aes::cipher::{BlockEncrypt as _, KeyInit as _};
use ring::aead;
use str0m::crypto::{
    AeadAes128GcmCipher, AeadAes256GcmCipher, Aes128CmSha1_80Cipher, CryptoError, SrtpProvider,
    SupportedAeadAes128Gcm, SupportedAeadAes256Gcm, SupportedAes128CmSha1_80,
};

const BLOCK: usize = 16;
const TAG: usize = 16;

#[derive(Debug)]
pub(super) struct Srtp;

impl SrtpProvider for Srtp {
    fn aes_128_cm_sha1_80(&self) -> &'static dyn SupportedAes128CmSha1_80 {
        &Srtp
    }

    fn aead_aes_128_gcm(&self) -> &'static dyn SupportedAeadAes128Gcm {
        &Srtp
    }

    fn aead_aes_256_gcm(&self) -> &'static dyn SupportedAeadAes256Gcm {
        &Srtp
    }

    fn srtp_aes_128_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        let cipher = aes::Aes128::new_from_slice(key).expect("a key of 16 bytes");
        let mut block = block(input);
        cipher.encrypt_block(&mut block);
        output[..BLOCK].copy_from_slice(&block);
    }

    fn srtp_aes_256_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        let cipher = aes::Aes256::new_from_slice(key).expect("a key of 32 bytes");
        let mut block = block(input);
        cipher.encrypt_block(&mut block);
        output[..BLOCK].copy_from_slice(&block);
    }
}

fn block(bytes: &[u8]) -> aes::Block {
    let bytes: [u8; BLOCK] = bytes.try_into().expect("one block");
    bytes.into()
}

impl SupportedAes128CmSha1_80 for Srtp {
    fn create_cipher(&self, key: [u8; 16], _: bool) -> Box<dyn Aes128CmSha1_80Cipher> {
        Box::new(CounterMode(aes::Aes128::new(&key.into())))
    }
}

impl SupportedAeadAes128Gcm for Srtp {
    fn create_cipher(&self, key: [u8; 16], _: bool) -> Box<dyn AeadAes128GcmCipher> {
        Box::new(Gcm::new(&aead::AES_128_GCM, &key))
    }
}

impl SupportedAeadAes256Gcm for Srtp {
    fn create_cipher(&self, key: [u8; 32], _: bool) -> Box<dyn AeadAes256GcmCipher> {
        Box::new(Gcm::new(&aead::AES_256_GCM, &key))
    }
}

#[derive(Debug)]
struct CounterMode(aes::Aes128);

impl Aes128CmSha1_80Cipher for CounterMode {
    fn encrypt(&mut self, iv: &[u8; 16], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        let mut counter = u128::from_be_bytes(*iv);
        for (plain, cipher) in input.chunks(BLOCK).zip(output.chunks_mut(BLOCK)) {
            let mut key_stream = aes::Block::from(counter.to_be_bytes());
            self.0.encrypt_block(&mut key_stream);
            counter = counter.wrapping_add(1);
            for ((out, byte), key) in cipher.iter_mut().zip(plain).zip(key_stream) {
                *out = byte ^ key;
            }
        }
        Ok(())
    }

    fn decrypt(&mut self, iv: &[u8; 16], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        self.encrypt(iv, input, output)
    }
}

#[derive(Debug)]
struct Gcm {
    key: aead::LessSafeKey,
    scratch: Vec<u8>,
}

impl Gcm {
    fn new(algorithm: &'static aead::Algorithm, key: &[u8]) -> Gcm {
        let key = aead::UnboundKey::new(algorithm, key).expect("a key of the algorithm's length");
        Gcm { key: aead::LessSafeKey::new(key), scratch: Vec::new() }
    }

    fn seal(&self, iv: [u8; 12], aad: &[u8], input: &[u8], output: &mut [u8]) -> Result<(), CryptoError> {
        let (text, rest) = output.split_at_mut(input.len());
        text.copy_from_slice(input);
        let nonce = aead::Nonce::assume_unique_for_key(iv);
        let tag = self.key.seal_in_place_separate_tag(nonce, aead::Aad::from(aad), text);
        let tag = tag.map_err(|_| CryptoError::Other("a packet too long to encrypt".to_owned()))?;
        rest[..TAG].copy_from_slice(tag.as_ref());
        Ok(())
    }

    fn open(
        &mut self,
        iv: [u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        self.scratch.clear();
        self.scratch.extend_from_slice(input);
        let nonce = aead::Nonce::assume_unique_for_key(iv);
        let joined;
        let aad = match aads {
            [only] => only,
            many => {
                joined = many.concat();
                &joined[..]
            }
        };
        let plain = self.key.open_in_place(nonce, aead::Aad::from(aad), &mut self.scratch);
        let plain = plain.map_err(|_| CryptoError::Other("not what the other side sent".to_owned()))?;
        output[..plain.len()].copy_from_slice(plain);
        Ok(plain.len())
    }
}

impl AeadAes128GcmCipher for Gcm {
    fn encrypt(
        &mut self,
        iv: &[u8; 12],
        aad: &[u8],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.seal(*iv, aad, input, output)
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        self.open(*iv, aads, input, output)
    }
}

impl AeadAes256GcmCipher for Gcm {
    fn encrypt(
        &mut self,
        iv: &[u8; 12],
        aad: &[u8],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(), CryptoError> {
        self.seal(*iv, aad, input, output)
    }

    fn decrypt(
        &mut self,
        iv: &[u8; 12],
        aads: &[&[u8]],
        input: &[u8],
        output: &mut [u8],
    ) -> Result<usize, CryptoError> {
        self.open(*iv, aads, input, output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3711 Appendix B.2: the key stream of AES counter mode.
    #[test]
    fn counter_mode_has_the_key_stream_of_the_rfc() {
        let key = 0x2B7E151628AED2A6ABF7158809CF4F3C_u128.to_be_bytes();
        let iv = 0xF0F1F2F3F4F5F6F7F8F9FAFBFCFD0000_u128.to_be_bytes();
        let mut cipher = SupportedAes128CmSha1_80::create_cipher(&Srtp, key, true);
        let mut stream = [0; 40];
        cipher.encrypt(&iv, &[0; 40], &mut stream).unwrap();
        assert_eq!(stream[..16], 0xE03EAD0935C95E80E166B16DD92B4EB4_u128.to_be_bytes());
        assert_eq!(stream[16..32], 0xD23513162B02D0F72A43A2FE4A5F97AB_u128.to_be_bytes());
        assert_eq!(stream[32..], 0x41E95B3BB0A2E8DD_u64.to_be_bytes());
    }

    /// RFC 3711 Appendix B.3: deriving the cipher key is one block of counter mode.
    #[test]
    fn key_derivation_round_is_that_of_the_rfc() {
        let master = 0xE1F97A0D3E018BE0D64FA32C06DE4139_u128.to_be_bytes();
        let input = 0x0EC675AD498AFEEBB6960B3AABE60000_u128.to_be_bytes();
        let mut output = [0; 32];
        Srtp.srtp_aes_128_ecb_round(&master, &input, &mut output);
        assert_eq!(output[..16], 0xC61E7A93744F39EE10734AFE3FF7A087_u128.to_be_bytes());
    }

    #[test]
    fn gcm_opens_what_it_sealed_and_nothing_else() {
        let mut cipher = SupportedAeadAes128Gcm::create_cipher(&Srtp, [7; 16], true);
        let (iv, aad) = ([1; 12], [2; 12]);
        let mut sealed = [0; 5 + TAG];
        cipher.encrypt(&iv, &aad, b"hello", &mut sealed).unwrap();
        let mut plain = [0; 5];
        assert_eq!(cipher.decrypt(&iv, &[&aad[..8], &aad[8..]], &sealed, &mut plain).unwrap(), 5);
        assert_eq!(&plain, b"hello");
        sealed[0] ^= 1;
        assert!(cipher.decrypt(&iv, &[&aad], &sealed, &mut plain).is_err());
    }
}
