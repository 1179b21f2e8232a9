//! Requests to the Hub with a timeout on silence.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use hf_hub::HFError;

/// Default timeout, if `HF_HUB_DOWNLOAD_TIMEOUT` (in seconds) is not set.
const DEFAULT: Duration = Duration::from_secs(30);
/// Slowest accepted upload, in bytes per second.
const SLOWEST_UPLOAD: u64 = 50_000;
/// Polling interval.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Failure of a request to the Hub.
pub enum RequestError {
    /// Error that the client or the Hub reported.
    Hub(HFError),
    /// No activity for this long.
    TimedOut(Duration),
}

impl RequestError {
    /// Whether the Hub could not be reached, so that cached data may be used instead.
    pub fn is_unreachable(&self) -> bool {
        match self {
            Self::TimedOut(_) => true,
            Self::Hub(HFError::Request { source, .. }) => source.is_connect() || source.is_timeout(),
            Self::Hub(_) => false,
        }
    }
}

/// Time of the last activity, in milliseconds since its creation.
#[derive(Clone)]
pub struct LastActivity(Arc<(Instant, AtomicU64)>);

impl LastActivity {
    /// Activity at this moment.
    pub fn now() -> Self {
        Self(Arc::new((Instant::now(), AtomicU64::new(0))))
    }

    /// Records activity at this moment.
    pub fn update(&self) {
        self.0.1.store(self.0.0.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    fn elapsed(&self) -> Duration {
        self.0.0.elapsed().saturating_sub(Duration::from_millis(self.0.1.load(Ordering::Relaxed)))
    }
}

/// Longest time without activity.
#[derive(Clone, Copy)]
pub struct Timeout(Duration);

impl Timeout {
    /// Timeout from the environment.
    pub fn of_environment() -> Self {
        let seconds = std::env::var("HF_HUB_DOWNLOAD_TIMEOUT").ok().and_then(|text| text.parse::<f64>().ok());
        let seconds = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Self(seconds.filter(|seconds| !seconds.is_zero()).unwrap_or(DEFAULT))
    }

    /// Timeout for an upload of `bytes`, during which the client may report no activity.
    pub fn for_upload(self, bytes: u64) -> Self {
        Self(self.0 + Duration::from_secs(bytes / SLOWEST_UPLOAD))
    }

    /// Runs `call` in a thread of its own, which is abandoned after the timeout.
    ///
    /// # Errors
    ///
    /// If the call fails, or there is no activity for the timeout.
    pub fn run<T: Send + 'static>(
        self,
        activity: &LastActivity,
        call: impl FnOnce() -> Result<T, HFError> + Send + 'static,
    ) -> Result<T, RequestError> {
        let (sender, receiver) = mpsc::channel();
        // After a timeout nobody receives the answer, and sending it fails.
        std::thread::spawn(move || sender.send(call()));
        loop {
            match receiver.recv_timeout(POLL_INTERVAL) {
                Ok(answer) => return answer.map_err(RequestError::Hub),
                Err(mpsc::RecvTimeoutError::Timeout) if activity.elapsed() < self.0 => {}
                Err(_) => return Err(RequestError::TimedOut(self.0)),
            }
        }
    }
}
