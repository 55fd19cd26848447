//! Times collected in logarithmic classes of about 3 %: no allocation per sample, percentiles afterwards.

const PER_OCTAVE: f64 = 24.0;
const CLASSES: usize = 24 * 40;

/// A count per class of nanoseconds, and the largest seen.
#[derive(Debug, Clone)]
pub struct Histogram {
    classes: Vec<u64>,
    count: u64,
    max_ns: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { classes: vec![0; CLASSES], count: 0, max_ns: 0 }
    }
}

impl Histogram {
    /// Takes one sample.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "bounded by CLASSES"
    )]
    pub fn add(&mut self, ns: u64) {
        let class = ((ns.max(1) as f64).log2() * PER_OCTAVE) as usize;
        if let Some(slot) = self.classes.get_mut(class.min(CLASSES - 1)) {
            *slot += 1;
        }
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// How many samples were taken.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The time that this share of the samples stays under, in milliseconds; 0 without samples.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "bounded by count"
    )]
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let rank = ((self.count as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (class, number) in self.classes.iter().enumerate() {
            seen += number;
            if seen >= rank {
                return (((class + 1) as f64 / PER_OCTAVE).exp2()).min(self.max_ns as f64) / 1e6;
            }
        }
        0.0
    }

    /// The largest sample, milliseconds.
    #[expect(clippy::cast_precision_loss, reason = "a report")]
    pub fn max_ms(&self) -> f64 {
        self.max_ns as f64 / 1e6
    }

    /// p50, p99 and max as JSON, milliseconds with three places.
    pub fn json(&self) -> serde_json::Value {
        let round = |ms: f64| (ms * 1000.0).round() / 1000.0;
        serde_json::json!({
            "count": self.count,
            "p50": round(self.percentile_ms(0.5)),
            "p99": round(self.percentile_ms(0.99)),
            "max": round(self.max_ms()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_the_width_of_a_class() {
        let mut histogram = Histogram::default();
        (1..=1000).for_each(|n| histogram.add(n * 1_000_000));
        assert!((histogram.percentile_ms(0.5) - 500.0).abs() < 20.0);
        assert!((histogram.percentile_ms(0.99) - 990.0).abs() < 35.0);
        assert!((histogram.max_ms() - 1000.0).abs() < f64::EPSILON);
        assert!(Histogram::default().percentile_ms(0.5).abs() < f64::EPSILON);
    }
}
