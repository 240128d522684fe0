//! Random numbers from a seed that the test prints, so that a failure can be run again with `METERD_TEST_SEED`.

pub struct Random(u64);

impl Random {
    /// From `METERD_TEST_SEED`, else from the clock; the seed is printed with the test's output.
    pub fn seeded(test: &str) -> Random {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
        let seed = match std::env::var("METERD_TEST_SEED") {
            Ok(text) => text.parse().expect("METERD_TEST_SEED is a whole number"),
            Err(_) => now.as_millis() as u64,
        };
        println!("{test}: METERD_TEST_SEED={seed}");
        Random(seed)
    }

    /// Numbers of their own for a part of a test.
    pub fn from(seed: u64) -> Random {
        Random(seed)
    }

    /// SplitMix64: every seed, also 0, gives a good sequence.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in `0..bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub fn one_in(&mut self, chances: u64) -> bool {
        self.below(chances) == 0
    }
}
