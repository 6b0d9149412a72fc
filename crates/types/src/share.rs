//! So many of so many, and what that says of what is behind it.

use serde::{Deserialize, Serialize};

/// So many of so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Share {
    /// So many.
    pub of: u64,
    /// Of so many.
    pub all: u64,
}

impl Share {
    /// The share that was seen, from 0 to 1; 0 of nothing.
    pub fn seen(self) -> f64 {
        if self.all == 0 { 0.0 } else { self.of as f64 / self.all as f64 }
    }

    /// Where the true share lies with 95 % confidence, from 0 to 1 (Wilson's score interval): of nothing, anywhere.
    pub fn interval(self) -> (f64, f64) {
        const Z: f64 = 1.96;
        if self.all == 0 {
            return (0.0, 1.0);
        }
        let (share, all) = (self.seen(), self.all as f64);
        let centre = share + Z * Z / (2.0 * all);
        let spread = Z * (share * (1.0 - share) / all + Z * Z / (4.0 * all * all)).sqrt();
        let scale = 1.0 + Z * Z / all;
        (((centre - spread) / scale).max(0.0), ((centre + spread) / scale).min(1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_is_wilsons() {
        let (low, high) = Share { of: 3, all: 100 }.interval();
        assert!((0.010..0.011).contains(&low) && (0.084..0.085).contains(&high), "{low} {high}");
        assert!(Share { of: 0, all: 10 }.interval().0.abs() < 1e-9);
        assert_eq!(Share::default().interval(), (0.0, 1.0));
    }
}
