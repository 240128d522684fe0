//! How an account is stored: a head, and pages of what may be many.
//!
//! A page holds a fixed range of users, grants, sessions, identities or rows of totals, so that its bytes change only when
//! something in it does. Where all pages together are small they stand in the head, but for older panes of sliding windows,
//! which change least; else each is a part of its own, cut into chunks of at most 64 KiB. What belongs to an account is
//! what its head counts; other parts are of the past.
//!
//! Every part begins with [`VERSION`]; the first chunk of a page then says how many follow. Everything else is postcard.
//! Ids are those of the catalog that the head names by its hash. The same state gives the same bytes.

mod head;
mod pages;

use std::collections::BTreeMap;
use std::ops::Range;

use postcard::ser_flavors::Flavor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::engine::{Account, Catalogs, Ms};

/// Of the stored form; raised when it changes in a way that older programs cannot read.
const VERSION: u8 = 3;
const PART_BYTES_MAX: usize = 60_000;
const CHUNK_BITS: u32 = 6;
/// Pages of this size together are kept in the head.
const INLINE_BYTES_MAX: usize = 2_048;

/// Names a part of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartKey {
    pub kind: u8,
    pub index: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub key: PartKey,
    pub bytes: Vec<u8>,
}

/// Why stored parts are not an account.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error(
        "expected stored state of version {VERSION}, found {0}; run the version of meterd that wrote it, or a later one"
    )]
    Version(u8),
    #[error("expected part {0:?}, found none")]
    Missing(PartKey),
    #[error("part {key:?} is damaged: {message}")]
    Damaged { key: PartKey, message: String },
    #[error("expected the catalog {0} among those stored, found none")]
    UnknownCatalog(String),
}

impl PartKey {
    pub const HEAD: PartKey = PartKey { kind: 0, index: 0 };
}

/// A page before it is cut, by what it holds and which one it is.
pub(crate) type PageKey = (u8, u32);

/// Pages in the order in which they were added, with where their bytes stand.
#[derive(Default)]
pub(crate) struct Pages {
    bytes: Vec<u8>,
    places: Vec<(PageKey, Range<usize>)>,
}

/// Encodes accounts one after the other; its buffers are used again.
#[derive(Default)]
pub struct Encoder {
    pages: Pages,
    bytes: Vec<u8>,
    parts: Vec<(PartKey, Range<usize>)>,
}

/// The parts of an account just encoded: the head first, then pages in order of their keys.
#[derive(Clone, Copy)]
pub struct Parts<'a> {
    bytes: &'a [u8],
    list: &'a [(PartKey, Range<usize>)],
}

impl Encoder {
    pub fn encode(&mut self, account: &Account, catalogs: &Catalogs) -> Parts<'_> {
        let Encoder { pages, bytes: out, parts } = self;
        pages.bytes.clear();
        pages.places.clear();
        out.clear();
        parts.clear();
        let head = head::Head::of(account, catalogs, pages);
        let Pages { bytes, places } = pages;
        places.sort_unstable_by_key(|(key, _)| *key);
        let may_be_inline = |(key, _): &&(PageKey, Range<usize>)| key.0 != pages::PANES;
        let inline_bytes: usize = places.iter().filter(may_be_inline).map(|(_, place)| place.len()).sum();
        let is_inline = |page: &&(PageKey, Range<usize>)| inline_bytes <= INLINE_BYTES_MAX && may_be_inline(page);
        out.push(VERSION);
        append(out, &head);
        // A list of keys with bytes.
        append(out, &(places.iter().filter(is_inline).count() as u32));
        for (key, place) in places.iter().filter(is_inline) {
            append(out, key);
            append(out, &(place.len() as u32));
            out.extend_from_slice(&bytes[place.clone()]);
        }
        parts.push((PartKey::HEAD, 0..out.len()));
        for ((kind, page), place) in places.iter().filter(|page| !is_inline(page)) {
            let chunks = bytes[place.clone()].chunks(PART_BYTES_MAX);
            let last = chunks.len() as u8 - 1;
            for (place, chunk) in chunks.enumerate() {
                let start = out.len();
                out.push(VERSION);
                if place == 0 {
                    out.push(last);
                }
                out.extend_from_slice(chunk);
                parts.push((PartKey { kind: *kind, index: page << CHUNK_BITS | place as u32 }, start..out.len()));
            }
        }
        Parts { bytes: out, list: parts }
    }
}

impl<'a> Parts<'a> {
    pub fn iter(self) -> impl Iterator<Item = (PartKey, &'a [u8])> {
        self.list.iter().map(move |(key, place)| (*key, &self.bytes[place.clone()]))
    }

    pub fn head(self) -> &'a [u8] {
        self.list.first().map_or(&[], |(_, place)| &self.bytes[place.clone()])
    }

    /// All but the head.
    pub fn rest(self) -> impl Iterator<Item = (PartKey, &'a [u8])> {
        self.iter().skip(1)
    }

    pub fn bytes_len(self) -> usize {
        self.bytes.len()
    }
}

/// Appends the parts of an account, to be kept.
pub fn encode(account: &Account, catalogs: &Catalogs, out: &mut Vec<Part>) {
    let mut encoder = Encoder::default();
    let parts = encoder.encode(account, catalogs);
    out.extend(parts.iter().map(|(key, bytes)| Part { key, bytes: bytes.to_vec() }));
}

/// What the head of an account says before anything else: as much as is needed while it is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
pub struct Outline {
    /// When its next timer is due.
    pub due: Option<Ms>,
    /// Hash of the catalog whose ids it uses; a stub uses none.
    pub catalog: Option<[u8; 16]>,
}

impl Outline {
    pub fn exists(&self) -> bool {
        self.catalog.is_some()
    }

    /// Whether its catalog is among those that are known.
    pub fn check(&self, catalogs: &Catalogs) -> Result<(), DecodeError> {
        self.catalog.map_or(Ok(()), |hash| pages::catalog_by(&hash, catalogs).map(|_| ()))
    }
}

/// Reads the outline of an account from its head.
pub fn outline(head: &[u8]) -> Result<Outline, DecodeError> {
    let bytes = match head.split_first() {
        None => return Err(DecodeError::Missing(PartKey::HEAD)),
        Some((&VERSION, bytes)) => bytes,
        Some((version, _)) => return Err(DecodeError::Version(*version)),
    };
    let (outline, _) = postcard::take_from_bytes(bytes)
        .map_err(|error| DecodeError::Damaged { key: PartKey::HEAD, message: error.to_string() })?;
    Ok(outline)
}

/// Puts an account together from its parts. Parts that its head does not count are ignored.
pub fn decode(parts: &[(PartKey, &[u8])], catalogs: &Catalogs) -> Result<Account, DecodeError> {
    let parts: BTreeMap<PartKey, &[u8]> = parts.iter().copied().collect();
    let damaged = |error: postcard::Error| DecodeError::Damaged { key: PartKey::HEAD, message: error.to_string() };
    let bytes = part(&parts, PartKey::HEAD)?;
    let (head, rest): (head::Head<'_>, &[u8]) = postcard::take_from_bytes(bytes).map_err(damaged)?;
    let inline: Vec<(PageKey, &[u8])> = postcard::from_bytes(rest).map_err(damaged)?;
    let stored = Stored { inline: inline.into_iter().collect(), parts };
    head.account(&stored, catalogs)
}

/// What pages are read from.
pub(crate) struct Stored<'a> {
    inline: BTreeMap<PageKey, &'a [u8]>,
    parts: BTreeMap<PartKey, &'a [u8]>,
}

impl Pages {
    /// Adds a page; an empty one is none.
    fn add<T: Serialize>(&mut self, key: PageKey, items: &[T]) {
        if !items.is_empty() {
            let start = self.bytes.len();
            append(&mut self.bytes, items);
            self.places.push((key, start..self.bytes.len()));
        }
    }
}

impl Stored<'_> {
    fn page<T: DeserializeOwned>(&self, (kind, page): PageKey) -> Result<Vec<T>, DecodeError> {
        let first = PartKey { kind, index: page << CHUNK_BITS };
        if let Some(bytes) = self.inline.get(&(kind, page)) {
            return from_bytes(first, bytes);
        }
        let bytes = part(&self.parts, first)?;
        let Some((last, bytes)) = bytes.split_first() else {
            return Err(DecodeError::Damaged {
                key: first,
                message: "expected the count of chunks, found the end".into(),
            });
        };
        let mut all = bytes.to_vec();
        for chunk in 1..=u32::from(*last) {
            all.extend_from_slice(part(&self.parts, PartKey { kind, index: first.index | chunk })?);
        }
        from_bytes(first, &all)
    }
}

fn part<'a>(parts: &BTreeMap<PartKey, &'a [u8]>, key: PartKey) -> Result<&'a [u8], DecodeError> {
    match parts.get(&key).ok_or(DecodeError::Missing(key))?.split_first() {
        Some((&VERSION, rest)) => Ok(rest),
        Some((version, _)) => Err(DecodeError::Version(*version)),
        None => Err(DecodeError::Damaged { key, message: "expected a version, found the end".into() }),
    }
}

/// What is serialised is appended to a buffer.
struct Append<'a>(&'a mut Vec<u8>);

impl Flavor for Append<'_> {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(data);
        Ok(())
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.0.push(data);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

fn append<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) {
    postcard::serialize_with_flavor(value, Append(bytes))
        .expect("what is stored has lengths and no floats or maps of unknown size");
}

fn from_bytes<T: DeserializeOwned>(key: PartKey, bytes: &[u8]) -> Result<T, DecodeError> {
    postcard::from_bytes(bytes).map_err(|error| DecodeError::Damaged { key, message: error.to_string() })
}
