//! Where producers place a key: the partitioners in use in the field (docs/reference.md 2).

/// How producers of the inputs choose the partition of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partitioner {
    /// Java, Flink, kafka-python, franz-go.
    Murmur2,
    /// librdkafka (`consistent_random`, `consistent`).
    Crc32,
    /// Sarama.
    Fnv1a,
    /// Unknown: nothing is checked.
    Any,
}

impl Partitioner {
    /// Those that can be computed.
    pub const KNOWN: [Partitioner; 3] = [Partitioner::Murmur2, Partitioner::Crc32, Partitioner::Fnv1a];

    /// The partitioner of a name, as [`Partitioner::name`] gives it.
    pub fn from_name(name: &str) -> Option<Partitioner> {
        [Partitioner::Any].into_iter().chain(Partitioner::KNOWN).find(|known| known.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Partitioner::Murmur2 => "murmur2",
            Partitioner::Crc32 => "crc32",
            Partitioner::Fnv1a => "fnv1a",
            Partitioner::Any => "any",
        }
    }
}

/// The partition of a key among `partitions`, 1 or more; `None` where it cannot be known.
pub fn place(partitioner: Partitioner, key: &[u8], partitions: i32) -> Option<i32> {
    debug_assert!(partitions > 0, "a topic has at least one partition");
    match partitioner {
        // Java masks the sign away.
        Partitioner::Murmur2 => Some((murmur2(key) & 0x7FFF_FFFF) as i32 % partitions),
        Partitioner::Crc32 => Some((crc32fast::hash(key) % partitions as u32) as i32),
        // Sarama takes the remainder of the signed hash, then its absolute value.
        Partitioner::Fnv1a => Some((fnv1a(key) as i32 % partitions).abs()),
        Partitioner::Any => None,
    }
}

/// The partitioners that place the key where it was found.
pub fn explains(key: &[u8], partitions: i32, found: i32) -> Vec<Partitioner> {
    Partitioner::KNOWN.into_iter().filter(|known| place(*known, key, partitions) == Some(found)).collect()
}

/// The message of `wrong_partition`.
pub fn explain_place(expected: Partitioner, key: &[u8], partitions: i32, found: i32) -> String {
    let place = place(expected, key, partitions).unwrap_or(found);
    let explained = explains(key, partitions, found);
    let by = match explained.as_slice() {
        [] => "no partitioner known to meterd places the key there".to_owned(),
        some => {
            let names: Vec<&str> = some.iter().map(|known| known.name()).collect();
            format!(
                "{} would explain it: compare the producer's partitioner with the setting `partitioner`",
                names.join(" or ")
            )
        }
    };
    format!("expected partition {place} of {partitions} ({}), found {found}; {by}", expected.name())
}

/// MurmurHash2 with 32 bits and the seed of the Java client.
fn murmur2(key: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_B28C;
    const MIX: u32 = 0x5BD1_E995;
    let mut hash = SEED ^ key.len() as u32;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut mixed = u32::from_le_bytes(*word).wrapping_mul(MIX);
        mixed ^= mixed >> 24;
        hash = hash.wrapping_mul(MIX) ^ mixed.wrapping_mul(MIX);
    }
    if !tail.is_empty() {
        hash ^= tail.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte));
        hash = hash.wrapping_mul(MIX);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(MIX);
    hash ^ hash >> 15
}

fn fnv1a(key: &[u8]) -> u32 {
    key.iter().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vectors of the Java client's own test of its hash.
    #[test]
    fn murmur2_is_that_of_the_java_client() {
        for (key, expect) in [
            ("21", -973_932_308i32),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, expect, "{key}");
        }
    }

    #[test]
    fn crc32_and_fnv1a_are_the_standard_ones() {
        assert_eq!(crc32fast::hash(b"123456789"), 0xCBF4_3926);
        for (key, expect) in [("", 0x811C_9DC5), ("a", 0xE40C_292C), ("foobar", 0xBF9C_F968)] {
            assert_eq!(fnv1a(key.as_bytes()), expect, "{key}");
        }
    }

    #[test]
    fn names_what_would_explain_a_place() {
        let (key, partitions) = (b"acme".as_slice(), 1_000_003);
        for known in Partitioner::KNOWN {
            let found = place(known, key, partitions).expect("a known partitioner places every key");
            assert_eq!(explains(key, partitions, found), [known]);
            let message = explain_place(Partitioner::Any, key, partitions, found);
            assert!(message.contains(known.name()), "{message}");
        }
        assert_eq!(place(Partitioner::Any, key, 8), None);
        // A hash with the high bit set, as signed and as unsigned.
        assert_eq!(place(Partitioner::Fnv1a, b"a", 7), Some((0xE40C_292Cu32 as i32 % 7).abs()));
    }
}
