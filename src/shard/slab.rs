//! A list that grows by chunks, so that what is in it is never moved: growth takes no pause and no second copy.

use std::ops::{Index, IndexMut};

/// Entries of a chunk.
const CHUNK: usize = 4_096;

#[derive(Debug)]
pub struct Slab<T> {
    /// All full but the last.
    chunks: Vec<Vec<T>>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { chunks: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Appends an entry; its place.
    pub fn push(&mut self, entry: T) -> usize {
        let place = self.len();
        if place.is_multiple_of(CHUNK) {
            // A small list, as of a test or a demo, takes little.
            let room = if place == 0 { 16 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(room));
        }
        self.chunks[place / CHUNK].push(entry);
        place
    }

    pub fn len(&self) -> usize {
        self.chunks.last().map_or(0, |last| (self.chunks.len() - 1) * CHUNK + last.len())
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub fn get(&self, place: usize) -> Option<&T> {
        self.chunks.get(place / CHUNK)?.get(place % CHUNK)
    }
}

impl<T> Index<usize> for Slab<T> {
    type Output = T;

    #[inline]
    fn index(&self, place: usize) -> &T {
        &self.chunks[place / CHUNK][place % CHUNK]
    }
}

impl<T> IndexMut<usize> for Slab<T> {
    #[inline]
    fn index_mut(&mut self, place: usize) -> &mut T {
        &mut self.chunks[place / CHUNK][place % CHUNK]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_stay_where_they_were_put() {
        let mut slab = Slab::default();
        assert!(slab.is_empty());
        for entry in 0..3 * CHUNK + 7 {
            assert_eq!((slab.push(entry), slab.len()), (entry, entry + 1));
        }
        slab[CHUNK] += 1;
        assert_eq!([slab[CHUNK - 1], slab[CHUNK], slab[3 * CHUNK + 6]], [CHUNK - 1, CHUNK + 1, 3 * CHUNK + 6]);
        assert_eq!((slab.get(3 * CHUNK + 6), slab.get(3 * CHUNK + 7)), (Some(&(3 * CHUNK + 6)), None));
    }
}
