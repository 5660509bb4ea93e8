//! `scanners`: time that an engine never gets, and the secret of the one that learns.

use super::Scope;
use super::daemon::secret;
use crate::config::field::Field;
use crate::config::raw::RawConfig;
use crate::config::settings::{Engine, Scanner};
use crate::config::source::Report;
use crate::config::text::Span;

pub(super) fn scanners(report: &mut Report, scope: Scope<'_>, raw: &RawConfig) {
    let raw = raw.scanners.or_default();
    let (virus, spam) = (raw.virus.or_default(), raw.spam.or_default());
    let made = &scope.config.scanners;
    timeout(report, scope, &virus.timeout, &made.virus);
    timeout(report, scope, &spam.timeout, &made.spam);
    let at = spam.learn.or_default().password_file.place();
    if let Some(source) = made.learn.as_ref().and_then(|learn| learn.password.clone()) {
        secret(report, at, source);
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
