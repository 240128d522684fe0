//! Records of the state topic: parts of accounts, fold configurations by hash, and the partition's genesis.
//!
//! Key: a kind byte (1 account part, 2 fold configuration, 3 genesis); for a part its kind (1 byte) and index (4 bytes, big-endian),
//! then the account's id; for a configuration its hash (16 bytes).
//! Value of a part: format version (1 byte), CRC-32 of the rest (4 bytes, little-endian), the batch it is as of (8 bytes,
//! little-endian), the part's bytes. Values of the others: version, CRC-32, postcard.
//! Keys are never deleted: a deleted account leaves a stub, because its notices go on counting.

use super::PartKey;

const VERSION: u8 = 1;
const ACCOUNT: u8 = 1;
const CONFIGURATION: u8 = 2;
const GENESIS: u8 = 3;

/// A record of the state topic, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub enum StateRecord<'a> {
    Part { account: &'a str, key: PartKey, as_of: u64, bytes: &'a [u8] },
    Configuration { hash: [u8; 16], bytes: &'a [u8] },
    Genesis { bytes: &'a [u8] },
}

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("a key of {length} bytes that is neither an account part nor a configuration")]
    Key { length: usize },
    #[error("state version {found}; this meterd reads version {VERSION}: start the version of meterd that wrote it")]
    Version { found: u8 },
    #[error("the checksum differs: the value was damaged")]
    Checksum,
    #[error("a configuration or genesis of another form: another version of meterd wrote it")]
    Content,
    #[error("a value of {length} bytes, cut short")]
    Short { length: usize },
}

/// Appends the key of an account's part.
pub fn push_part_key(bytes: &mut Vec<u8>, account: &str, part: PartKey) {
    bytes.extend([ACCOUNT, part.kind]);
    bytes.extend(part.index.to_be_bytes());
    bytes.extend_from_slice(account.as_bytes());
}

/// Appends the value of an account's part.
pub fn push_part_value(bytes: &mut Vec<u8>, as_of: u64, part: &[u8]) {
    let start = bytes.len();
    bytes.extend([VERSION, 0, 0, 0, 0]);
    bytes.extend(as_of.to_le_bytes());
    bytes.extend_from_slice(part);
    seal(&mut bytes[start..]);
}

pub fn configuration_key(hash: &[u8; 16]) -> Vec<u8> {
    let mut key = vec![CONFIGURATION];
    key.extend(hash);
    key
}

pub fn genesis_key() -> Vec<u8> {
    vec![GENESIS]
}

/// The value of a configuration or a genesis.
pub fn plain_value(bytes: &[u8]) -> Vec<u8> {
    let mut content = vec![VERSION, 0, 0, 0, 0];
    content.extend(bytes);
    seal(&mut content);
    content
}

fn seal(content: &mut [u8]) {
    let checksum = crc32fast::hash(&content[5..]);
    content[1..5].copy_from_slice(&checksum.to_le_bytes());
}

/// Takes a record apart; what it returns borrows from key and value.
pub fn read<'a>(key: &'a [u8], value: &'a [u8]) -> Result<StateRecord<'a>, RecordError> {
    let content = unseal(value)?;
    let bad_key = || RecordError::Key { length: key.len() };
    match key.split_first() {
        Some((&ACCOUNT, rest)) if rest.len() > 5 => {
            let index = u32::from_be_bytes([rest[1], rest[2], rest[3], rest[4]]);
            let account = std::str::from_utf8(&rest[5..]).map_err(|_| bad_key())?;
            let Some((as_of, bytes)) = content.split_first_chunk() else {
                return Err(RecordError::Short { length: value.len() });
            };
            let key = PartKey { kind: rest[0], index };
            Ok(StateRecord::Part { account, key, as_of: u64::from_le_bytes(*as_of), bytes })
        }
        Some((&CONFIGURATION, rest)) => {
            let hash = rest.try_into().map_err(|_| bad_key())?;
            Ok(StateRecord::Configuration { hash, bytes: content })
        }
        Some((&GENESIS, [])) => Ok(StateRecord::Genesis { bytes: content }),
        _ => Err(bad_key()),
    }
}

fn unseal(value: &[u8]) -> Result<&[u8], RecordError> {
    let Some((header, content)) = value.split_first_chunk::<5>() else {
        return Err(RecordError::Short { length: value.len() });
    };
    if header[0] != VERSION {
        return Err(RecordError::Version { found: header[0] });
    }
    if crc32fast::hash(content) != u32::from_le_bytes([header[1], header[2], header[3], header[4]]) {
        return Err(RecordError::Checksum);
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_survives_and_damage_is_seen() {
        let part = PartKey { kind: 3, index: 70_000 };
        let (mut key, mut value) = (Vec::new(), Vec::new());
        push_part_key(&mut key, "acme", part);
        push_part_value(&mut value, 9, b"state");
        let read_back = read(&key, &value).expect("reads");
        assert_eq!(read_back, StateRecord::Part { account: "acme", key: part, as_of: 9, bytes: b"state" });
        for place in 0..value.len() {
            let mut damaged = value.clone();
            damaged[place] ^= 4;
            assert!(read(&key, &damaged).is_err(), "a flipped bit in byte {place} went unseen");
        }
        assert!(read(&key, &value[..3]).is_err());
    }

    #[test]
    fn a_configuration_is_found_by_its_hash() {
        let key = configuration_key(&[7; 16]);
        let value = plain_value(b"text");
        assert_eq!(read(&key, &value).expect("reads"), StateRecord::Configuration { hash: [7; 16], bytes: b"text" });
        assert!(read(&key[..9], &value).is_err());
    }
}
