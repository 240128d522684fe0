//! The fold configuration: everything besides the inputs that decides outcomes. Journal records name it by hash; its
//! content stands in each partition of the state topic, so that old batches are folded again as they were folded.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoldConfiguration {
    /// The catalog file's text.
    pub catalog: String,
    /// The catalog's file name, for messages.
    pub catalog_name: String,
    pub record_bytes_max: u64,
    /// Honour the header of a replay.
    pub accept_replayed: bool,
    pub partitioner: String,
    pub partitions: i32,
    pub group: String,
    /// Names of the input topics, as causes tell them.
    pub topics: [String; 2],
}

impl FoldConfiguration {
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_stdvec(self).expect("encoding into memory has no way to fail")
    }

    pub fn decode(bytes: &[u8]) -> Option<FoldConfiguration> {
        postcard::from_bytes(bytes).ok()
    }

    /// The first 16 bytes of the SHA-256 of its encoding.
    pub fn hash(&self) -> [u8; 16] {
        first_16(&self.encode())
    }
}

/// The first 16 bytes of a SHA-256.
pub fn first_16(bytes: &[u8]) -> [u8; 16] {
    let digest = Sha256::digest(bytes);
    digest[..16].try_into().expect("a SHA-256 has 32 bytes")
}
