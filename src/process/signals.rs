//! Signal handling during training.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};

use crate::process::exit;

#[cfg(unix)]
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, signal_hook::consts::SIGUSR1];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// Signal state: the first signal requests a checkpoint and a stop; a second one of the same kind exits immediately.
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
        for signal in SIGNALS {
            let seen = Arc::new(AtomicBool::new(false));
            register_conditional_shutdown(signal, exit::KILLED, self.at_once.clone())?;
            // Clusters send one signal as a warning and another to stop: only a repeated signal exits immediately.
            register_conditional_shutdown(signal, exit::KILLED, seen.clone())?;
            register(signal, seen)?;
            register(signal, self.stop.clone())?;
        }
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

/// Time in which a signal exits immediately.
pub struct AtOnce<'a>(&'a Signals);

impl Drop for AtOnce<'_> {
    fn drop(&mut self) {
        self.0.at_once.store(false, Ordering::SeqCst);
    }
}
