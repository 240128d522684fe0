//! The merge of a partition's two inputs by Kafka timestamp (docs/reference.md 6 and 16 "Clock").

use super::raw::Input;
use crate::engine::Ms;

/// What is known of one input's next record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The next record is here; its timestamp.
    Head(Ms),
    /// Nothing is here, and the topic's end was reached since.
    AtEnd,
    /// Nothing is here, and there may be something in the topic.
    Unknown,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    Take(Input),
    /// A record is here, but this input's next one must be known first.
    WaitFor(Input),
    /// Both inputs were read to their ends.
    Ended,
    /// Nothing is here; at least one end is not known.
    Nothing,
}

/// The earlier record is next, a command before a usage record of the same millisecond.
pub fn next(accounts: Side, usage: Side) -> Next {
    match (accounts, usage) {
        (Side::Head(command), Side::Head(record)) if command <= record => Next::Take(Input::Accounts),
        (Side::Head(_), Side::Head(_)) => Next::Take(Input::Usage),
        (Side::Head(_), Side::AtEnd) => Next::Take(Input::Accounts),
        (Side::AtEnd, Side::Head(_)) => Next::Take(Input::Usage),
        (Side::Head(_), Side::Unknown) => Next::WaitFor(Input::Usage),
        (Side::Unknown, Side::Head(_)) => Next::WaitFor(Input::Accounts),
        (Side::AtEnd, Side::AtEnd) => Next::Ended,
        (Side::Unknown, _) | (_, Side::Unknown) => Next::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_earlier_and_commands_first() {
        use Side::{AtEnd, Head, Unknown};
        for (accounts, usage, expect) in [
            (Head(5), Head(5), Next::Take(Input::Accounts)),
            (Head(6), Head(5), Next::Take(Input::Usage)),
            (Head(6), AtEnd, Next::Take(Input::Accounts)),
            (AtEnd, Head(1), Next::Take(Input::Usage)),
            (Head(1), Unknown, Next::WaitFor(Input::Usage)),
            (Unknown, Head(1), Next::WaitFor(Input::Accounts)),
            (AtEnd, AtEnd, Next::Ended),
            (Unknown, AtEnd, Next::Nothing),
        ] {
            assert_eq!(next(accounts, usage), expect, "{accounts:?} {usage:?}");
        }
    }
}
