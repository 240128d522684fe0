//! `meterd account`: looks at accounts over HTTP, and sends their commands to Kafka.

mod change;
mod send;
mod view;

use clap::{Args, Subcommand};

use super::{Failure, Globals, Verdict};
use change::Change;

/// Look at accounts, and send their commands
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    meterd account show acme\n  \
    meterd account list --prefix ac -o json\n  \
    meterd account subscription-start acme --plan pro --seats 3\n  \
    meterd account topup acme --amount 500 --unit credit --price 20 --currency usd")]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Show an account: plan, balances, limits, totals
    Show(view::Show),
    /// List accounts by id
    List(view::List),
    #[command(flatten)]
    Change(Box<Change>),
}

pub fn run(arguments: Arguments, globals: &Globals) -> Result<Verdict, Failure> {
    match arguments.verb {
        Verb::Show(arguments) => view::show(&arguments, globals),
        Verb::List(arguments) => view::list(&arguments, globals),
        Verb::Change(change) => send::run(&change, globals),
    }
}
