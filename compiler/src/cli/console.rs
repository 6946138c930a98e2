//! Standard output and standard error: results, notes, warnings, errors and progress.

use std::cell::RefCell;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Diagnostic, Failure, Format};

/// Work that takes longer than this shows its progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// How this run of the program speaks.
pub(super) struct Console {
    format: Format,
    quiet: bool,
    verbose: u8,
    progress: RefCell<Option<Progress>>,
}

impl Console {
    pub(super) fn new(format: Format, quiet: bool, verbose: u8) -> Self {
        Self { format, quiet, verbose, progress: RefCell::new(None) }
    }

    /// Prints a failure and gives its exit code. A reader that went away is no failure of ours.
    pub(super) fn fail(&self, failure: &Failure) -> ExitCode {
        self.finish();
        if failure.diagnostics().iter().all(|d| d.message == READER_GONE) {
            return ExitCode::SUCCESS;
        }
        complain(&failure.print(self.format));
        ExitCode::from(failure.exit_code())
    }

    /// Prints a warning, which stops nothing.
    pub(super) fn warn(&self, warning: &Diagnostic) {
        if !self.quiet {
            complain(&warning.warning());
        }
    }

    /// Prints a line about what was done.
    pub(super) fn note(&self, text: &str) {
        if !self.quiet {
            complain(text);
        }
    }

    /// Prints what an option of its own asks for, quiet or not.
    pub(super) fn asked(&self, text: &str) {
        complain(text);
    }

    /// Prints a line that only `-v` asks for.
    pub(super) fn detail(&self, text: &str) {
        if self.verbose > 0 {
            complain(text);
        }
    }

    /// Says what is being done now; it shows on a terminal once the work takes long.
    pub(super) fn step(&self, what: &str) {
        if self.verbose > 1 {
            complain(&format!("bitc: {what}"));
        }
        if self.quiet || self.verbose > 1 || !io::stderr().is_terminal() {
            return;
        }
        let mut progress = self.progress.borrow_mut();
        progress.get_or_insert_with(Progress::start).say(what);
    }

    /// Ends the display of progress.
    pub(super) fn finish(&self) {
        drop(self.progress.borrow_mut().take());
    }

    /// Writes a result.
    pub(super) fn print(&self, text: &str) -> Result<(), Diagnostic> {
        self.finish();
        to_stdout(text.as_bytes())
    }

    /// Writes a JSON result on one line.
    pub(super) fn print_json(&self, value: &impl serde::Serialize) -> Result<(), Diagnostic> {
        let text =
            serde_json::to_string(value).map_err(|e| Diagnostic::bug(format!("no JSON for this result: {e}")))?;
        self.print(&(text + "\n"))
    }
}

const READER_GONE: &str = "nobody reads standard output any more";

/// Writes to standard output and flushes it.
pub(super) fn to_stdout(bytes: &[u8]) -> Result<(), Diagnostic> {
    let mut out = io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| match e.kind() {
        io::ErrorKind::BrokenPipe => Diagnostic::wrong_input(READER_GONE),
        _ => Diagnostic::wrong_input(format!("cannot write to standard output: {e}")),
    })
}

/// One or more lines on standard error; where nobody reads them there is nobody to tell.
fn complain(text: &str) {
    let mut err = io::stderr().lock();
    let _ = writeln!(err, "{}", text.trim_end_matches('\n'));
}

/// A thread that shows what is being done, if it goes on for long. Dropping it ends it.
struct Progress {
    sender: Option<Sender<String>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Progress {
    fn start() -> Self {
        let (sender, receiver) = mpsc::channel::<String>();
        let thread = thread::Builder::new().name("progress".to_owned()).spawn(move || {
            let begun = Instant::now();
            let mut now = String::new();
            let mut shown = String::new();
            loop {
                match receiver.recv_timeout(PATIENCE) {
                    Ok(what) => now = what,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                if begun.elapsed() >= PATIENCE && now != shown {
                    complain(&format!("bitc: {now} ({:.0} s)", begun.elapsed().as_secs_f64()));
                    shown.clone_from(&now);
                }
            }
        });
        // Without a thread there is no progress to see, and everything else works.
        Self { sender: Some(sender), thread: thread.ok() }
    }

    fn say(&self, what: &str) {
        if let Some(sender) = &self.sender {
            let _ = sender.send(what.to_owned());
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
