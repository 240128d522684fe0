//! Rows by name, and rows by user.

use std::sync::Arc;

use hashbrown::HashTable;

use super::names::hash_of;
use super::{NAMES_MAX, Names, OTHERS, Tally};

/// Rows by name, in order of first appearance. Few names are compared by address; many are found by hash.
#[derive(Clone, Debug)]
pub struct Table<T> {
    names: Vec<Arc<str>>,
    rows: Vec<T>,
    /// Place of `*`.
    others: Option<u32>,
    /// Places by hash of the name, where there are more than [`FEW`].
    places: Option<Box<HashTable<u32>>>,
}

/// Rows by index of the user.
#[derive(Clone, Debug, Default)]
pub struct UserTable {
    /// By user: place of its row + 1; 0 where there is none.
    places: Vec<u32>,
    users: Vec<u32>,
    rows: Vec<Tally>,
}

const FEW: usize = 16;

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table { names: Vec::new(), rows: Vec::new(), others: None, places: None }
    }
}

impl<T: PartialEq> PartialEq for Table<T> {
    fn eq(&self, other: &Table<T>) -> bool {
        self.names == other.names && self.rows == other.rows
    }
}

impl PartialEq for UserTable {
    fn eq(&self, other: &UserTable) -> bool {
        self.users == other.users && self.rows == other.rows
    }
}

impl<T: Default> Table<T> {
    /// The row of `text`, or of `*` where the table is full.
    pub fn row(&mut self, names: &mut Names, text: &str) -> &mut T {
        let hash = hash_of(text);
        let known = names.find(hash, text);
        let place =
            known.and_then(|name| self.place_by_address(name)).or_else(|| self.place_by_text(names, hash, text));
        let place = match place {
            Some(place) => place,
            None if self.named() < NAMES_MAX => self.push(names.intern(hash, text), hash, T::default()),
            None => match self.others {
                Some(place) => place as usize,
                None => self.push(names.intern(hash_of(OTHERS), OTHERS), hash_of(OTHERS), T::default()),
            },
        };
        &mut self.rows[place]
    }

    /// The row of `text`, or of `*` where the table is full.
    pub fn find(&self, text: &str) -> Option<&T> {
        let own = self.place(hash_of(text), text);
        let others = || self.others.filter(|_| self.named() >= NAMES_MAX).map(|place| place as usize);
        own.or_else(others).map(|place| &self.rows[place])
    }
}

impl<T> Table<T> {
    pub fn rows(&self) -> impl Iterator<Item = (&str, &T)> {
        self.names.iter().map(|name| &**name).zip(&self.rows)
    }

    /// Appends a row whose name is new.
    pub fn restore(&mut self, name: Arc<str>, row: T) {
        let hash = hash_of(&name);
        self.push(name, hash, row);
    }

    /// Rows but the one of `*`.
    fn named(&self) -> usize {
        self.names.len() - usize::from(self.others.is_some())
    }

    /// A name that was read from a store is found by its text, and then takes the address of the shared one.
    fn place_by_text(&mut self, names: &mut Names, hash: u64, text: &str) -> Option<usize> {
        let place = self.place(hash, text)?;
        if self.places.is_none() {
            self.names[place] = names.intern(hash, text);
        }
        Some(place)
    }

    fn place_by_address(&self, name: &Arc<str>) -> Option<usize> {
        if self.places.is_some() {
            return None;
        }
        self.names.iter().position(|known| Arc::ptr_eq(known, name))
    }

    fn place(&self, hash: u64, text: &str) -> Option<usize> {
        match &self.places {
            None => self.names.iter().position(|name| **name == *text),
            Some(places) => {
                places.find(hash, |place| *self.names[*place as usize] == *text).map(|place| *place as usize)
            }
        }
    }

    fn push(&mut self, name: Arc<str>, hash: u64, row: T) -> usize {
        let place = self.names.len();
        if *name == *OTHERS {
            self.others = Some(place as u32);
        }
        self.names.push(name);
        self.rows.push(row);
        let names = &self.names;
        let rehash = |place: &u32| hash_of(&names[*place as usize]);
        match &mut self.places {
            Some(places) => {
                places.insert_unique(hash, place as u32, rehash);
            }
            None if place < FEW => {}
            None => {
                let mut places = HashTable::with_capacity(place * 2);
                for (place, name) in names.iter().enumerate() {
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
        if slot >= self.places.len() {
            self.places.resize(slot + 1, 0);
        }
        if self.places[slot] == 0 {
            self.users.push(user);
            self.rows.push(Tally::default());
            self.places[slot] = self.rows.len() as u32;
        }
        &mut self.rows[self.places[slot] as usize - 1]
    }

    pub fn rows(&self) -> impl Iterator<Item = (u32, &Tally)> {
        self.users.iter().copied().zip(&self.rows)
    }
}
