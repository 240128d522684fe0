//! Lists of which most accounts have an entry or two: of accounts there are millions. Those that nearly always have so few
//! keep them in place ([`SmallVec`]).

use smallvec::SmallVec;

/// Makes room for one more entry, with little to spare: room for 1, 2, 3, 4, 6, 9, 13, ...
pub(super) fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 2).max(1));
    }
}

/// As [`make_room`].
pub(super) fn make_room_in<T, const N: usize>(list: &mut SmallVec<[T; N]>) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 2).max(1));
    }
}

pub(super) fn push<T>(list: &mut Vec<T>, entry: T) {
    make_room(list);
    list.push(entry);
}
