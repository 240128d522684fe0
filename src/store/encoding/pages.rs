//! What may be many, by pages.

use std::borrow::Cow;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::head::BalanceHead;
use super::{DecodeError, PageKey, Pages, PartKey, Stored};
use crate::engine::balance::Balance;
use crate::engine::calendar::MonthId;
use crate::engine::catalog::{LimitIndex, UnitId};
use crate::engine::grants::Grant;
use crate::engine::identities::Identities;
use crate::engine::limits::LimitState;
use crate::engine::sessions::{Session, Sessions};
use crate::engine::totals::{Row, RowRef, Totals};
use crate::engine::users::{User, UserExtra, Users};
use crate::engine::window::panes::{GROUPS, Pane, Panes};
use crate::engine::{Catalogs, Ms};

const USERS: u8 = 1;
const GRANTS: u8 = 2;
const LIMITS: u8 = 3;
const SESSIONS: u8 = 4;
const CLOSED_SESSIONS: u8 = 5;
const IDENTITIES: u8 = 6;
pub const PERIODS: u8 = 7;
/// Groups of panes of the account's sliding windows, but the newest.
pub const PANES: u8 = 8;
/// From here on the kind also holds a part of the month.
const TOTALS: u8 = 128;

const USERS_OF_PAGE: usize = 16;
const GRANTS_OF_PAGE: u64 = 32;
const ROWS_OF_PAGE: usize = 32;

/// Which of 64 buckets hold something, one bit each. What has no place of its own goes into a bucket by its hash.
pub type Buckets = u64;

/// The tables of a month with the number of their rows, in order.
#[derive(Serialize, Deserialize)]
pub struct MonthTables {
    month: MonthId,
    rows: Vec<u32>,
}

/// A user, as it is written: of the same form as [`UserRow`].
#[derive(Serialize)]
struct UserRef<'a> {
    name: &'a str,
    limits: &'a [(LimitIndex, LimitState)],
    appeared: (u32, u32),
    extra: Option<&'a UserExtra>,
}

impl UserRef<'_> {
    fn of(user: &User) -> UserRef<'_> {
        let User { name, limits, appeared, extra } = user;
        UserRef { name, limits, appeared: *appeared, extra: extra.as_deref() }
    }
}

#[derive(Deserialize)]
struct UserRow {
    name: CompactString,
    limits: Vec<(LimitIndex, LimitState)>,
    appeared: (u32, u32),
    extra: Option<Box<UserExtra>>,
}

pub fn put_users(users: &Users, pages: &mut Pages) -> u32 {
    let rows: Vec<UserRef<'_>> = users.iter().map(UserRef::of).collect();
    for (page, rows) in rows.chunks(USERS_OF_PAGE).enumerate() {
        pages.add((USERS, page as u32), rows);
    }
    rows.len() as u32
}

pub fn users(count: u32, stored: &Stored<'_>, users: &mut Users) -> Result<(), DecodeError> {
    for page in 0..(count as usize).div_ceil(USERS_OF_PAGE) {
        for row in stored.page::<UserRow>((USERS, page as u32))? {
            let UserRow { name, limits, appeared, extra } = row;
            users.push(User { name, limits, appeared, extra });
        }
    }
    Ok(())
}

/// The account's limits, and which pages hold the older panes of their sliding windows.
pub fn put_limits(limits: &[LimitState], pages: &mut Pages) -> Vec<u32> {
    let mut listed = Vec::new();
    let mut kept = Cow::Borrowed(limits);
    for (place, limit) in limits.iter().enumerate() {
        let older = limit.counter.panes().map_or_else(Vec::new, Panes::older_groups);
        if !older.is_empty()
            && let Some(panes) = kept.to_mut()[place].counter.panes_mut()
        {
            panes.keep_newest_group();
        }
        for (group, panes) in older {
            let page = place as u32 * GROUPS + group;
            pages.add((PANES, page), &panes);
            listed.push(page);
        }
    }
    pages.add((LIMITS, 0), &kept);
    listed
}

pub fn limits(listed: &[u32], stored: &Stored<'_>) -> Result<Vec<LimitState>, DecodeError> {
    let mut limits = stored.page::<LimitState>((LIMITS, 0))?;
    for of_limit in listed.chunk_by(|a, b| a / GROUPS == b / GROUPS) {
        let mut older = Vec::new();
        for page in of_limit {
            older.extend(stored.page::<Pane>((PANES, *page))?);
        }
        let limit = limits.get_mut((of_limit[0] / GROUPS) as usize);
        let Some(panes) = limit.and_then(|limit| limit.counter.panes_mut()) else {
            let message = "expected a sliding window for its panes, found none".to_owned();
            return Err(DecodeError::Damaged { key: PartKey::HEAD, message });
        };
        panes.join(older);
    }
    Ok(limits)
}

/// A grant with its unit, and whether it is in front.
type GrantRow = (UnitId, bool, Grant);

pub fn put_grants(balances: &[Balance], pages: &mut Pages) -> Vec<u32> {
    let mut rows: Vec<(UnitId, bool, &Grant)> = Vec::new();
    for balance in balances {
        let grants = balance.grants().iter().enumerate();
        rows.extend(grants.map(|(place, grant)| (balance.unit, balance.is_in_front(place), grant)));
    }
    rows.sort_unstable_by_key(|(.., grant)| grant.number);
    let mut listed = Vec::new();
    for rows in rows.chunk_by(|a, b| a.2.number / GRANTS_OF_PAGE == b.2.number / GRANTS_OF_PAGE) {
        let page = (rows[0].2.number / GRANTS_OF_PAGE) as u32;
        pages.add((GRANTS, page), rows);
        listed.push(page);
    }
    listed
}

pub fn balances(heads: &[BalanceHead], listed: &[u32], stored: &Stored<'_>) -> Result<Vec<Balance>, DecodeError> {
    let mut rows: Vec<GrantRow> = Vec::new();
    for page in listed {
        rows.extend(stored.page::<GrantRow>((GRANTS, *page))?);
    }
    let restored = |head: &BalanceHead| {
        let of_unit = rows.iter().filter(|row| row.0 == head.unit);
        let (front, behind): (Vec<&GrantRow>, Vec<&GrantRow>) = of_unit.partition(|row| row.1);
        let grants = |rows: Vec<&GrantRow>| rows.into_iter().map(|row| row.2.clone()).collect();
        let mut balance = Balance::restored(head.unit, grants(front), grants(behind));
        balance.debt = head.debt;
        balance.low_told = head.low_told;
        (balance.exhausted, balance.exhausted_told) = (head.exhausted, head.exhausted_told);
        balance
    };
    Ok(heads.iter().map(restored).collect())
}

/// Puts items into 64 pages by their hash, each in the order given.
fn put_buckets<T: Serialize>(kind: u8, items: impl Iterator<Item = (u64, T)>, pages: &mut Pages) -> Buckets {
    let mut buckets: [Vec<T>; 64] = std::array::from_fn(|_| Vec::new());
    for (hash, item) in items {
        buckets[(hash % 64) as usize].push(item);
    }
    let mut used = 0;
    for (page, bucket) in buckets.iter().enumerate().filter(|(_, bucket)| !bucket.is_empty()) {
        pages.add((kind, page as u32), bucket);
        used |= 1 << page;
    }
    used
}

fn buckets<T: serde::de::DeserializeOwned>(
    kind: u8,
    used: Buckets,
    stored: &Stored<'_>,
) -> Result<Vec<T>, DecodeError> {
    let mut all = Vec::new();
    for page in (0..64).filter(|page| used & (1 << page) != 0) {
        all.extend(stored.page::<T>((kind, page))?);
    }
    Ok(all)
}

/// FNV-1a, 64 bits: a hash that is the same in every version.
fn bucket_of(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

pub fn put_identities(identities: &Identities, pages: &mut Pages) -> Buckets {
    let mut list: Vec<(Ms, u128)> = identities.iter().map(|(identity, at)| (at, identity)).collect();
    list.sort_unstable();
    put_buckets(IDENTITIES, list.into_iter().map(|entry| (entry.1 as u64, entry)), pages)
}

pub fn identities(used: Buckets, stored: &Stored<'_>) -> Result<Option<Box<Identities>>, DecodeError> {
    if used == 0 {
        return Ok(None);
    }
    let mut list: Vec<(Ms, u128)> = buckets(IDENTITIES, used, stored)?;
    list.sort_unstable();
    let mut identities = Identities::default();
    list.into_iter().for_each(|(at, identity)| identities.insert(identity, at));
    Ok(Some(Box::new(identities)))
}

/// Sessions with the hash of the catalog that their row is of: its index is not the same in every process.
pub fn put_sessions(sessions: &Sessions, catalogs: &Catalogs, pages: &mut Pages) -> Buckets {
    let row = |(id, session)| {
        let session: &Session = session;
        (bucket_of(id), (id, catalogs.get(session.catalog as usize).hash, Session { catalog: 0, ..session.clone() }))
    };
    put_buckets(SESSIONS, sessions.iter().map(row), pages)
}

pub fn put_closed(sessions: &Sessions, pages: &mut Pages) -> Buckets {
    put_buckets(CLOSED_SESSIONS, sessions.closed().map(|(id, at)| (bucket_of(id), (id, at))), pages)
}

pub fn catalog_by(hash: &[u8; 16], catalogs: &Catalogs) -> Result<usize, DecodeError> {
    catalogs
        .by_hash(hash)
        .ok_or_else(|| DecodeError::UnknownCatalog(hash.iter().map(|byte| format!("{byte:02x}")).collect()))
}

pub fn sessions(
    open: Buckets,
    closed: Buckets,
    stored: &Stored<'_>,
    catalogs: &Catalogs,
) -> Result<Sessions, DecodeError> {
    let mut sessions = Sessions::default();
    for (id, hash, session) in buckets::<(Box<str>, [u8; 16], Session)>(SESSIONS, open, stored)? {
        let catalog = catalog_by(&hash, catalogs)? as u32;
        sessions.insert(&id, Session { catalog, ..session });
    }
    let mut list: Vec<(Box<str>, Ms)> = buckets(CLOSED_SESSIONS, closed, stored)?;
    list.sort_unstable_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
    list.into_iter().for_each(|(id, at)| sessions.remember(&id, at));
    Ok(sessions)
}

pub fn put_totals(totals: &Totals, pages: &mut Pages) -> Vec<MonthTables> {
    let mut months = Vec::new();
    for month in totals.months() {
        let rows: Vec<RowRef<'_>> = month.rows().collect();
        let mut tables = MonthTables { month: month.month, rows: Vec::new() };
        for rows in rows.chunk_by(|a, b| a.table() == b.table()) {
            // Fields get their table in the order in which they came to be; the three before them have fixed places.
            let table = tables.rows.len().max(rows[0].table().min(3) as usize);
            tables.rows.resize(table, 0);
            for (page, rows) in rows.chunks(ROWS_OF_PAGE).enumerate() {
                pages.add(month_page(month.month, table, page), rows);
            }
            tables.rows.push(rows.len() as u32);
        }
        months.push(tables);
    }
    months
}

pub fn totals(months: &[MonthTables], stored: &Stored<'_>) -> Result<Totals, DecodeError> {
    let mut totals = Totals::default();
    for tables in months {
        for (table, rows) in tables.rows.iter().enumerate() {
            for page in 0..(*rows as usize).div_ceil(ROWS_OF_PAGE) {
                for row in stored.page::<Row>(month_page(tables.month, table, page))? {
                    totals.restore(tables.month, row);
                }
            }
        }
    }
    Ok(totals)
}

/// 26 bits: 6 of the month, 8 of the table, 12 of the page. The rest of the month is in the kind.
fn month_page(month: MonthId, table: usize, page: usize) -> PageKey {
    debug_assert!(table < 1 << 8 && page < 1 << 12, "a month has few tables of at most 100,001 rows");
    let month = month as u32;
    (TOTALS | (month / 64 % 128) as u8, ((month % 64) << 20) | ((table as u32) << 12) | page as u32)
}
