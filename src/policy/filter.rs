//! Stages 5-9: scanners' words, forwarding, notice, reply.

use super::{Arrival, Passed, Plan, Policy, ScanReport};
use crate::mail::Message;

impl Policy {
    /// Stages 5-9 for a mail that [`Policy::screen`] let pass.
    pub fn decide(
        &self,
        _message: &Message,
        _arrival: &Arrival<'_>,
        _passed: Passed,
        _scan: &ScanReport,
    ) -> Plan {
        unimplemented!()
    }
}
