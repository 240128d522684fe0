//! `meterd man`: the manual page, of meterd or of one verb.

use clap::Args;

use super::{Failure, Verdict};

/// Print the manual page, of meterd or of one verb
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  meterd man | man -l -\n  meterd man validate > meterd-validate.1")]
pub struct Arguments {
    /// The verb to describe
    verb: Option<String>,
}

pub fn run(arguments: Arguments) -> Result<Verdict, Failure> {
    let mut command = super::command();
    command.build();
    if let Some(verb) = &arguments.verb {
        let names: Vec<String> = command.get_subcommands().map(|verb| verb.get_name().to_owned()).collect();
        let Some(found) = command.find_subcommand(verb) else {
            return Err(Failure::usage(format!("no verb `{verb}`; there are {}", names.join(", "))));
        };
        command = found.clone();
    }
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page).map_err(Failure::bug)?;
    super::print(&String::from_utf8_lossy(&page))?;
    Ok(Verdict::Clean)
}
