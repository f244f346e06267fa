//! Which request is next, and what becomes of it: by a seeded walk, or every possibility in turn.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Decides, so that the same decisions lead the same way again.
pub(super) trait Choose {
    /// One of so many; at least one.
    fn pick(&mut self, of: usize) -> usize;

    /// Whether something happens that does so in `percent` of all cases.
    fn now_and_then(&mut self, percent: usize) -> bool;
}

/// A walk that its seed decides.
pub(super) struct Walk(StdRng);

impl Walk {
    pub fn new(seed: u64) -> Self {
        Self(StdRng::seed_from_u64(seed))
    }
}

impl Choose for Walk {
    fn pick(&mut self, of: usize) -> usize {
        self.0.random_range(0..of)
    }

    fn now_and_then(&mut self, percent: usize) -> bool {
        self.0.random_range(0..100) < percent
    }
}

/// Every way, one after the other: the same decisions as the last time up to the last that can be taken otherwise.
#[derive(Default)]
pub(super) struct EveryWay {
    /// What was chosen, of how many.
    path: Vec<(usize, usize)>,
    at: usize,
}

impl EveryWay {
    /// To the next way. False: that was the last.
    pub fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((chosen, of)) = self.path.pop() {
            if chosen + 1 < of {
                self.path.push((chosen + 1, of));
                return true;
            }
        }
        false
    }

    /// The decisions of the way that was taken last.
    pub fn taken(&self) -> String {
        let shown: Vec<String> = self.path.iter().map(|(chosen, _)| chosen.to_string()).collect();
        shown.join(" ")
    }
}

impl Choose for EveryWay {
    fn pick(&mut self, of: usize) -> usize {
        let chosen = match self.path.get(self.at) {
            Some((chosen, _)) => *chosen,
            None => {
                self.path.push((0, of));
                0
            }
        };
        self.at += 1;
        chosen
    }

    fn now_and_then(&mut self, _: usize) -> bool {
        false
    }
}
