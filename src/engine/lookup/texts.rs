//! Patterns as keys: exact texts and prefixes, found by hash.

use hashbrown::HashMap;

use crate::engine::catalog::Pattern;

/// Values by pattern.
#[derive(Debug)]
pub struct Texts<T> {
    exact: HashMap<Box<str>, T>,
    prefixes: HashMap<Box<[u8]>, T>,
    /// Lengths of the prefixes in bytes, ascending, each once.
    lengths: Vec<usize>,
}

/// A set of patterns: a few are compared one by one, many found by hash.
#[derive(Debug)]
pub enum TextSet {
    Few(Vec<Pattern>),
    Many(Texts<()>),
}

impl<T> Default for Texts<T> {
    fn default() -> Texts<T> {
        Texts { exact: HashMap::new(), prefixes: HashMap::new(), lengths: Vec::new() }
    }
}

impl<T> Texts<T> {
    /// Calls `found` with the value of each pattern that `text` fits.
    #[inline]
    pub fn hits(&self, text: &str, mut found: impl FnMut(&T)) {
        if !self.exact.is_empty()
            && let Some(value) = self.exact.get(text)
        {
            found(value);
        }
        for length in &self.lengths {
            let Some(start) = text.as_bytes().get(..*length) else { return };
            if let Some(value) = self.prefixes.get(start) {
                found(value);
            }
        }
    }

    pub fn entry(&mut self, pattern: &Pattern) -> &mut T
    where
        T: Default,
    {
        if !pattern.prefix {
            return self.exact.entry(pattern.text.clone()).or_default();
        }
        if let Err(place) = self.lengths.binary_search(&pattern.text.len()) {
            self.lengths.insert(place, pattern.text.len());
        }
        self.prefixes.entry(pattern.text.as_bytes().into()).or_default()
    }

    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> Texts<U> {
        Texts {
            exact: self.exact.into_iter().map(|(text, value)| (text, change(value))).collect(),
            prefixes: self.prefixes.into_iter().map(|(text, value)| (text, change(value))).collect(),
            lengths: self.lengths,
        }
    }
}

impl TextSet {
    const FEW: usize = 4;

    pub fn new(patterns: &[Pattern]) -> TextSet {
        if patterns.len() <= TextSet::FEW {
            return TextSet::Few(patterns.to_vec());
        }
        let mut texts = Texts::default();
        for pattern in patterns {
            let () = *texts.entry(pattern);
        }
        TextSet::Many(texts)
    }

    #[inline]
    pub fn fits(&self, text: &str) -> bool {
        match self {
            TextSet::Few(patterns) => patterns.iter().any(|pattern| pattern.fits(text)),
            TextSet::Many(texts) => {
                let mut found = false;
                texts.hits(text, |()| found = true);
                found
            }
        }
    }
}
