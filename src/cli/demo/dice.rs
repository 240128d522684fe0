//! Chance for the demo: a xorshift generator (Marsaglia 2003), which is plenty to look at.

pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Dice {
        // Zero would stay zero.
        Dice(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Less than `below`, which is not 0.
    pub fn below(&mut self, below: u64) -> u64 {
        self.next() % below
    }

    /// True so many times in ten thousand.
    pub fn often(&mut self, in_ten_thousand: u64) -> bool {
        self.below(10_000) < in_ten_thousand
    }

    /// An index by weight; the weights are not all 0.
    pub fn weighted(&mut self, weights: impl Iterator<Item = u64> + Clone) -> usize {
        let mut left = self.below(weights.clone().sum());
        for (index, weight) in weights.enumerate() {
            if left < weight {
                return index;
            }
            left -= weight;
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_kept() {
        let mut dice = Dice::new(0);
        let mut counts = [0; 3];
        for _ in 0..9_000 {
            counts[dice.weighted([1, 0, 2].into_iter())] += 1;
        }
        assert!((2_500..3_500).contains(&counts[0]) && counts[1] == 0, "{counts:?}");
        assert_eq!((0..10_000).filter(|_| dice.often(0)).count(), 0);
    }
}
