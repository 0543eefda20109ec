//! How `rtc-dtls` is set up: one set of choices for all peers of a process.

use std::sync::Arc;
use std::time::Duration;

use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::cipher_suite::CipherSuiteId;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;

use super::DTLS_MTU;
use crate::transport::certificate::Certificate;
use crate::transport::srtp::SrtpProfile;

/// `rtc-dtls` cuts messages, not datagrams, to this length; headers and the cipher's overhead come on top.
const FRAGMENT_LEN: usize = DTLS_MTU - 64;
/// Long enough to never fire: `session` decides when a flight is repeated.
const OWN_TIMER: Duration = Duration::from_hours(1);

/// The settings behind every association: our certificate, ciphers, profiles. Cheap to clone.
#[derive(Clone)]
pub struct DtlsConfig {
    server_gcm: Arc<HandshakeConfig>,
    server_cm: Arc<HandshakeConfig>,
    client: Arc<HandshakeConfig>,
}

/// The crypto provider lacks something we need: nothing that a peer can cause.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up DTLS: {0}")]
pub struct DtlsConfigError(String);

impl DtlsConfig {
    /// Settings that show `certificate`.
    ///
    /// # Errors
    /// See [`DtlsConfigError`].
    pub fn new(certificate: &Certificate) -> Result<DtlsConfig, DtlsConfigError> {
        let provider = rtc_crypto::default_provider().map_err(|e| DtlsConfigError(e.to_string()))?;
        let gcm = SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm;
        let cm = SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80;
        // Ours is an ECDSA key; a server's may be RSA (GStreamer).
        let ecdsa = [
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
            CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
        ];
        let rsa = [
            CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
            CipherSuiteId::Tls_Ecdhe_Rsa_With_ChaCha20_Poly1305_Sha256,
        ];
        let build = |is_client: bool, profiles: &[SrtpProtectionProfile], suites: &[CipherSuiteId]| {
            builder(&provider, certificate)
                .with_srtp_protection_profiles(profiles.to_vec())
                .with_cipher_suites(suites.to_vec())
                .build(is_client, None)
                .map(Arc::new)
                .map_err(|e| DtlsConfigError(e.to_string()))
        };
        Ok(DtlsConfig {
            server_gcm: build(false, &[gcm], &ecdsa)?,
            server_cm: build(false, &[cm], &ecdsa)?,
            client: build(true, &[gcm, cm], &[ecdsa, rsa].concat())?,
        })
    }

    /// A server's that agrees to one profile only, since `rtc-dtls` follows the client's order otherwise.
    pub(super) fn server(&self, profile: SrtpProfile) -> Arc<HandshakeConfig> {
        match profile {
            SrtpProfile::AeadAes128Gcm => self.server_gcm.clone(),
            SrtpProfile::Aes128CmHmacSha1_80 => self.server_cm.clone(),
        }
    }

    pub(super) fn client(&self) -> Arc<HandshakeConfig> {
        self.client.clone()
    }
}

fn builder(provider: &Arc<dyn RTCCryptoProvider>, certificate: &Certificate) -> ConfigBuilder {
    ConfigBuilder::default()
        .with_crypto_provider(provider.clone())
        .with_certificates(vec![certificate.inner.clone()])
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        // Certificates are self-signed: the fingerprint tells whose they are, and is compared in `session`. The
        // signatures that prove possession of the key are verified all the same.
        .with_insecure_skip_verify(true)
        .with_extended_master_secret(ExtendedMasterSecretType::Require)
        .with_flight_interval(OWN_TIMER)
        .with_mtu(FRAGMENT_LEN)
}
