//! Rows by name, and rows by user.

use std::sync::Arc;

use hashbrown::HashTable;
use smallvec::SmallVec;

use super::names::hash_of;
use super::{NAMES_MAX, Name, OTHERS, Tally, slim};

/// Rows by name, in order of first appearance; the `FIRST` ones stand in the table itself. Few names are compared by
/// address; many are found by hash.
#[derive(Clone, Debug)]
pub struct Table<T, const FIRST: usize> {
    rows: SmallVec<[(Arc<str>, T); FIRST]>,
    /// Place of `*`.
    others: Option<u32>,
    /// Places by hash of the name, where there are more than [`FEW`].
    places: Option<Box<HashTable<u32>>>,
}

/// Rows by index of the user, in order of first appearance, which is often that of the index.
#[derive(Clone, Debug, Default)]
pub struct UserTable {
    rows: Vec<(u32, Tally)>,
    /// By user: place of its row + 1; 0 where there is none. Empty while every row stands at its user's index.
    places: Vec<u32>,
}

const FEW: usize = 16;

impl<T, const FIRST: usize> Default for Table<T, FIRST> {
    fn default() -> Self {
        Table { rows: SmallVec::new(), others: None, places: None }
    }
}

impl<T: PartialEq, const FIRST: usize> PartialEq for Table<T, FIRST> {
    fn eq(&self, other: &Self) -> bool {
        self.rows == other.rows
    }
}

impl PartialEq for UserTable {
    fn eq(&self, other: &UserTable) -> bool {
        self.rows == other.rows
    }
}

impl<T: Default, const FIRST: usize> Table<T, FIRST> {
    /// The row of `name`, or of `*` where the table is full.
    #[inline]
    pub fn row(&mut self, name: &Name) -> &mut T {
        let place = match self.place_by_address(name) {
            Some(place) => place,
            None => self.place_by_text(name),
        };
        &mut self.rows[place].1
    }

    /// The row of `text`, or of `*` where the table is full.
    pub fn find(&self, text: &str) -> Option<&T> {
        let own = self.place(hash_of(text), text);
        let others = || self.others.filter(|_| self.named() >= NAMES_MAX).map(|place| place as usize);
        own.or_else(others).map(|place| &self.rows[place].1)
    }
}

impl<T: Default, const FIRST: usize> Table<T, FIRST> {
    pub fn rows(&self) -> impl Iterator<Item = (&str, &T)> {
        self.rows.iter().map(|(name, row)| (&**name, row))
    }

    /// Reads a word of its first rows ahead, see `engine/ahead.rs`.
    pub fn fetch(&self, word: impl Fn(&T) -> u64) -> u64 {
        self.rows.iter().take(8).fold(0, |sum, (_, row)| sum ^ word(row))
    }

    /// Appends a row whose name is new.
    pub fn restore(&mut self, name: Arc<str>, row: T) {
        let hash = hash_of(&name);
        self.push(name, hash, row);
    }

    /// Rows but the one of `*`.
    fn named(&self) -> usize {
        self.rows.len() - usize::from(self.others.is_some())
    }

    #[inline]
    fn place_by_address(&self, name: &Name) -> Option<usize> {
        self.rows.iter().take(FEW).position(|(known, _)| Arc::ptr_eq(known, &name.text))
    }

    /// A name that was read from a store is found by its text, and then takes the address of the shared one.
    fn place_by_text(&mut self, name: &Name) -> usize {
        if let Some(place) = self.place(name.hash, &name.text) {
            if place < FEW {
                self.rows[place].0 = Arc::clone(&name.text);
            }
            return place;
        }
        if self.named() < NAMES_MAX {
            return self.push(Arc::clone(&name.text), name.hash, T::default());
        }
        match self.others {
            Some(place) => place as usize,
            None => self.push(OTHERS.into(), hash_of(OTHERS), T::default()),
        }
    }

    fn place(&self, hash: u64, text: &str) -> Option<usize> {
        match &self.places {
            None => self.rows.iter().position(|(name, _)| **name == *text),
            Some(places) => {
                places.find(hash, |place| *self.rows[*place as usize].0 == *text).map(|place| *place as usize)
            }
        }
    }

    fn push(&mut self, name: Arc<str>, hash: u64, row: T) -> usize {
        let place = self.rows.len();
        if *name == *OTHERS {
            self.others = Some(place as u32);
        }
        slim::make_room_in(&mut self.rows);
        self.rows.push((name, row));
        let rows = &self.rows;
        let rehash = |place: &u32| hash_of(&rows[*place as usize].0);
        match &mut self.places {
            Some(places) => {
                places.insert_unique(hash, place as u32, rehash);
            }
            None if place < FEW => {}
            None => {
                let mut places = HashTable::with_capacity(place * 2);
                for (place, (name, _)) in rows.iter().enumerate() {
                    places.insert_unique(hash_of(name), place as u32, rehash);
                }
                self.places = Some(Box::new(places));
            }
        }
        place
    }
}

impl UserTable {
    pub fn row(&mut self, user: u32) -> &mut Tally {
        let slot = user as usize;
        let place = match self.rows.get(slot) {
            Some((there, _)) if *there == user => slot,
            _ => self.place(user),
        };
        &mut self.rows[place].1
    }

    /// Reads a word of where the user's row is ahead, most likely.
    pub fn fetch(&self, user: u32) -> u64 {
        self.rows.get(user as usize).map_or(0, |(_, tally)| tally.records)
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn rows(&self) -> impl Iterator<Item = (u32, &Tally)> {
        self.rows.iter().map(|(user, row)| (*user, row))
    }

    fn place(&mut self, user: u32) -> usize {
        let slot = user as usize;
        if self.places.is_empty() {
            if slot == self.rows.len() {
                slim::push(&mut self.rows, (user, Tally::default()));
                return slot;
            }
            self.places = (1..=self.rows.len() as u32).collect();
        }
        if slot >= self.places.len() {
            self.places.resize(slot + 1, 0);
        }
        if self.places[slot] == 0 {
            slim::push(&mut self.rows, (user, Tally::default()));
            self.places[slot] = self.rows.len() as u32;
        }
        self.places[slot] as usize - 1
    }
}
