//! pool
use super::{Delivery, HopSettings, Outcome};

/// Connections to one next hop.
#[derive(Debug)]
pub struct Pool {
    settings: HopSettings,
}

impl Pool {
    /// Connects nothing yet.
    pub fn new(settings: HopSettings) -> Self {
        Self { settings }
    }

    /// One transaction; one result for each recipient, in their order.
    pub async fn send(&self, _delivery: &Delivery) -> Vec<Outcome> {
        let _ = &self.settings;
        Vec::new()
    }
}
