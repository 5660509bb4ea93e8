//! `scanners`: time that an engine never gets, and the secret of the one that learns.

use super::Scope;
use super::daemon::secret;
use crate::config::field::Field;
use crate::config::raw::RawConfig;
use crate::config::settings::{Engine, Scanner, SecretSource};
use crate::config::source::Report;
use crate::config::text::{FilePath, Span};

pub(super) fn scanners(report: &mut Report, scope: Scope<'_>, raw: &RawConfig) {
    let raw = raw.scanners.or_default();
    let (virus, spam) = (raw.virus.or_default(), raw.spam.or_default());
    let made = &scope.config.scanners;
    timeout(report, scope, &virus.timeout, &made.virus);
    timeout(report, scope, &spam.timeout, &made.spam);
    let learn = spam.learn.or_default();
    let FilePath(written) = learn.password_file.or_default();
    match written.parse::<SecretSource>() {
        Ok(source) if made.learn.is_some() => secret(report, learn.password_file.place(), source),
        Ok(_) if scope.is_here(&learn.password_file) => {
            let message = "nothing learns: `address` is missing";
            let help = "add `address`, or leave `learn` out";
            report.warning("no-effect", learn.password_file.key(), message, help);
        }
        _ => {}
    }
}

fn timeout(report: &mut Report, scope: Scope<'_>, field: &Field<Span>, made: &Scanner) {
    let most = scope.config.server.timeouts.final_reply / 2;
    let asked = !matches!(made.engine, Engine::Off | Engine::Upstream { .. });
    if asked && scope.is_here(field) && made.timeout > most {
        let message = "an engine never gets so long: half of `server.timeouts.final_reply` is for \
                       what comes after it";
        let help = format!("at most `{}s`, or a longer `final_reply`", most.as_secs());
        report.warning("scan-timeout", field.place(), message, help);
    }
}
