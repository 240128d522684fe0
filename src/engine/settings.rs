//! Commands that give, take or set something of an account that stays on its plan.

use super::account::{Autopay, State};
use super::balance::Draw;
use super::catalog::{Catalog, GroupId, LimitIndex, Measure, Scope, UnitId};
use super::changes::{ACCOUNT, Step};
use super::commands::{Judged, Rejected, effective_from, reject};
use super::effects::Rejection;
use super::exact::fits_scale;
use super::input::{self, CapGiven, Caps, Given, GrantIssue, Setting, Topup, TopupWhat};
use super::issue::NewGrant;
use super::limits::{FormerCap, OwnCap};
use super::subscription::plan_of;
use super::users::UserIndex;
use super::{Amount, Ms};

/// Grants of an account that have not closed.
const GRANTS_MAX: usize = 10_000;
const TOPUP_PRIORITY: u16 = 50;
const ISSUED_PRIORITY: u16 = 20;

impl State {
    pub fn top_up(&mut self, step: &mut Step<'_>, id: &str, topup: &Topup) -> Judged {
        let catalog = step.catalog;
        let (unit, name, given) = match &topup.what {
            TopupWhat::Amount { amount, unit } => (unit_named(catalog, unit)?, "topup", *amount),
            TopupWhat::Pack(name) => match catalog.packs.iter().find(|pack| *pack.name == **name) {
                Some(pack) => (pack.unit, &*pack.name, Given::Exact(pack.amount)),
                None => {
                    return reject(Rejection::UnknownPack, format!("expected a pack of the catalog, found {name:?}"));
                }
            },
        };
        let at = effective_from(catalog, topup.at, step.now)?;
        if self.grace_until().is_some() {
            return reject(Rejection::InGrace, "expected an account whose payment is not overdue, found it in grace");
        }
        if let TopupWhat::Amount { .. } = topup.what {
            enough(catalog, topup)?;
        }
        let amount = positive(given, scale(catalog, unit))?;
        if let Some((price, currency)) = &topup.price {
            let decimals = catalog.currencies.iter().find(|known| *known.name == **currency).map_or(9, |c| c.decimals);
            exact(*price, decimals)?;
        }
        let expires_at = match topup.expires_at {
            Setting::Absent => catalog.topup.expires_after_ms.map(|after| at.saturating_add(after)),
            Setting::Clear => None,
            Setting::Set(expires_at) => Some(expires_at),
        };
        self.holds(unit, amount)?;
        self.room_for_grant(at, expires_at)?;
        let reference = Some(id.into());
        let (effective_at, priority) = (at, TOPUP_PRIORITY);
        let name = name.into();
        let new =
            NewGrant { unit, name, reference, amount, priority, effective_at, expires_at, group: None, period: 0 };
        self.issue(step, new);
        Ok(())
    }

    pub fn issue_grant(&mut self, step: &mut Step<'_>, id: &str, given: &GrantIssue) -> Judged {
        let catalog = step.catalog;
        let unit = unit_named(catalog, &given.unit)?;
        let group = given.group.as_deref().map(|name| group_named(catalog, name)).transpose()?;
        let at = effective_from(catalog, given.at, step.now)?;
        let amount = positive(given.amount, scale(catalog, unit))?;
        self.holds(unit, amount)?;
        self.room_for_grant(at, given.expires_at)?;
        let new = NewGrant {
            unit,
            name: given.name.as_deref().unwrap_or("grant").into(),
            reference: Some(id.into()),
            amount,
            priority: given.priority.unwrap_or(ISSUED_PRIORITY),
            effective_at: at,
            expires_at: given.expires_at,
            group,
            period: 0,
        };
        self.issue(step, new);
        Ok(())
    }

    pub fn adjust(&mut self, step: &mut Step<'_>, id: &str, unit: &str, given: Given) -> Judged {
        let catalog = step.catalog;
        let unit = unit_named(catalog, unit)?;
        let amount = exact(given, scale(catalog, unit))?;
        if amount.is_zero() {
            return reject(Rejection::BadValue, "expected an amount that is not 0, found 0");
        }
        if amount.is_positive() {
            self.holds(unit, amount)?;
            self.room_for_grant(step.now, None)?;
            let (name, reference) = ("adjustment".into(), Some(id.into()));
            let (effective_at, priority, group, period) = (step.now, TOPUP_PRIORITY, None, 0);
            let expires_at = None;
            let new = NewGrant { unit, name, reference, amount, priority, effective_at, expires_at, group, period };
            self.issue(step, new);
            return Ok(());
        }
        self.holds(unit, -amount)?;
        let draw = Draw { amount: -amount, at: step.now, forgive: false, holds: |_| false };
        self.balance_mut(unit).draw(draw, &mut step.changes.ledger);
        self.raise_bulk(-amount);
        Ok(())
    }

    pub fn set_member(&mut self, step: &mut Step<'_>, user: &str, caps: &Caps, deny: Option<&[String]>) -> Judged {
        let catalog = step.catalog;
        let deny = deny.map(|names| groups_named(catalog, names)).transpose()?;
        let caps = self.member_caps(catalog, caps)?;
        if self.users.find(user).is_none() && self.users.len() >= catalog.users_max as usize {
            let message = format!("expected at most {} users of an account, found another", catalog.users_max);
            return reject(Rejection::TooManyUsers, message);
        }
        let user = self.users.intern(user);
        for (limit, cap) in caps {
            self.set_cap(step, limit, user, cap);
        }
        if let Some(deny) = deny {
            self.users.get_mut(user).extra.get_or_insert_default().deny = deny;
        }
        Ok(())
    }

    pub fn set_limit(&mut self, step: &mut Step<'_>, name: &str, cap: Option<Given>) -> Judged {
        let catalog = step.catalog;
        let limit = self.limit_named(catalog, name, |_| true)?;
        let measure = plan_of(catalog, self.plan).limits[usize::from(limit)].measure;
        let cap = cap.map(|given| exact(given, measure_scale(catalog, measure))).transpose()?;
        self.set_cap(step, limit, ACCOUNT, cap.map(OwnCap::Amount));
        Ok(())
    }

    pub fn set_account(
        &mut self,
        step: &mut Step<'_>,
        class: &Setting<String>,
        extra_usage: &Setting<bool>,
        autopay: &Setting<input::Autopay>,
    ) -> Judged {
        let autopay = match autopay {
            Setting::Absent => None,
            Setting::Clear => Some(None),
            Setting::Set(given) => Some(Some(checked_autopay(step.catalog, given)?)),
        };
        match class {
            Setting::Absent => {}
            Setting::Clear => self.class = None,
            Setting::Set(class) => self.class = (class != "standard").then(|| class.as_str().into()),
        }
        match extra_usage {
            Setting::Absent => {}
            Setting::Set(true) => self.extra_usage = true,
            Setting::Clear | Setting::Set(false) => {
                self.extra_usage = false;
                self.end_overflows(step, |_, _| true);
            }
        }
        if let Some(autopay) = autopay {
            self.rare_mut().autopay = autopay;
        }
        Ok(())
    }

    pub fn refund_completed(&mut self, step: &mut Step<'_>, given: Given) -> Judged {
        let plan = plan_of(step.catalog, self.plan);
        let decimals = plan.price.map_or(9, |price| step.catalog.currencies[usize::from(price.currency)].decimals);
        let amount = positive(given, decimals)?;
        if plan.refund.is_none() {
            return reject(Rejection::NotRefundable, format!("expected a plan with a refund, found {}", plan.name));
        }
        self.complete_refund(step, amount);
        Ok(())
    }

    /// Sums stay under 10²⁰.
    pub fn holds(&self, unit: UnitId, amount: Amount) -> Judged {
        if self.bulk + amount < Amount::TOTAL_LIMIT {
            return Ok(());
        }
        let granted = self.period.sums.as_ref().and_then(|sums| sums.granted.iter().find(|entry| entry.0 == unit));
        let granted = granted.map_or(Amount::ZERO, |entry| entry.1);
        let balance = self.balance(unit);
        let held = balance.map_or(Amount::ZERO, |balance| balance.held.max(balance.debt));
        if granted.max(held).max(self.pool) + amount >= Amount::TOTAL_LIMIT {
            return reject(Rejection::BadValue, "expected sums under 10^20, found that this would bring one to that");
        }
        Ok(())
    }

    fn room_for_grant(&self, at: Ms, expires_at: Option<Ms>) -> Judged {
        if expires_at.is_some_and(|expires_at| expires_at <= at) {
            return reject(
                Rejection::BadValue,
                "expected an expires_at after the start of the grant, found one before",
            );
        }
        if self.grants_open() >= GRANTS_MAX {
            let message = format!("expected at most {GRANTS_MAX} grants that have not closed, found another");
            return reject(Rejection::TooManyGrants, message);
        }
        Ok(())
    }

    fn member_caps(&self, catalog: &Catalog, caps: &Caps) -> Result<Vec<(LimitIndex, Option<OwnCap>)>, Rejected> {
        let limits = &plan_of(catalog, self.plan).limits;
        match caps {
            Caps::Absent => Ok(Vec::new()),
            Caps::ClearAll => {
                let of_users = limits.iter().enumerate().filter(|(_, limit)| limit.scope == Scope::User);
                Ok(of_users.map(|(place, _)| (place as LimitIndex, None)).collect())
            }
            Caps::Each(list) => {
                let mut named = Vec::new();
                for (name, cap) in list {
                    named.push((self.limit_named(catalog, name, |scope| scope == Scope::User)?, *cap));
                }
                let checked = |(limit, cap): (LimitIndex, Option<CapGiven>)| {
                    let cap = cap.map(|cap| self.checked_cap(catalog, limit, cap)).transpose()?;
                    Ok((limit, cap))
                };
                named.into_iter().map(checked).collect()
            }
        }
    }

    fn checked_cap(&self, catalog: &Catalog, limit: LimitIndex, given: CapGiven) -> Result<OwnCap, Rejected> {
        let plan = plan_of(catalog, self.plan);
        let limit = &plan.limits[usize::from(limit)];
        match given {
            CapGiven::Amount(given) => Ok(OwnCap::Amount(exact(given, measure_scale(catalog, limit.measure))?)),
            CapGiven::Percent(given) => {
                let percent = positive(given, 9)?;
                if percent > Amount::whole(100) {
                    return reject(Rejection::BadValue, format!("expected a percentage up to 100, found {percent}"));
                }
                if plan.unit.map(Measure::Unit) != Some(limit.measure) {
                    let message = format!("expected a limit in the plan's unit for a share, found {}", limit.name);
                    return reject(Rejection::BadValue, message);
                }
                Ok(OwnCap::Percent(percent))
            }
        }
    }

    fn limit_named(
        &self,
        catalog: &Catalog,
        name: &str,
        scope: impl Fn(Scope) -> bool,
    ) -> Result<LimitIndex, Rejected> {
        let plan = plan_of(catalog, self.plan);
        match plan.limits.iter().position(|limit| *limit.name == *name && scope(limit.scope)) {
            Some(place) => Ok(place as LimitIndex),
            None => reject(Rejection::UnknownLimit, format!("expected a limit of plan {}, found {name:?}", plan.name)),
        }
    }

    fn set_cap(&mut self, step: &mut Step<'_>, limit: LimitIndex, user: UserIndex, cap: Option<OwnCap>) {
        let window = plan_of(step.catalog, self.plan).limits[usize::from(limit)].window;
        if user != ACCOUNT && cap.is_none() && self.users.get(user).limit(limit).is_none() {
            return;
        }
        let state = self.limit_mut(limit, user, &window);
        step.changes.caps.push(FormerCap { limit, user, own: state.own });
        state.own = cap;
    }
}

/// The least price of a top-up without a pack.
fn enough(catalog: &Catalog, topup: &Topup) -> Judged {
    let Some(minimum) = catalog.topup.minimum else { return Ok(()) };
    let currency = &catalog.currencies[usize::from(minimum.currency)].name;
    let found = match &topup.price {
        Some((Given::Exact(price), named)) if **currency == **named && *price >= minimum.amount => return Ok(()),
        // Whether it can be an amount is looked at later.
        Some((Given::Outside { floor }, named)) if **currency == **named && *floor >= minimum.amount => return Ok(()),
        Some((Given::Exact(price), named)) => format!("{price} {named}"),
        Some((Given::Outside { floor }, named)) => format!("{floor} {named} and a little"),
        None => "none".into(),
    };
    let amount = minimum.amount;
    reject(Rejection::BelowMinimum, format!("expected a price of at least {amount} {currency}, found {found}"))
}

fn checked_autopay(catalog: &Catalog, given: &input::Autopay) -> Result<Autopay, Rejected> {
    let unit = unit_named(catalog, &given.unit)?;
    let scale = scale(catalog, unit);
    let (below, amount) = (positive(given.below, scale)?, positive(given.amount, scale)?);
    Ok(Autopay { unit, below, amount, armed: true })
}

fn unit_named(catalog: &Catalog, name: &str) -> Result<UnitId, Rejected> {
    match catalog.units.iter().position(|unit| *unit.name == *name) {
        Some(index) => Ok(index as UnitId),
        None => reject(Rejection::UnknownUnit, format!("expected a unit of the catalog, found {name:?}")),
    }
}

fn group_named(catalog: &Catalog, name: &str) -> Result<GroupId, Rejected> {
    match catalog.groups.iter().position(|group| *group.name == *name) {
        Some(index) => Ok(index as GroupId),
        None => reject(Rejection::UnknownGroup, format!("expected a group of the catalog, found {name:?}")),
    }
}

/// In the order of the catalog, each once.
fn groups_named(catalog: &Catalog, names: &[String]) -> Result<Vec<GroupId>, Rejected> {
    let mut groups = names.iter().map(|name| group_named(catalog, name)).collect::<Result<Vec<GroupId>, Rejected>>()?;
    groups.sort_unstable();
    groups.dedup();
    Ok(groups)
}

fn scale(catalog: &Catalog, unit: UnitId) -> u8 {
    catalog.units[usize::from(unit)].scale
}

fn measure_scale(catalog: &Catalog, measure: Measure) -> u8 {
    match measure {
        Measure::Unit(unit) => scale(catalog, unit),
        Measure::Quantity(_) | Measure::Records => 9,
    }
}

fn positive(given: Given, scale: u8) -> Result<Amount, Rejected> {
    let amount = exact(given, scale)?;
    if !amount.is_positive() {
        return reject(Rejection::BadValue, format!("expected an amount over 0, found {amount}"));
    }
    Ok(amount)
}

fn exact(given: Given, scale: u8) -> Result<Amount, Rejected> {
    match given {
        Given::Exact(amount) if fits_scale(amount, scale) => Ok(amount),
        Given::Exact(amount) => {
            reject(Rejection::BadValue, format!("expected at most {scale} decimals, found {amount}"))
        }
        Given::Outside { .. } => {
            reject(Rejection::BadValue, "expected an amount under 10^15 with at most 9 decimals, found another")
        }
    }
}
