//! TLS of the listeners: one certificate, which may be changed while connections are open.
//!
//! TLS 1.2 and 1.3 with the ciphers that rustls holds safe; clients are not asked for
//! certificates. Memory of a connection: what rustls buffers, at most 64 KiB each way and 16 KiB of
//! plain text. Resumption keeps at most 256 sessions of all listeners.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// The certificate that TLS listeners show; [`CurrentCertificate::replace`] changes it for handshakes to
/// come.
#[derive(Debug)]
pub struct CurrentCertificate(ArcSwap<CertifiedKey>);

impl CurrentCertificate {
    /// The first one.
    pub fn new(key: Arc<CertifiedKey>) -> Self {
        Self(ArcSwap::new(key))
    }

    /// Another one; connections that are open keep theirs.
    pub fn replace(&self, key: Arc<CertifiedKey>) {
        self.0.store(key);
    }
}

impl ResolvesServerCert for CurrentCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// How a listener speaks TLS.
#[derive(Debug, Clone)]
pub struct ListenerTls {
    /// From the first octet; else once the client says `STARTTLS` (RFC 3207), which it may leave.
    pub implicit: bool,
    pub(super) config: Arc<ServerConfig>,
}

impl ListenerTls {
    /// With that certificate.
    ///
    /// # Errors
    /// Never with the ciphers that are built in.
    pub fn new(
        implicit: bool,
        certificate: Arc<CurrentCertificate>,
    ) -> Result<Self, rustls::Error> {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(certificate);
        Ok(Self {
            implicit,
            config: Arc::new(config),
        })
    }
}
