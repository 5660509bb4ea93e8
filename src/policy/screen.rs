//! Stages 1-4: what the header fields alone decide.

use super::{Arrival, Plan, Policy, Step};
use crate::mail::Message;

/// The first half's result.
#[derive(Debug, Clone)]
pub enum Screening {
    /// Nothing held it: scanners may be asked, then [`Policy::decide`].
    Passed(Passed),
    /// A reject stage holds it.
    Settled(Box<Plan>),
}

/// What stages 1-4 leave for the rest.
#[derive(Debug, Clone)]
pub struct Passed {
    /// The steps so far.
    pub trail: Vec<Step>,
    /// The spam stage is skipped: the allow list or an announcement.
    pub skip_spam: bool,
    /// A virus scan is wanted.
    pub wants_virus: bool,
    /// A spam scan is wanted.
    pub wants_spam: bool,
}

impl Policy {
    /// Stages 1-4.
    pub fn screen(&self, _message: &Message, _arrival: &Arrival<'_>) -> Screening {
        unimplemented!()
    }
}
