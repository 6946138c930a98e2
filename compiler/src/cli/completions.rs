//! `bitc completions`: what a shell needs to complete commands and options.

use clap::Args;
use clap_complete::Shell;

use super::console::Console;
use crate::error::Failure;

/// Print the completions of a shell
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  bitc completions bash > ~/.local/share/bash-completion/completions/bitc
  bitc completions zsh > ~/.zfunc/_bitc
  bitc completions fish > ~/.config/fish/completions/bitc.fish")]
pub(super) struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self, console: &Console, command: &mut clap::Command) -> Result<(), Failure> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, command, "bitc", &mut text);
        Ok(console.print(&String::from_utf8_lossy(&text))?)
    }
}
