//! Threads that run the ranks of a group.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::ThreadRank;
use super::board::Board;
use crate::collective::SharedCollective;

/// Stack of each thread: that of a program's first thread, for which recursive code is usually written.
const STACK: usize = 8 << 20;
/// Interval at which the end of late ranks is checked.
const CHECK: Duration = Duration::from_millis(200);

/// Threads of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RankThreads {
    /// Number of ranks.
    pub ranks: usize,
    /// Number of compute threads of each rank.
    pub threads: usize,
    /// Longest time that ranks wait for each other in an exchange.
    pub timeout: Duration,
}

/// Failure of the first rank that failed.
#[derive(Debug)]
pub struct RankFailure<E> {
    /// The rank.
    pub rank: usize,
    /// Reason of the failure.
    pub cause: FailureCause<E>,
}

/// Reason why a rank ended.
#[derive(Debug)]
pub enum FailureCause<E> {
    /// The error that its work returned.
    Error(E),
    /// The message of a panic, or the reason why its threads could not be started.
    Crash(String),
}

type Outcome<T, E> = Result<T, FailureCause<E>>;

/// Runs `work` on every rank of a group, each on a thread with compute threads of its own, and returns the results in
/// the order of ranks.
///
/// If a rank fails or panics, the others fail in their next exchange. The call then returns as soon as they have ended.
/// A rank that does not take part in an exchange in time is not waited for; its thread is left behind.
///
/// # Errors
///
/// The failure of the rank that failed first.
pub fn run_ranks<T, E>(
    group: RankThreads,
    work: impl Fn(SharedCollective) -> Result<T, E> + Send + Sync + 'static,
) -> Result<Vec<T>, RankFailure<E>>
where
    T: Send + 'static,
    E: Send + 'static,
{
    let board = Arc::new(Board::new(group.ranks.max(1), group.timeout));
    let (work, (sender, receiver)) = (Arc::new(work), channel());
    for rank in 0..board.size() {
        let (work, board, sender) = (work.clone(), board.clone(), sender.clone());
        let handle = ThreadRank { rank, board: board.clone() };
        let own = (board.clone(), sender.clone());
        let body = move || {
            let outcome = compute(rank, group.threads, move || work(Arc::new(handle)));
            end(rank, &own.0, &own.1, outcome);
        };
        let thread = std::thread::Builder::new().name(format!("rank-{rank}")).stack_size(STACK);
        if let Err(error) = thread.spawn(body) {
            let reason = format!("its thread cannot be started: {error}");
            end(rank, &board, &sender, Err(FailureCause::Crash(reason)));
        }
    }
    drop(sender);
    collect(&board, group, &receiver)
}

/// Notes the end of a rank, and hands over its outcome.
fn end<T, E>(rank: usize, board: &Board, sender: &Sender<(usize, Outcome<T, E>)>, outcome: Outcome<T, E>) {
    board.leave(rank, outcome.is_err());
    // The receiver is gone only if nobody waits for this rank any more.
    let _ = sender.send((rank, outcome));
}

/// Runs `work` with a pool of `threads` compute threads.
fn compute<T: Send, E: Send>(rank: usize, threads: usize, work: impl FnOnce() -> Result<T, E> + Send) -> Outcome<T, E> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.max(1)).stack_size(STACK);
    let pool = pool.thread_name(move |number| format!("rank-{rank}-{number}")).build();
    let pool = pool.map_err(|e| FailureCause::Crash(format!("its compute threads cannot be started: {e}")))?;
    match catch_unwind(AssertUnwindSafe(|| pool.install(work))) {
        Ok(result) => result.map_err(FailureCause::Error),
        Err(panic) => Err(FailureCause::Crash(format!("it panicked: {}", message(panic.as_ref())))),
    }
}

/// Message of a panic.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("without a message").replace('\n', " ")
}

/// Waits for the ranks, except for late ones after a failure.
fn collect<T, E>(
    board: &Board,
    group: RankThreads,
    receiver: &Receiver<(usize, Outcome<T, E>)>,
) -> Result<Vec<T>, RankFailure<E>> {
    let mut outcomes: Vec<Option<Outcome<T, E>>> = (0..board.size()).map(|_| None).collect();
    let mut deadline: Option<Instant> = None;
    while outcomes.iter().any(Option::is_none) {
        match receiver.recv_timeout(CHECK) {
            Ok((rank, outcome)) => outcomes[rank] = Some(outcome),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {}
        }
        if board.failed().is_some() {
            let waited_for = |rank: usize| outcomes[rank].is_none() && !board.is_late(rank);
            let over = *deadline.get_or_insert_with(|| Instant::now() + group.timeout) <= Instant::now();
            if over || !(0..outcomes.len()).any(waited_for) {
                break;
            }
        }
    }
    let Some(rank) = board.failed() else { return Ok(outcomes.into_iter().flatten().filter_map(Result::ok).collect()) };
    match outcomes.swap_remove(rank) {
        Some(Err(cause)) => Err(RankFailure { rank, cause }),
        _ => Err(RankFailure { rank, cause: FailureCause::Crash("it ended without a result".into()) }),
    }
}
