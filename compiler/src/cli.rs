//! The command line: one file per subcommand, and what they share.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 the input is wrong or values
//! differ, 2 wrong usage, 3 the input is valid but something in it is not supported, 4 a bug in bitc.

mod bench;
mod bisect;
mod compare;
mod compile;
mod completions;
mod console;
mod dont_cares;
mod export;
mod inputs;
mod inspect;
mod list;
mod model;
mod opt;
mod run;
mod verify;

use std::ffi::OsString;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::error::{Diagnostic, Failure, Format};
use console::Console;

/// Compiles one- and two-bit neural networks to small artifacts, and runs them.
#[derive(Debug, Parser)]
#[command(
    name = "bitc",
    version,
    max_term_width = 100,
    after_help = "Examples:
  bitc compile model.yaml -o model.bit           compile a model
  bitc run model.bit --input x.npy --output y.npy
  bitc verify model.yaml model.bit --input x.npy compare the artifact with the model
  bitc inspect model.bit                         layers, bytes, bits per weight
  bitc bench model.bit --batch 1,64              time it

`bitc help COMMAND` shows the options and examples of a command."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
struct Global {
    /// How errors are printed.
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", help_heading = "Output")]
    error_format: ErrorFormat,
    /// Print results and errors only.
    #[arg(long, short, global = true, help_heading = "Output")]
    quiet: bool,
    /// Say more about what is done; twice says yet more.
    #[arg(long, short, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet", help_heading = "Output")]
    verbose: u8,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ErrorFormat {
    /// A headline and indented facts.
    Text,
    /// Exactly one line of at most 500 bytes.
    Short,
    /// One JSON object.
    Json,
}

impl From<ErrorFormat> for Format {
    fn from(format: ErrorFormat) -> Self {
        match format {
            ErrorFormat::Text => Format::Text,
            ErrorFormat::Short => Format::Short,
            ErrorFormat::Json => Format::Json,
        }
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Compile(Box<compile::Compile>),
    Opt(opt::Opt),
    Run(run::Run),
    Verify(verify::Verify),
    Inspect(inspect::Inspect),
    Export(export::Export),
    Compare(compare::Compare),
    Bench(bench::Bench),
    Bisect(bisect::Bisect),
    List(list::List),
    Completions(completions::Completions),
}

/// Runs the command line and gives the exit code of the process.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli = match parse(&args) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let console = Console::new(cli.global.error_format.into(), cli.global.quiet, cli.global.verbose);
    match guarded(|| dispatch(&cli.command, &console)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => console.fail(&failure),
    }
}

fn dispatch(command: &Command, console: &Console) -> Result<(), Failure> {
    match command {
        Command::Compile(args) => args.run(console),
        Command::Opt(args) => args.run(console),
        Command::Run(args) => args.run(console),
        Command::Verify(args) => args.run(console),
        Command::Inspect(args) => args.run(console),
        Command::Export(args) => args.run(console),
        Command::Compare(args) => args.run(console),
        Command::Bench(args) => args.run(console),
        Command::Bisect(args) => args.run(console),
        Command::List(args) => args.run(console),
        Command::Completions(args) => args.run(console, &mut Cli::command()),
    }
}

/// Reads the arguments. Help and version are printed here; wrong usage is an error like any other.
fn parse(args: &[OsString]) -> Result<Cli, ExitCode> {
    let matches = Cli::command().try_get_matches_from(args);
    let error = match matches.and_then(|mut m| Cli::from_arg_matches_mut(&mut m)) {
        Ok(cli) => return Ok(cli),
        Err(error) => error,
    };
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        return match console::to_stdout(error.render().to_string().as_bytes()) {
            Ok(()) => Err(ExitCode::SUCCESS),
            Err(d) => Err(Console::new(Format::Text, true, 0).fail(&d.into())),
        };
    }
    Err(Console::new(asked_format(args), true, 0).fail(&usage(&error).into()))
}

/// The error format among arguments that may be wrong otherwise.
fn asked_format(args: &[OsString]) -> Format {
    let texts: Vec<_> = args.iter().map(|a| a.to_string_lossy()).collect();
    let after = texts.windows(2).find(|w| w[0] == "--error-format").map(|w| w[1].to_string());
    let joined = texts.iter().find_map(|a| a.strip_prefix("--error-format=").map(str::to_owned));
    match after.or(joined).as_deref() {
        Some("short") => Format::Short,
        Some("json") => Format::Json,
        _ => Format::Text,
    }
}

/// What clap says, as a diagnostic: its first paragraph is the message, a tip and the usage line are hints.
fn usage(error: &clap::Error) -> Diagnostic {
    let text = error.render().to_string();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Diagnostic::usage("no command is given").hint("`bitc --help` lists the commands");
    }
    let mut message = Vec::new();
    let mut hint = None;
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty()) {
        if let Some(tip) = line.strip_prefix("tip: ") {
            hint = Some(tip.to_owned());
        } else if let Some(usage) = line.strip_prefix("Usage: ") {
            hint = hint.or_else(|| Some(format!("usage: {usage}")));
        } else if !line.starts_with("For more information") {
            message.push(line.strip_prefix("error: ").unwrap_or(line));
        }
    }
    let d = Diagnostic::usage(message.join(" "));
    match hint {
        Some(hint) => d.hint(hint),
        None => d,
    }
}

/// Turns a panic, which is always a bug, into a diagnostic that says where it was.
fn guarded(work: impl FnOnce() -> Result<(), Failure>) -> Result<(), Failure> {
    let place = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let seen = place.clone();
    panic::set_hook(Box::new(move |info| {
        if let Ok(mut place) = seen.lock() {
            *place = info.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
        }
    }));
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    drop(panic::take_hook());
    result.unwrap_or_else(|payload| {
        let text = payload.downcast_ref::<&str>().map(|s| (*s).to_owned());
        let text = text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default();
        let place = place.lock().map(|p| p.clone()).unwrap_or_default();
        Err(Diagnostic::bug(format!("internal error: {text}")).found(format!("a panic at {place}")).into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_declared_soundly() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_teaches_by_example() {
        for command in Cli::command().get_subcommands() {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:") && help.contains("bitc "), "{}", command.get_name());
        }
    }

    #[test]
    fn a_panic_becomes_a_bug_report() {
        let failure = guarded(|| panic!("broken {}", 7)).unwrap_err();
        assert_eq!(failure.exit_code(), 4);
        let text = failure.to_string();
        assert!(text.contains("broken 7") && text.contains("cli.rs"), "{text}");
    }
}
