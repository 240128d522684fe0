use crate::engine::{Account, Catalogs};
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PartKey { pub kind: u8, pub index: u32 }
impl PartKey { pub const HEAD: PartKey = PartKey { kind: 0, index: 0 }; }
pub struct Part { pub key: PartKey, pub bytes: Vec<u8> }
pub fn encode(_a: &Account, _c: &Catalogs, _o: &mut Vec<Part>) {}
pub fn decode(_p: &[(PartKey, &[u8])], _c: &Catalogs) -> Result<Account, String> { Err(String::new()) }
