//! The users of an account, by index in the order in which they appeared.

use std::hash::BuildHasher;

use compact_str::CompactString;
use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::account::Rule;
use super::catalog::{GroupId, LimitIndex};
use super::limits::LimitState;
use super::slim;

pub(crate) type UserIndex = u32;

#[derive(Clone, Debug, Default)]
pub(crate) struct Users {
    list: Vec<User>,
    /// Hashes of the names, by index; only while there are not many.
    hashes: Vec<u32>,
    /// Indices by name; only when there are many.
    index: Option<Box<HashTable<UserIndex>>>,
    /// Raised when a period begins: users appear anew.
    pub seats_epoch: u32,
    /// How many appeared in the present epoch.
    pub appeared: u32,
    /// Raised when a period begins or the plan changes: denials are told anew.
    pub denied_epoch: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct User {
    pub name: CompactString,
    /// States of the limits of users that it counted in or has an own cap for, in order of the limit.
    pub limits: Vec<(LimitIndex, LimitState)>,
    /// In which seats epoch it last appeared, and as which; 0 is never.
    pub appeared: (u32, u32),
    pub extra: Option<Box<UserExtra>>,
}

#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub(crate) struct UserExtra {
    /// Groups that it may not use, in order of the catalog.
    pub deny: Vec<GroupId>,
    /// Rules told to it in `denied_epoch`.
    pub denied: Vec<Rule>,
    pub denied_epoch: u32,
}

/// With fewer users than this a look through the hashes is quicker than a table.
const INDEXED_FROM: usize = 65;

impl Users {
    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &User> {
        self.list.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut User> {
        self.list.iter_mut()
    }

    pub fn get(&self, index: UserIndex) -> &User {
        &self.list[index as usize]
    }

    pub fn get_mut(&mut self, index: UserIndex) -> &mut User {
        &mut self.list[index as usize]
    }

    pub fn find(&self, name: &str) -> Option<UserIndex> {
        match &self.index {
            Some(index) => index.find(hash(name), |at| *self.list[*at as usize].name == *name).copied(),
            None => {
                let short = hash(name) as u32;
                let is_it = |at: &usize| self.hashes[*at] == short && *self.list[*at].name == *name;
                (0..self.hashes.len()).find(is_it).map(|at| at as UserIndex)
            }
        }
    }

    /// As [`Users::find`], without a look at the name.
    pub fn likely(&self, name: &str) -> Option<UserIndex> {
        match &self.index {
            Some(index) => index.iter_hash(hash(name)).next().copied(),
            None => {
                let short = hash(name) as u32;
                self.hashes.iter().position(|hash| *hash == short).map(|at| at as UserIndex)
            }
        }
    }

    /// The index of `name`, a new one if it is not known.
    pub fn intern(&mut self, name: &str) -> UserIndex {
        if let Some(index) = self.find(name) {
            return index;
        }
        self.push(User { name: name.into(), limits: Vec::new(), appeared: (0, 0), extra: None })
    }

    /// Adds a user whose name is not yet known.
    pub fn push(&mut self, user: User) -> UserIndex {
        let at = self.list.len() as UserIndex;
        slim::push(&mut self.list, user);
        let list = &self.list;
        match &mut self.index {
            Some(index) => {
                index.insert_unique(hash(&list[at as usize].name), at, |at| hash(&list[*at as usize].name));
            }
            None if list.len() >= INDEXED_FROM => {
                let mut index = HashTable::with_capacity(2 * list.len());
                for at in 0..list.len() as UserIndex {
                    index.insert_unique(hash(&list[at as usize].name), at, |at| hash(&list[*at as usize].name));
                }
                self.index = Some(Box::new(index));
                self.hashes = Vec::new();
            }
            None => slim::push(&mut self.hashes, hash(&list[at as usize].name) as u32),
        }
        at
    }

    /// Users appear anew, and denials are told anew.
    pub fn begin_period(&mut self) {
        self.seats_epoch += 1;
        self.appeared = 0;
        self.denied_epoch += 1;
    }

    /// Denials are told anew.
    pub fn change_plan(&mut self) {
        self.denied_epoch += 1;
    }

    /// Notes that a user appears in the present period, and gives as which.
    pub fn appear(&mut self, user: UserIndex) -> u32 {
        let epoch = self.seats_epoch;
        let entry = &mut self.list[user as usize];
        if entry.appeared.0 != epoch {
            self.appeared += 1;
            entry.appeared = (epoch, self.appeared);
        }
        entry.appeared.1
    }

    /// The rules told to a user since the period or the plan began.
    pub fn denied_mut(&mut self, user: UserIndex) -> &mut Vec<Rule> {
        let epoch = self.denied_epoch;
        let extra = self.list[user as usize].extra.get_or_insert_default();
        if extra.denied_epoch != epoch {
            extra.denied_epoch = epoch;
            extra.denied.clear();
        }
        &mut extra.denied
    }

    /// All indices, by the bytes of their names.
    pub fn by_name(&self) -> Vec<UserIndex> {
        let mut order: Vec<UserIndex> = (0..self.list.len() as UserIndex).collect();
        order.sort_unstable_by(|a, b| self.get(*a).name.cmp(&self.get(*b).name));
        order
    }
}

impl User {
    pub fn limit(&self, limit: LimitIndex) -> Option<&LimitState> {
        let at = self.limits.binary_search_by_key(&limit, |entry| entry.0).ok()?;
        Some(&self.limits[at].1)
    }

    /// The state of `limit`, made by `new` if there is none.
    pub fn limit_mut(&mut self, limit: LimitIndex, new: impl FnOnce() -> LimitState) -> &mut LimitState {
        let at = match self.limits.binary_search_by_key(&limit, |entry| entry.0) {
            Ok(at) => at,
            Err(at) => {
                slim::make_room(&mut self.limits);
                self.limits.insert(at, (limit, new()));
                at
            }
        };
        &mut self.limits[at].1
    }

    pub fn denies(&self) -> &[GroupId] {
        self.extra.as_ref().map_or(&[], |extra| &extra.deny)
    }
}

/// Fixed, so that runs are alike; its order is never looked at.
fn hash(name: &str) -> u64 {
    FixedState::with_seed(0x6d65_7465_7264).hash_one(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_with_and_without_a_table() {
        let mut users = Users::default();
        for n in 0..100 {
            assert_eq!(users.find(&format!("u{n}")), None);
            assert_eq!(users.intern(&format!("u{n}")), n);
            for known in 0..=n {
                assert_eq!(users.find(&format!("u{known}")), Some(known), "among {}", n + 1);
            }
        }
        assert_eq!(users.intern("u7"), 7);
        let names: Vec<&str> = users.by_name().into_iter().map(|user| &*users.get(user).name).collect();
        assert!(names.is_sorted() && names.len() == 100);
    }

    #[test]
    fn users_appear_anew_in_each_period() {
        let mut users = Users::default();
        users.begin_period();
        let (ana, ben) = (users.intern("ana"), users.intern("ben"));
        assert_eq!([users.appear(ben), users.appear(ana), users.appear(ben)], [1, 2, 1]);
        users.denied_mut(ana).push(Rule::Plan);
        users.begin_period();
        assert_eq!([users.appear(ana), users.appear(ben)], [1, 2]);
        assert_eq!(users.denied_mut(ana), &[]);
    }
}
