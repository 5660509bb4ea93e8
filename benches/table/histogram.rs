//! Times in buckets that are 1/64 of their value wide: quantiles in constant memory.

use std::time::Duration;

const STEPS: u32 = 64;
const BITS: u32 = STEPS.ilog2();

/// Microseconds, up to half a million years.
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    longest: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        Self {
            counts: vec![0; (STEPS * (65 - BITS)) as usize],
            total: 0,
            longest: 0,
        }
    }

    pub(crate) fn add(&mut self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.counts[bucket(micros)] += 1;
        self.total += 1;
        self.longest = self.longest.max(micros);
    }

    pub(crate) fn longest_ms(&self) -> f64 {
        self.longest as f64 / 1000.0
    }

    /// The value that the part `quantile` of all does not exceed, milliseconds.
    pub(crate) fn quantile_ms(&self, quantile: f64) -> f64 {
        let rank = (quantile * self.total as f64).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank.max(1) {
                return upper(at).min(self.longest) as f64 / 1000.0;
            }
        }
        0.0
    }
}

fn bucket(value: u64) -> usize {
    let octave = (u64::BITS - value.leading_zeros()).saturating_sub(BITS + 1);
    let step = value >> octave;
    (u64::from(octave * STEPS) + step) as usize
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let steps = u64::from(STEPS);
    let octave = (bucket / steps).saturating_sub(1);
    let step = bucket - octave * steps;
    ((step + 1) << octave) - 1
}
