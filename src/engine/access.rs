//! Who may use what: denials are told, the record is charged all the same (docs/reference.md 6.5).

use super::account::{Rule, State};
use super::catalog::{Catalog, GroupId, MODEL};
use super::changes::{Stage, Step};
use super::charge::Dimensions;
use super::effects::Body;
use super::input::Dimension;
use super::lookup::dimension;
use super::profile::Profile;
use super::subscription::plan_of;
use super::users::UserIndex;

/// A record as access is checked for it.
pub(crate) struct Asked<'a> {
    pub kind: &'a str,
    pub user: Option<UserIndex>,
    pub asks_payg: bool,
    pub dimensions: Dimensions<'a>,
    pub profile: &'a Profile,
}

impl State {
    /// Tells every rule that is against the record and was not told to its user since the period or the plan began.
    pub fn check_access(&mut self, step: &mut Step<'_>, asked: &Asked<'_>) {
        let plan = plan_of(step.catalog, self.plan);
        if let Some(user) = asked.user {
            let (rank, seats) = (self.users.appear(user), self.seats);
            let denies = !self.users.get(user).denies().is_empty();
            if plan.allow.is_none() && !denies && !(plan.strict_seats && rank > seats) {
                return;
            }
        } else if plan.allow.is_none() {
            return;
        }
        if !asked.asks_payg && !self.plan_allows(step.catalog, |group| asked.profile.is_in(group)) {
            self.deny(step, asked, Rule::Plan);
        }
        let Some(user) = asked.user else { return };
        let denied: Vec<GroupId> = self.users.get(user).denies().to_vec();
        for group in denied.into_iter().filter(|group| asked.profile.is_in(*group)) {
            self.deny(step, asked, Rule::Group(group));
        }
        if plan.strict_seats && self.users.appear(user) > self.seats {
            self.deny(step, asked, Rule::Seats);
        }
    }

    /// Whether the plan may be used for a record that is in these groups.
    pub fn plan_allows(&self, catalog: &Catalog, is_in: impl Fn(GroupId) -> bool) -> bool {
        let allow = &plan_of(catalog, self.plan).allow;
        allow.as_ref().is_none_or(|groups| groups.iter().any(|group| is_in(*group)))
    }

    fn deny(&mut self, step: &mut Step<'_>, asked: &Asked<'_>, rule: Rule) {
        let told = match asked.user {
            Some(user) => self.users.denied_mut(user),
            None => &mut self.rare_mut().denied,
        };
        if told.contains(&rule) {
            return;
        }
        told.push(rule);
        let model = match dimension(asked.dimensions, MODEL) {
            Some(Dimension::Text(text)) => Some(text.into()),
            _ => None,
        };
        let rule = match rule {
            Rule::Plan => "plan".into(),
            Rule::Group(group) => format!("group:{}", step.catalog.groups[usize::from(group)].name).into(),
            Rule::Seats => "seats".into(),
        };
        let user = asked.user.map(|user| self.users.get(user).name.as_str().into());
        step.changes.tell(Stage::Access, Body::AccessDenied { user, rule, kind: asked.kind.into(), model });
    }
}
