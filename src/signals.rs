//! Signals while a run trains.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag::{register, register_conditional_shutdown};

use crate::exit;

#[cfg(unix)]
const SIGNALS: [i32; 3] = [SIGINT, SIGTERM, signal_hook::consts::SIGUSR1];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [SIGINT, SIGTERM];

/// The first signal asks for a checkpoint and an end; a second one of the same kind ends at once.
#[derive(Default)]
pub struct Signals {
    /// Set when an end is asked for.
    pub stop: Arc<AtomicBool>,
    at_once: Arc<AtomicBool>,
}

impl Signals {
    /// From now on signals do not end the program.
    pub fn listen(&self) -> anyhow::Result<()> {
        for signal in SIGNALS {
            let seen = Arc::new(AtomicBool::new(false));
            register_conditional_shutdown(signal, exit::KILLED, self.at_once.clone())?;
            // Clusters warn by one signal and end by another: only the same one again is impatience.
            register_conditional_shutdown(signal, exit::KILLED, seen.clone())?;
            register(signal, seen)?;
            register(signal, self.stop.clone())?;
        }
        Ok(())
    }

    /// There is nothing left that an end would lose.
    pub fn end_at_once(&self) {
        self.at_once.store(true, Ordering::SeqCst);
    }
}
