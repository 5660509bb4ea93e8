//! The parsers of what engines answer, for `fuzz/`.

use super::{Learned, SpamFinding, VirusFinding, clamd, rspamd, spamd};

/// Whole, not yet, or no answer.
pub type Read<T> = Result<Option<T>, String>;

/// clamd's replies to `VERSION` and `INSTREAM` as requests `first` and `first + 1`.
pub fn clamd(said: &[u8], first: u32) -> Read<VirusFinding> {
    clamd::replies(said, first).map_err(|fault| format!("{fault:?}"))
}

/// rspamd's answer to `/checkv2`.
pub fn rspamd(said: &[u8]) -> Read<SpamFinding> {
    rspamd::finding(said, None)
        .map(Some)
        .map_err(|fault| format!("{fault:?}"))
}

/// The answer to `/learnham` with an error status.
pub fn rspamd_error(said: &[u8]) -> String {
    format!("{:?}", rspamd::error(hyper::StatusCode::NOT_FOUND, said))
}

/// spamd's answer to `SYMBOLS`.
pub fn spamd(said: &[u8]) -> Read<SpamFinding> {
    spamd::symbols(said).map_err(|fault| format!("{fault:?}"))
}

/// spamd's answer to `TELL`.
pub fn spamd_told(said: &[u8]) -> Read<Learned> {
    spamd::told(said).map_err(|fault| format!("{fault:?}"))
}
