//! `scanners`: who looks for viruses and spam.

use super::{Compile, octets, span};
use crate::config::field::Field;
use crate::config::raw::*;
use crate::config::setting::Written as _;
use crate::config::settings::*;
use crate::config::text::{FilePath, Text};

/// How rspamd's addresses are written.
const HTTP: &str = "http://";
/// Where rspamd's scanner listens, and where its controller does, which learns.
const SCANNER: &str = "http://127.0.0.1:11333";
const CONTROLLER: &str = "http://127.0.0.1:11334";

impl Compile<'_> {
    pub(super) fn scanners(&mut self, raw: &RawScanners) -> Option<Scanners> {
        let (virus, spam) = (raw.virus.or_default(), raw.spam.or_default());
        // All of them report their mistakes before one of them ends it.
        let virus_engine = self.virus_engine(&virus);
        let spam_engine = self.spam_engine(&spam);
        let learn = self.learn(&spam.learn.or_default(), spam.engine.or_default());
        Some(Scanners {
            learn,
            virus: Scanner {
                engine: virus_engine?,
                max_size: octets(&virus.max_size),
                timeout: span(&virus.timeout),
                on_error: on_error(virus.on_error.or_default()),
            },
            spam: Scanner {
                engine: spam_engine?,
                max_size: octets(&spam.max_size),
                timeout: span(&spam.timeout),
                on_error: on_error(spam.on_error.or_default()),
            },
            keep_original: virus.keep_original.or_default(),
        })
    }

    fn virus_engine(&mut self, raw: &RawVirusScanner) -> Option<Engine> {
        let upstream = raw.upstream.or_default();
        Some(match raw.engine.or_default() {
            RawVirusEngine::Off => Engine::Off,
            RawVirusEngine::Upstream => Engine::Upstream {
                header: self.field_name(&upstream.header),
                value: self.wanted(&upstream.infected),
            },
            RawVirusEngine::Clamd => {
                let Text(address) = raw.address.value.clone()?;
                Engine::Clamd(address.below(self.report.folder(raw.address.place())))
            }
        })
    }

    fn spam_engine(&mut self, raw: &RawSpamScanner) -> Option<Engine> {
        let upstream = raw.upstream.or_default();
        Some(match raw.engine.or_default() {
            RawSpamEngine::Off => Engine::Off,
            RawSpamEngine::Upstream => Engine::Upstream {
                header: self.field_name(&upstream.header),
                value: self.wanted(&upstream.spam),
            },
            RawSpamEngine::Rspamd => Engine::Rspamd(self.http(&raw.address, SCANNER)?),
            RawSpamEngine::Spamd => Engine::Spamd(self.socket(&raw.address)?),
        })
    }

    fn learn(&mut self, raw: &RawLearn, engine: RawSpamEngine) -> Option<Learn> {
        if raw.address.or_default().is_empty() {
            return None;
        }
        let address = match engine {
            RawSpamEngine::Rspamd => self.http(&raw.address, CONTROLLER)?,
            RawSpamEngine::Spamd => self.socket(&raw.address)?,
            RawSpamEngine::Off | RawSpamEngine::Upstream => {
                let help = "use `engine: rspamd` or `engine: spamd`, or leave `learn` out";
                let message = "this engine learns nothing";
                self.report
                    .error_help("conflict", raw.address.place(), message, help);
                return None;
            }
        };
        let FilePath(written) = raw.password_file.or_default();
        let password = match written.as_str() {
            "" => None,
            _ => match written.parse::<SecretSource>() {
                Ok(source) => Some(source.below(self.report.folder(raw.password_file.place()))),
                Err(words) => {
                    self.value(raw.password_file.place(), words);
                    None
                }
            },
        };
        Some(Learn { address, password })
    }

    /// `http://host:port`, as `example`.
    fn http(&mut self, field: &Field<String>, example: &str) -> Option<Endpoint> {
        let written = field.or_default();
        let place = written
            .strip_prefix(HTTP)
            .map(|rest| rest.trim_end_matches('/'));
        match place.map(str::parse::<Endpoint>) {
            Some(Ok(endpoint @ Endpoint::Tcp { .. })) => Some(endpoint),
            _ => {
                let help = format!("rspamd's address is `http://host:port`, as `{example}`");
                let message = format!("{written:?} is no address of rspamd");
                self.report
                    .error_help("value", field.place(), message, help);
                None
            }
        }
    }

    /// A path, or `host:port`.
    fn socket(&mut self, field: &Field<String>) -> Option<Endpoint> {
        let written = field.or_default();
        let parsed = match written.contains("://") {
            true => None,
            false => written.parse::<Endpoint>().ok(),
        };
        if parsed.is_none() {
            let help = "spamd's address is a path or `host:port`, as `127.0.0.1:783`";
            let message = format!("{written:?} is no address of spamd");
            self.report
                .error_help("value", field.place(), message, help);
        }
        let folder = self.report.folder(field.place());
        parsed.map(|endpoint| endpoint.below(folder))
    }

    /// RFC 5322 3.6.8: printable ASCII but the colon.
    fn field_name(&mut self, field: &Field<String>) -> String {
        let name = field.or_default();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
            self.value(field.place(), "a header field name, without its colon");
        }
        name
    }

    fn wanted(&mut self, field: &Field<String>) -> String {
        let text = field.or_default();
        if text.trim().is_empty() {
            self.report
                .error("empty", field.key(), "an empty text would match every mail");
        }
        text
    }
}

fn on_error(word: RawOnError) -> OnError {
    match word {
        RawOnError::Tempfail => OnError::Tempfail,
        RawOnError::Deliver => OnError::Deliver,
        RawOnError::Quarantine => OnError::Quarantine,
    }
}
