//! The limits of a plan.

use chrono_tz::Tz;
use toml::de::DeValue;

use super::super::reading::{Table, Value};
use super::super::values::Sign;
use super::{Check, thresholds};
use crate::engine::catalog::{CalendarUnit, Cap, Level, Limit, Measure, OnExceed, Scope, Window};

/// Panes of a sliding window (docs/reference.md 8.2).
const PANES: i64 = 300;

const SCOPES: [(&str, Scope); 2] = [("account", Scope::Account), ("user", Scope::User)];
const ON_EXCEED: [(&str, OnExceed); 3] =
    [("block", OnExceed::Block), ("overflow", OnExceed::Overflow), ("notify", OnExceed::Notify)];
const CALENDARS: [(&str, CalendarUnit); 3] =
    [("day", CalendarUnit::Day), ("week", CalendarUnit::Week), ("month", CalendarUnit::Month)];

const WINDOW_TABLES: &str = "{ sliding = \"5h\" }, { first_use = \"5h\" }, { calendar = \"day\" }";

impl<'r> Check<'r> {
    /// Each limit with its name and scope, which the plan's `overflow` needs even of a limit that is wrong elsewhere.
    pub(super) fn limits(
        &mut self,
        value: Option<Value<'r>>,
        unit: Option<u8>,
    ) -> Vec<(&'r str, Scope, Option<Limit>)> {
        let mut limits: Vec<(&str, Scope, Option<Limit>)> = Vec::new();
        for mut table in value.and_then(|value| value.tables()).unwrap_or_default() {
            let name = table.require("name", "\"daily\"");
            let text = name.as_ref().and_then(|name| super::names::declared_name(name, "limit"));
            if let (Some(name), Some(text)) = (&name, text) {
                if text == "balance" {
                    name.error(
                        "`balance` is no name for a limit",
                        "`overflow` means the plan's balance by it; choose another",
                    );
                } else if limits.iter().any(|(other, _, _)| *other == text) {
                    name.error(
                        format!("the plan has two limits named `{text}`"),
                        "names of limits are unique in a plan",
                    );
                }
            }
            let scope = table.get("scope").and_then(|scope| scope.choose(&SCOPES)).unwrap_or(Scope::Account);
            let limit = self.limit(table, text.unwrap_or_default(), scope, unit);
            limits.push((text.unwrap_or_default(), scope, limit));
        }
        limits
    }

    fn limit(&mut self, mut table: Table<'r>, name: &str, scope: Scope, unit: Option<u8>) -> Option<Limit> {
        let measure = table.require("measure", "\"records\"").and_then(|measure| self.measure(&measure));
        let window = table.require("window", "\"period\"").and_then(|window| window_of(&window));
        let cap_value = table.require("cap", "\"100\"");
        let cap = cap_value.as_ref().and_then(cap_of);
        if let (Some(value), Some(Cap::ShareEqual | Cap::SharePercent(_)), Some(measure)) = (&cap_value, cap, measure) {
            share_has_a_pool(value, measure, unit);
        }
        let group = table.get("group").and_then(|group| self.groups.find(&group)).map(|group| group as u16);
        let kind = table.get("type").and_then(|kind| kind.pattern());
        let on_exceed = table.get("on_exceed").and_then(|on| on.choose(&ON_EXCEED)).unwrap_or(OnExceed::Block);
        let warn = table.get("warn").map(|warn| warnings(&warn)).unwrap_or_default();
        table.finish();
        Some(Limit {
            name: name.into(),
            measure: measure?,
            scope,
            window: window?,
            cap: cap?,
            group,
            kind,
            on_exceed,
            warn,
            edges: Vec::new(),
        })
    }

    fn measure(&mut self, value: &Value<'r>) -> Option<Measure> {
        if !value.item.is_table() {
            return value.choose_or(&[("records", Measure::Records)], "{ unit = \"…\" }, { quantity = \"…\" }");
        }
        let mut table = value.table()?;
        let (unit, quantity) = (table.get("unit"), table.get("quantity"));
        table.finish();
        match (unit, quantity) {
            (Some(unit), None) => self.unit(&unit).map(Measure::Unit),
            (None, Some(quantity)) => self.fields.quantity(&quantity).map(Measure::Quantity),
            _ => {
                value
                    .error("a limit measures one thing", "write { unit = \"…\" }, { quantity = \"…\" } or \"records\"");
                None
            }
        }
    }
}

fn window_of(value: &Value<'_>) -> Option<Window> {
    if !value.item.is_table() {
        return value.choose_or(&[("period", Window::Period), ("lifetime", Window::Lifetime)], WINDOW_TABLES);
    }
    let mut table = value.table()?;
    let (sliding, first_use, calendar) = (table.get("sliding"), table.get("first_use"), table.get("calendar"));
    let zone = table.get("tz");
    table.finish();
    if let (Some(zone), None) = (&zone, &calendar) {
        zone.error("only a calendar window has a time zone", "leave `tz` out");
    }
    match (sliding, first_use, calendar) {
        (Some(length), None, None) => sliding_window(&length),
        (None, Some(length), None) => length.duration(1).map(Window::FirstUse),
        (None, None, Some(unit)) => {
            let zone = zone.map_or(Some(Tz::UTC), |zone| zone_of(&zone));
            Some(Window::Calendar(unit.choose(&CALENDARS)?, zone?))
        }
        _ => {
            value.error("a window is of one kind", format!("write {WINDOW_TABLES}, \"period\" or \"lifetime\""));
            None
        }
    }
}

fn sliding_window(value: &Value<'_>) -> Option<Window> {
    let length = value.duration(PANES)?;
    if length % PANES != 0 {
        let message = format!("a sliding window has {PANES} panes, and {length} ms do not divide by {PANES}");
        let (below, above) = (length / PANES * PANES, (length / PANES + 1) * PANES);
        value.error(message, format!("the nearest that do are \"{below}ms\" and \"{above}ms\""));
        return None;
    }
    Some(Window::Sliding(length))
}

fn zone_of(value: &Value<'_>) -> Option<Tz> {
    let name = value.text()?;
    let zone = name.parse().ok();
    if zone.is_none() {
        let help = match super::super::reading::nearest(name, chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name())) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "name a zone of the IANA database, like \"Europe/Rome\"".to_owned(),
        };
        value.error(format!("there is no time zone {name:?}"), help);
    }
    zone
}

fn cap_of(value: &Value<'_>) -> Option<Cap> {
    if !value.item.is_table() {
        return value.amount(Sign::NotNegative, 9).map(Cap::Amount);
    }
    let mut table = value.table()?;
    let share = table.require("share", "\"equal\"");
    table.finish();
    let share = share?;
    match share.item {
        DeValue::String(text) if text.ends_with('%') => share.percent(100).map(Cap::SharePercent),
        _ => share.choose_or(&[("equal", Cap::ShareEqual)], "a percentage like \"25%\""),
    }
}

/// A share is of the pool of the plan's unit (docs/reference.md 8.4).
fn share_has_a_pool(value: &Value<'_>, measure: Measure, unit: Option<u8>) {
    match (measure, unit) {
        (_, None) => value.error(
            "a share needs a pool, and a plan without `unit` has none",
            "write an amount, or set the plan's `unit`",
        ),
        (Measure::Unit(measured), Some(unit)) if measured == unit => {}
        _ => value.error("a share is of the pool of the plan's unit", "measure the plan's unit, or write an amount"),
    }
}

/// `warn`: percentages of the cap, ascending.
fn warnings(value: &Value<'_>) -> Vec<crate::engine::catalog::Threshold> {
    let mut list = thresholds(value, Some(1_000));
    if list.iter().any(|threshold| matches!(threshold.level, Level::Absolute(_))) {
        value.error("warnings are percentages of the cap", "write them like \"80%\"");
    }
    list.sort_by_key(|threshold| match threshold.level {
        Level::Percent(level) | Level::Absolute(level) => level,
    });
    list
}
