//! Output for people: results on stdout, progress and messages on stderr.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use equimod_eval::Observer;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::terminal::{columns, wrapped};

/// Prints a result.
pub fn result(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Prints a result as JSON.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    result(&serde_json::to_string_pretty(value)?)
}

/// Whether messages other than errors are left to another process.
static SILENT: AtomicBool = AtomicBool::new(false);

/// Leaves messages other than errors to another process.
pub fn be_silent() {
    SILENT.store(true, Ordering::Relaxed);
}

/// Prints a message on stderr; a closed stderr is ignored.
pub fn note(text: &str) {
    if !SILENT.load(Ordering::Relaxed) {
        let _ = writeln!(io::stderr().lock(), "{}", wrapped(text, columns(&io::stderr())));
    }
}

/// Prints a result whose long lines are broken between words.
pub fn sentences(text: &str) -> anyhow::Result<()> {
    result(&wrapped(text, columns(&io::stdout())))
}

/// Columns for a result; `None` if it does not go to a terminal.
pub fn width() -> Option<usize> {
    columns(&io::stdout())
}

/// Whether the lines of a result fit the terminal; elsewhere, all do.
pub fn fits(text: &str) -> bool {
    width().is_none_or(|width| text.lines().all(|line| line.chars().count() <= width))
}

/// Prints a message on stderr, unless it was printed before.
pub fn note_once(text: &str) {
    static PRINTED: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
    if PRINTED.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned()) {
        note(text);
    }
}

/// Prints an error on stderr.
pub fn error(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", wrapped(&format!("error: {text}"), columns(&io::stderr())));
}

/// Whether an error is only a closed pipe.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == ErrorKind::BrokenPipe))
}

/// Progress of a count: a bar on a terminal, nothing elsewhere.
pub struct Count(Option<ProgressBar>);

impl Count {
    /// A count up to `total` items, which `what` names.
    pub fn new(what: &'static str, total: usize) -> Self {
        Self::drawn("{bar:16}  {eta} left  {pos}/{len} {msg}", total as u64, what)
    }

    /// A count up to `total` received bytes.
    #[cfg(feature = "hub")]
    pub fn of_bytes(total: u64) -> Self {
        Self::drawn("{bar:16}  {eta} left  {bytes_per_sec}  {bytes}/{total_bytes}", total, "")
    }

    fn drawn(template: &str, total: u64, what: &'static str) -> Self {
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        // The templates are constants that parse.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_message(what);
        Self(Some(bar))
    }

    /// Sets the count.
    pub fn set(&self, done: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(done);
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Messages of an evaluation on stderr, and a bar for its training.
#[derive(Default)]
pub struct Console(RefCell<Option<Count>>);

impl Observer for Console {
    fn log(&self, message: &str) {
        // The baseline and the untrained network are measured on the same images.
        note_once(message);
    }

    fn progress(&self, protocol: &'static str, step: u64, steps: u64) {
        let mut bar = self.0.borrow_mut();
        bar.get_or_insert_with(|| Count::new(protocol, steps as usize)).set(step);
        if step == steps {
            bar.take().iter().for_each(Count::finish);
        }
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.0.take().iter().for_each(Count::finish);
    }
}

/// A duration as `1 h 02 min`, `3 min 05 s` or `12 s`.
pub fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
    }
}
