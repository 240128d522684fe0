//! The list of accepted identities of a batch, packed: 16 bytes for each, then its record's time as a zigzag varint
//! relative to the batch's clock.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::engine::Ms;
use crate::shard::Identity;

/// Identities with their records' times. Serialises as one byte string.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted(pub Vec<(Identity, Ms)>);

impl Accepted {
    fn pack(&self) -> Vec<u8> {
        let origin = self.0.first().map_or(0, |(_, time)| *time);
        let mut bytes = Vec::with_capacity(10 + self.0.len() * 19);
        push_varint(&mut bytes, zigzag(origin));
        for (identity, time) in &self.0 {
            bytes.extend(identity.high.to_le_bytes());
            bytes.extend(identity.low.to_le_bytes());
            push_varint(&mut bytes, zigzag(time.wrapping_sub(origin)));
        }
        bytes
    }

    fn unpack(mut bytes: &[u8]) -> Option<Accepted> {
        let origin = unzigzag(take_varint(&mut bytes)?);
        let mut list = Vec::with_capacity(bytes.len() / 18);
        while !bytes.is_empty() {
            let (high, rest) = bytes.split_first_chunk()?;
            let (low, rest) = rest.split_first_chunk()?;
            bytes = rest;
            let identity = Identity { high: u64::from_le_bytes(*high), low: u64::from_le_bytes(*low) };
            list.push((identity, origin.wrapping_add(unzigzag(take_varint(&mut bytes)?))));
        }
        Some(Accepted(list))
    }
}

impl Serialize for Accepted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.pack())
    }
}

impl<'de> Deserialize<'de> for Accepted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Accepted, D::Error> {
        let bytes = <&[u8]>::deserialize(deserializer)?;
        Accepted::unpack(bytes).ok_or_else(|| serde::de::Error::custom("a list of identities that is cut short"))
    }
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_packing() {
        let identity = |low| Identity { high: u64::MAX - low, low };
        let list = vec![(identity(1), 1_000), (identity(2), Ms::MAX), (identity(3), Ms::MIN), (identity(4), 999)];
        for accepted in [Accepted::default(), Accepted(list)] {
            let bytes = postcard::to_stdvec(&accepted).expect("encodes");
            assert_eq!(postcard::from_bytes::<Accepted>(&bytes).expect("decodes"), accepted);
        }
        assert!(Accepted::unpack(&[0, 1, 2, 3]).is_none());
    }
}
