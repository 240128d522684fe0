//! Rate rows and exchange rows.

use super::super::reading::{Place, Table, Value};
use super::super::values::Sign;
use super::Check;
use crate::engine::catalog::{Component, Each, Exchange, Match, Multiply, Rate};
use crate::engine::{Factor, Ms};

impl<'r> Check<'r> {
    /// The rows that could be read, and where they stand.
    pub(super) fn rates(&mut self, value: Option<Value<'r>>) -> (Vec<Rate>, Vec<Place>) {
        let tables = value.and_then(|value| value.tables()).unwrap_or_default();
        let rows = tables.into_iter().filter_map(|table| {
            let place = table.place().clone();
            self.rate(table).map(|rate| (rate, place))
        });
        rows.unzip()
    }

    fn rate(&mut self, mut table: Table<'r>) -> Option<Rate> {
        let line = self.reading.line(table.place());
        let kind = table.get("type").and_then(|kind| kind.pattern());
        let matches = table.get("match").map(|value| self.matches(&value)).unwrap_or_default();
        let unit = table.require("unit", "\"usd\"").and_then(|unit| self.unit(&unit));
        let price = table.require("price", "[]").map(|price| self.components(&price));
        let multiply = table.get("multiply").and_then(|value| self.multiply(&value));
        let each = table.get("each").and_then(|value| self.each(&value));
        let minimum = table.get("minimum").and_then(|value| value.amount(Sign::NotNegative, self.scale(unit)));
        let session_max_ms = table.get("session_max").and_then(|value| value.duration(1));
        let from = table.get("from").and_then(|value| value.instant());
        let until_value = table.get("until");
        let until = until_value.as_ref().and_then(Value::instant);
        if let (Some(from), Some(until), Some(value)) = (from, until, &until_value)
            && until <= from
        {
            value.error("the row ends before it begins", "`until` must be later than `from`");
        }
        table.finish();
        Some(Rate {
            kind,
            matches,
            unit: unit?,
            price: price?,
            multiply,
            each,
            minimum,
            session_max_ms,
            from: from.unwrap_or(Ms::MIN),
            until: until.unwrap_or(Ms::MAX),
            line,
        })
    }

    /// `{ model = ["…"], region = "eu-*" }`: every field must fit one of its patterns.
    pub(super) fn matches(&mut self, value: &Value<'r>) -> Vec<Match> {
        let Some(table) = value.table() else { return Vec::new() };
        let mut matches = Vec::new();
        for (name, value) in table.entries() {
            let dimension = self.fields.dimension(self.reading, name.text, &name.place);
            let Some(list) = value.list_or_one() else { continue };
            if list.is_empty() {
                value.error(
                    "an empty list of patterns fits no record",
                    "list a pattern, or leave the field out to fit all",
                );
            }
            let patterns = list.iter().filter_map(Value::pattern).collect();
            if let Some(dimension) = dimension {
                matches.push(Match { dimension, patterns });
            }
        }
        matches
    }

    fn components(&mut self, value: &Value<'r>) -> Vec<Component> {
        let components = value.list().unwrap_or_default();
        components.iter().filter_map(|component| self.component(component)).collect()
    }

    fn component(&mut self, value: &Value<'r>) -> Option<Component> {
        let mut table = value.table()?;
        let quantity = table.require("quantity", "\"requests\"").and_then(|name| self.fields.quantity(&name));
        let rate = table.require("rate", "\"0.25\"").and_then(|rate| rate.factor());
        let per = table.get("per").and_then(|per| per.divisor());
        let step = table.get("step").and_then(|step| step.divisor());
        table.finish();
        Some(Component { quantity: quantity?, rate: rate?, per: per.unwrap_or(crate::engine::Amount::whole(1)), step })
    }

    fn multiply(&mut self, value: &Value<'r>) -> Option<Multiply> {
        let mut table = value.table()?;
        let field = self.field(&mut table);
        let values = table.require("values", "{ \"large\" = \"2\" }").and_then(|values| values.table());
        let values = values.map(|values| values.entries()).unwrap_or_default();
        let values = values.iter().filter_map(|(name, value)| Some((name.text.into(), value.factor()?))).collect();
        let otherwise = table.get("otherwise").and_then(|otherwise| otherwise.factor());
        table.finish();
        Some(Multiply { field: field?, values, otherwise })
    }

    fn each(&mut self, value: &Value<'r>) -> Option<Each> {
        let mut table = value.table()?;
        let field = self.field(&mut table);
        let prices = table.require("prices", "{ \"search\" = [ … ] }").and_then(|prices| prices.table());
        let prices = prices.map(|prices| prices.entries()).unwrap_or_default();
        let prices = prices.iter().map(|(name, value)| (name.text.into(), self.components(value))).collect();
        let otherwise_free = table.get("otherwise").and_then(|otherwise| otherwise.choose(&[("free", true)]));
        table.finish();
        Some(Each { field: field?, prices, otherwise_free: otherwise_free.unwrap_or(false) })
    }

    fn field(&mut self, table: &mut Table<'r>) -> Option<u16> {
        let field = table.require("field", "\"model\"")?;
        self.fields.dimension(self.reading, field.text()?, &field.place)
    }

    /// The rows that could be read, and where they stand.
    pub(super) fn exchanges(&mut self, value: Option<Value<'r>>) -> (Vec<Exchange>, Vec<Place>) {
        let tables = value.and_then(|value| value.tables()).unwrap_or_default();
        let rows = tables.into_iter().filter_map(|table| {
            let place = table.place().clone();
            self.exchange(table).map(|row| (row, place))
        });
        rows.unzip()
    }

    fn exchange(&mut self, mut table: Table<'r>) -> Option<Exchange> {
        let from_unit = table.require("from_unit", "\"usd\"").and_then(|unit| self.unit(&unit));
        let to_value = table.require("to_unit", "\"flow\"");
        let to_unit = to_value.as_ref().and_then(|unit| self.unit(unit));
        if let (Some(from), Some(to), Some(value)) = (from_unit, to_unit, &to_value)
            && from == to
        {
            value.error("a unit is not exchanged into itself", "name two different units");
        }
        let value = table.require("value", "\"0.03\"");
        let factor = value.as_ref().and_then(Value::factor);
        if let (Some(value), Some(Factor(0))) = (&value, factor) {
            value.error("amounts are divided by the value, so it cannot be 0", "it must be more than 0");
        }
        let class = table.get("class").and_then(|class| self.class(&class)).filter(|class| *class != "*");
        let from = table.get("from").and_then(|from| from.instant());
        table.finish();
        Some(Exchange {
            from_unit: from_unit?,
            to_unit: to_unit?,
            value: factor?,
            class: class.map(Into::into),
            from: from.unwrap_or(Ms::MIN),
        })
    }

    fn class(&self, value: &Value<'r>) -> Option<&'r str> {
        let class = value.text()?;
        if class.is_empty() {
            value.error("an empty class", "name a class of accounts, or \"*\" for all");
        }
        Some(class)
    }
}
