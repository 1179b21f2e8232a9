//! Calls of the Hub that end, one way or the other.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use hf_hub::HFError;

/// How long the Hub may be silent, if `HF_HUB_DOWNLOAD_TIMEOUT` (seconds) says nothing else.
const SILENCE: Duration = Duration::from_secs(30);
/// Bytes a second that are sent at least.
const SLOWEST: u64 = 50_000;
/// Between two looks at the clock.
const LOOK: Duration = Duration::from_millis(50);

/// Why a call gave nothing.
pub enum Trouble {
    /// The Hub's answer, or that there was none to be had.
    Hub(HFError),
    /// It took the call and said no more.
    Silent(Duration),
}

impl Trouble {
    /// Whether the Hub was not reached, so that what is known of it may be taken.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::Silent(_) => true,
            Self::Hub(HFError::Request { source, .. }) => source.is_connect() || source.is_timeout(),
            Self::Hub(_) => false,
        }
    }
}

/// When something was heard last, in milliseconds since the beginning.
#[derive(Clone)]
pub struct Heard(Arc<(Instant, AtomicU64)>);

impl Heard {
    /// Something was heard just now.
    pub fn now() -> Self {
        Self(Arc::new((Instant::now(), AtomicU64::new(0))))
    }

    /// Something was heard again.
    pub fn again(&self) {
        self.0.1.store(self.0.0.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn silence(&self) -> Duration {
        self.0.0.elapsed().saturating_sub(Duration::from_millis(self.0.1.load(Ordering::Relaxed)))
    }
}

/// How long the Hub may be silent.
#[derive(Clone, Copy)]
pub struct Patience(Duration);

impl Patience {
    /// As the environment says.
    pub fn of_environment() -> Self {
        let seconds = std::env::var("HF_HUB_DOWNLOAD_TIMEOUT").ok().and_then(|text| text.parse::<f64>().ok());
        let seconds = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Self(seconds.filter(|seconds| !seconds.is_zero()).unwrap_or(SILENCE))
    }

    /// While this many bytes go out, of which nothing may be heard.
    pub fn of_sending(self, bytes: u64) -> Self {
        Self(self.0 + Duration::from_secs(bytes / SLOWEST))
    }

    /// Does `call` in a thread of its own, which is left behind when it stays silent.
    pub fn wait<T: Send + 'static>(
        self,
        heard: &Heard,
        call: impl FnOnce() -> Result<T, HFError> + Send + 'static,
    ) -> Result<T, Trouble> {
        let (sender, receiver) = mpsc::channel();
        // Where nobody waits any more, the answer is dropped.
        std::thread::spawn(move || sender.send(call()));
        loop {
            match receiver.recv_timeout(LOOK) {
                Ok(answer) => return answer.map_err(Trouble::Hub),
                Err(mpsc::RecvTimeoutError::Timeout) if heard.silence() < self.0 => {}
                Err(_) => return Err(Trouble::Silent(self.0)),
            }
        }
    }
}
