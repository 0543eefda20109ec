//! DTLS by `dimpl`, handed through; on the way it is noted which SRTP profiles were agreed on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use str0m::crypto::CryptoError;
use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion,
    SrtpProfile,
};

/// Profiles that `dimpl` knows, as RFC 5764 §4.1.2 and RFC 7714 §14.2 name them.
const PROFILES: [(SrtpProfile, &str); 3] = [
    (SrtpProfile::AEAD_AES_256_GCM, "AEAD_AES_256_GCM"),
    (SrtpProfile::AEAD_AES_128_GCM, "AEAD_AES_128_GCM"),
    (SrtpProfile::AES128_CM_SHA1_80, "AES128_CM_HMAC_SHA1_80"),
];

/// Connections by the SRTP profile that their handshake came to, in the order of [`PROFILES`].
#[derive(Debug, Default)]
pub(crate) struct Agreed([AtomicU32; PROFILES.len()]);

impl Agreed {
    fn count(&self, profile: SrtpProfile) {
        for (count, _) in self.0.iter().zip(PROFILES).filter(|(_, (known, _))| *known == profile) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Names of those that some connection has, the strongest first.
    pub(crate) fn names(&self) -> Vec<&'static str> {
        let used = |(count, (_, name)): (&AtomicU32, (SrtpProfile, &'static str))| {
            (count.load(Ordering::Relaxed) > 0).then_some(name)
        };
        self.0.iter().zip(PROFILES).filter_map(used).collect()
    }
}

#[derive(Debug)]
pub(super) struct Dtls(pub(super) &'static Agreed);

impl DtlsProvider for Dtls {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        super::certificate().ok()
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        version: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        // A cookie proves an address, and ICE has done that.
        let mut config = dimpl::Config::builder().use_server_cookie(false);
        if let Some(mtu) = mtu {
            config = config.mtu(mtu);
        }
        let config = Arc::new(config.build()?);
        let certificate = certificate.clone();
        let connection = match version {
            DtlsVersion::Dtls12 => dimpl::Dtls::new_12(config, certificate, now),
            DtlsVersion::Dtls13 => dimpl::Dtls::new_13(config, certificate, now),
            DtlsVersion::Auto => dimpl::Dtls::new_auto(config, certificate, now),
            other => return Err(CryptoError::Other(format!("no such DTLS version: {other}"))),
        };
        Ok(Box::new(Connection { dtls: connection, agreed: self.0 }))
    }
}

struct Connection {
    dtls: dimpl::Dtls,
    agreed: &'static Agreed,
}

impl std::fmt::Debug for Connection {
    /// Keys are not shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl DtlsInstance for Connection {
    fn set_active(&mut self, active: bool) {
        self.dtls.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.dtls.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buffer: &'a mut [u8]) -> DtlsOutput<'a> {
        let output = self.dtls.poll_output(buffer);
        if let DtlsOutput::KeyingMaterial(_, profile) = &output {
            self.agreed.count(*profile);
        }
        output
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.dtls.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<(), DtlsImplError> {
        self.dtls.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.dtls.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.dtls.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.dtls.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.dtls.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.dtls.close()
    }
}
