//! `meterd completions`: a completion script for a shell.

use clap::Args;
use clap_complete::Shell;

use super::{Failure, Verdict};

/// Print a completion script for a shell
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  meterd completions zsh > ~/.zfunc/_meterd")]
pub struct Arguments {
    shell: Shell,
}

pub fn run(arguments: Arguments) -> Result<Verdict, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::command(), "meterd", &mut script);
    super::print(&String::from_utf8_lossy(&script))?;
    Ok(Verdict::Clean)
}
