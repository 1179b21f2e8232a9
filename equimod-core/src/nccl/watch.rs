//! The watch over a rank's exchanges: one that takes too long, or whose partner is lost, is given up, so that nothing
//! waits for it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use candle_core::cuda_backend::cudarc::driver::{CudaEvent, CudaStream, DriverError};
use candle_core::cuda_backend::cudarc::nccl::{result, sys};

use crate::collective::{CollectiveError, CollectiveResult, SharedCollective};

/// Error of an operation.
pub fn transport(operation: &'static str, reason: String) -> CollectiveError {
    CollectiveError::Transport { operation, reason }
}

/// Interval between two looks.
const INTERVAL: Duration = Duration::from_millis(100);

/// The event after an exchange, once NCCL has taken it.
type Launched = Arc<OnceLock<Arc<CudaEvent>>>;

/// An exchange that the device may not have done.
struct Pending {
    operation: &'static str,
    done: Launched,
    start: Instant,
    limit: Option<Duration>,
}

impl Pending {
    /// Whether the device has done it.
    fn is_done(&self) -> Result<bool, DriverError> {
        self.done.get().map_or(Ok(false), |event| event.try_is_complete())
    }
}

/// Reason why exchanges were given up.
#[derive(Clone, Debug)]
enum Reason {
    Late { operation: &'static str, seconds: u64 },
    Lost { rank: usize, operation: &'static str },
    Failed { operation: &'static str, reason: String },
}

impl Reason {
    fn error(&self) -> CollectiveError {
        match self.clone() {
            Self::Late { operation, seconds } => CollectiveError::Timeout { operation, seconds, ranks: Vec::new() },
            Self::Lost { rank, operation } => CollectiveError::RankLost { rank, operation },
            Self::Failed { operation, reason } => transport(operation, reason),
        }
    }
}

/// NCCL's handle: one thread starts exchanges, and the watching thread may give them up.
pub struct Handle(pub sys::ncclComm_t);

// SAFETY: A communicator is not bound to a thread, and NCCL lets another one abort it.
unsafe impl Send for Handle {}

/// A handle until exchanges are given up.
enum State {
    Open(Handle),
    GivenUp(Reason),
}

/// A handle of NCCL with the exchanges that were started on it.
pub struct Watched {
    state: Mutex<State>,
    pending: Mutex<VecDeque<Pending>>,
    stream: Arc<CudaStream>,
    others: Option<SharedCollective>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Changes are single steps, which a panic does not interrupt.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watched {
    /// Takes the handle, whose exchanges go to `stream`, and starts a thread that watches it as long as this exists.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub fn start(handle: Handle, stream: Arc<CudaStream>, others: Option<SharedCollective>) -> io::Result<Arc<Self>> {
        let (state, pending) = (Mutex::new(State::Open(handle)), Mutex::default());
        let watched = Arc::new(Self { state, pending, stream, others });
        let weak = Arc::downgrade(&watched);
        std::thread::Builder::new().name("nccl-watch".into()).spawn(move || watch(&weak))?;
        Ok(watched)
    }

    /// Calls NCCL with the handle. The call may wait for other ranks, and is therefore not locked: `ncclCommAbort` ends it
    /// from the watching thread.
    ///
    /// # Errors
    ///
    /// If exchanges were given up, or the call fails.
    pub fn with_handle<T>(
        &self,
        operation: &'static str,
        call: impl FnOnce(sys::ncclComm_t) -> CollectiveResult<T>,
    ) -> CollectiveResult<T> {
        let called = call(self.handle()?);
        // Why exchanges were given up, or a rank that is known to be lost, is a better reason than NCCL's.
        called.map_err(|error| match self.handle() {
            Err(given_up) => given_up,
            Ok(_) => self.lost(operation).map_or(error, |reason| reason.error()),
        })
    }

    fn handle(&self) -> CollectiveResult<sys::ncclComm_t> {
        match &*lock(&self.state) {
            State::Open(Handle(handle)) => Ok(*handle),
            State::GivenUp(reason) => Err(reason.error()),
        }
    }

    /// # Errors
    ///
    /// If exchanges were given up.
    pub fn check(&self) -> CollectiveResult<()> {
        self.handle().map(|_| ())
    }

    /// Notes an exchange that starts now, and is given up after `limit`.
    pub fn begin(&self, operation: &'static str, limit: Option<Duration>) -> Launched {
        let done = Launched::default();
        lock(&self.pending).push_back(Pending { operation, done: done.clone(), start: Instant::now(), limit });
        done
    }

    /// A rank that failed.
    fn lost(&self, operation: &'static str) -> Option<Reason> {
        let rank = self.others.as_ref()?.lost()?;
        Some(Reason::Lost { rank, operation })
    }

    /// Whether the oldest exchange that is not done has to be given up.
    fn look(&self) -> Option<Reason> {
        let mut pending = lock(&self.pending);
        let oldest = loop {
            let oldest = pending.front()?;
            match oldest.is_done() {
                Ok(true) => pending.pop_front(),
                Ok(false) => break oldest,
                Err(error) => {
                    let (operation, reason) = (oldest.operation, error.to_string());
                    return Some(Reason::Failed { operation, reason });
                }
            };
        };
        let operation = oldest.operation;
        let late = oldest.limit.filter(|limit| oldest.start.elapsed() > *limit);
        let late = late.map(|limit| Reason::Late { operation, seconds: limit.as_secs() });
        drop(pending);
        self.lost(operation).or_else(|| self.failed(operation)).or(late)
    }

    /// A failure that NCCL noticed after the call.
    fn failed(&self, operation: &'static str) -> Option<Reason> {
        let State::Open(Handle(handle)) = &*lock(&self.state) else { return None };
        let mut error = sys::ncclResult_t::ncclSuccess;
        // SAFETY: The handle is alive while the state is locked.
        let asked = unsafe { sys::ncclCommGetAsyncError(*handle, &raw mut error) };
        let fine = [sys::ncclResult_t::ncclSuccess, sys::ncclResult_t::ncclInProgress];
        let reason = || Reason::Failed { operation, reason: format!("NCCL reports {error:?}") };
        (asked == sys::ncclResult_t::ncclSuccess && !fine.contains(&error)).then(reason)
    }

    /// Ends all exchanges under way, so that the device does not wait for them.
    fn give_up(&self, reason: Reason) {
        let mut state = lock(&self.state);
        if let State::Open(Handle(handle)) = &*state {
            // SAFETY: The handle is alive. A call under way on another thread ends with an error, and no other begins.
            let _ = unsafe { result::comm_abort(*handle) };
            *state = State::GivenUp(reason);
        }
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // An error means that the device is gone, and the handle with it.
        let _ = self.stream.context().bind_to_thread();
        let idle = lock(&self.pending).iter().all(|exchange| exchange.is_done().unwrap_or(false));
        if let State::Open(Handle(handle)) = &*lock(&self.state) {
            // SAFETY: The handle is alive, and not used any more. Only an idle one can be ended in good order.
            let _ = unsafe { if idle { result::comm_destroy(*handle) } else { result::comm_abort(*handle) } };
        }
    }
}

/// Looks at a communicator from time to time, until it is dropped or given up.
fn watch(watched: &Weak<Watched>) {
    loop {
        std::thread::sleep(INTERVAL);
        let Some(watched) = watched.upgrade() else { return };
        if watched.stream.context().bind_to_thread().is_err() {
            return;
        }
        if let Some(reason) = watched.look() {
            watched.give_up(reason);
            return;
        }
    }
}
