//! The certificate of the TLS listeners: read with the settings that name it, so that `check` and a
//! reload say what is wrong with it, and where.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::field::Field;
use super::lint;
use super::patterns::read_text;
use super::raw::RawTls;
use super::setting::Written as _;
use super::settings::SecretSource;
use super::source::Report;
use super::text::FilePath;

/// A chain of certificates or a key is read up to this, octets.
const MOST_PEM_BYTES: u64 = 1 << 20;

/// `server.tls`, read: the chain, the server's own certificate first, and the key to it. `Err` says
/// why this process cannot read them: another user's file, or a credential of the service.
pub type Certificate = Result<Arc<CertifiedKey>, String>;

/// Whether `server.tls` names anything.
pub(crate) fn is_given(raw: &Field<RawTls>) -> bool {
    let section = raw.or_default();
    is_named(&section.certificate_file) || is_named(&section.key_file)
}

fn is_named(file: &Field<FilePath>) -> bool {
    file.get().is_some_and(|FilePath(path)| !path.is_empty())
}

/// `None` when `server.tls` names nothing, or when there is an error in it.
pub(crate) fn certificate(report: &mut Report, raw: &Field<RawTls>) -> Option<Certificate> {
    let section = raw.or_default();
    let (chain, key) = (&section.certificate_file, &section.key_file);
    match (is_named(chain), is_named(key)) {
        (true, true) => {}
        (false, false) => return None,
        _ => {
            let message = "a certificate and its key belong together";
            let help = "set `certificate_file` and `key_file`";
            report.error_help("missing", raw.key(), message, help);
            return None;
        }
    }
    let chain_path = report.folder(chain.place()).join(chain.or_default().0);
    let chain_bytes = match read(report, chain, &chain_path)? {
        Ok(bytes) => bytes,
        Err(why) => return Some(Err(why)),
    };
    let source = match key.or_default().0.parse::<SecretSource>() {
        Ok(source) => source.below(report.folder(key.place())),
        Err(words) => {
            report.error("value", key.place(), words);
            return None;
        }
    };
    let key_path = match source.path() {
        Ok(path) => path,
        Err(why) => return Some(Err(why)),
    };
    let key_bytes = match read(report, key, &key_path)? {
        Ok(bytes) => bytes,
        Err(why) => return Some(Err(why)),
    };
    lint::warn_of_open(report, key.place(), &key_path);
    certified(report, (chain, &chain_bytes), (key, &key_bytes)).map(Ok)
}

/// `None` when the file is no good, `Err` when it is not ours to read.
fn read(
    report: &mut Report,
    field: &Field<FilePath>,
    path: &Path,
) -> Option<Result<Vec<u8>, String>> {
    match read_text(path, MOST_PEM_BYTES) {
        Ok(bytes) => Some(Ok(bytes)),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let message = format!("{}: {error}", path.display());
            let help = "run this as the user of the daemon to have it looked at";
            report.warning("unreadable", field.place(), &message, help);
            Some(Err(message))
        }
        Err(error) => {
            let message = format!("{}: {error}", path.display());
            report.error("unreadable", field.place(), message);
            None
        }
    }
}

fn certified(
    report: &mut Report,
    (chain_field, chain): (&Field<FilePath>, &[u8]),
    (key_field, key): (&Field<FilePath>, &[u8]),
) -> Option<Arc<CertifiedKey>> {
    let mut fault = |field: &Field<FilePath>, message: String| {
        report.error("certificate", field.place(), message);
        None
    };
    let chain: Vec<CertificateDer<'static>> =
        match CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>() {
            Ok(chain) => chain,
            Err(error) => return fault(chain_field, format!("this is no PEM: {error}")),
        };
    if chain.is_empty() {
        return fault(chain_field, "there is no certificate in the file".into());
    }
    let key = match PrivateKeyDer::from_pem_slice(key) {
        Ok(key) => key,
        Err(error) => return fault(key_field, format!("no private key can be read: {error}")),
    };
    match CertifiedKey::from_der(chain, key, &ring::default_provider()) {
        Ok(certified) => Some(Arc::new(certified)),
        Err(rustls::Error::InconsistentKeys(_)) => fault(
            key_field,
            "the key does not belong to the certificate".into(),
        ),
        Err(error) => fault(chain_field, format!("this cannot be used: {error}")),
    }
}
