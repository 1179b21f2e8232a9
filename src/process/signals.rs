//! Signal handling during training.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};

use crate::process::exit;

#[cfg(unix)]
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, signal_hook::consts::SIGUSR1];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// Time after a signal in which others of its kind are the same one: `timeout` sends it to the process, and at once to its
/// group.
const SAME: Duration = Duration::from_secs(1);
/// Interval at which signals are looked for.
const INTERVAL: Duration = Duration::from_millis(100);

/// Signal state: the first signal requests a checkpoint and a stop; one of the same kind exits immediately, a second
/// later.
#[derive(Default)]
pub struct Signals {
    /// Set when a stop is requested.
    pub stop: Arc<AtomicBool>,
    at_once: Arc<AtomicBool>,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    ///
    /// If a handler cannot be installed.
    pub fn listen(&self) -> anyhow::Result<()> {
        let mut kinds = Vec::new();
        for signal in SIGNALS {
            let kind = Kind::default();
            register_conditional_shutdown(signal, exit::KILLED, self.at_once.clone())?;
            // Clusters send one signal as a warning and another to stop: only a repeated signal exits immediately.
            register_conditional_shutdown(signal, exit::KILLED, kind.exits.clone())?;
            register(signal, kind.seen.clone())?;
            register(signal, self.stop.clone())?;
            kinds.push(kind);
        }
        thread::Builder::new().name("signals".into()).spawn(move || let_exit(kinds))?;
        Ok(())
    }

    /// Lets the next signal exit immediately, once there is nothing to lose.
    pub fn end_at_once(&self) {
        self.at_once.store(true, Ordering::SeqCst);
    }

    /// Lets a signal exit immediately until the guard is dropped.
    pub fn end_at_once_while(&self) -> AtOnce<'_> {
        self.end_at_once();
        AtOnce(self)
    }

    /// Whether a stop was requested.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }
}

/// A kind of signal: whether it was seen, and whether it exits immediately.
#[derive(Default)]
struct Kind {
    seen: Arc<AtomicBool>,
    exits: Arc<AtomicBool>,
}

/// Lets the signals that were seen exit immediately, once [`SAME`] has passed.
fn let_exit(mut kinds: Vec<Kind>) {
    while !kinds.is_empty() {
        thread::sleep(INTERVAL);
        let (seen, others): (Vec<Kind>, Vec<Kind>) =
            kinds.into_iter().partition(|kind| kind.seen.load(Ordering::SeqCst));
        if !seen.is_empty() {
            thread::sleep(SAME);
            seen.iter().for_each(|kind| kind.exits.store(true, Ordering::SeqCst));
        }
        kinds = others;
    }
}

/// Time in which a signal exits immediately.
pub struct AtOnce<'a>(&'a Signals);

impl Drop for AtOnce<'_> {
    fn drop(&mut self) {
        self.0.at_once.store(false, Ordering::SeqCst);
    }
}
