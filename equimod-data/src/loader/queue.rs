//! Work queue of a loader's threads.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::pieces::Batch;
use crate::Result;

/// A piece of a batch to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Task {
    /// Index of the batch, counted over all epochs.
    pub batch: u64,
    /// Index of the piece in the batch.
    pub piece: usize,
}

struct State {
    /// Next piece to make.
    next: Task,
    /// Next batch to hand out.
    consumed: u64,
    /// Pieces of started batches; `None` while a piece is being made.
    made: BTreeMap<u64, Vec<Option<Result<Batch>>>>,
    /// Pieces whose buffers can be reused.
    spare: Vec<Batch>,
    stop: bool,
}

/// Pieces in order, at most `ahead` batches in advance.
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    ahead: u64,
}

impl Queue {
    pub fn new(first: u64, ahead: u64) -> Self {
        let next = Task { batch: first, piece: 0 };
        let state = State { next, consumed: first, made: BTreeMap::new(), spare: Vec::new(), stop: false };
        Self { state: Mutex::new(state), changed: Condvar::new(), ahead }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panics leaves a consistent state, which only changes in single steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next piece to make; `pieces` is the number of pieces of a batch. `None` after
    /// [`stop`](Self::stop).
    pub fn take(&self, pieces: impl Fn(u64) -> usize) -> Option<Task> {
        let mut state = self.lock();
        while !state.stop && state.next.batch >= state.consumed + self.ahead {
            state = self.wait(state);
        }
        if state.stop {
            return None;
        }
        let task = state.next;
        let count = pieces(task.batch);
        state.made.entry(task.batch).or_insert_with(|| (0..count).map(|_| None).collect());
        state.next = match task.piece + 1 < count {
            true => Task { piece: task.piece + 1, ..task },
            false => Task { batch: task.batch + 1, piece: 0 },
        };
        Some(task)
    }

    pub fn put(&self, task: Task, made: Result<Batch>) {
        let mut state = self.lock();
        if let Some(place) = state.made.get_mut(&task.batch).and_then(|pieces| pieces.get_mut(task.piece)) {
            *place = Some(made);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// Waits until all pieces of `batch` are made, and returns them.
    pub fn wait_for(&self, batch: u64) -> Vec<Result<Batch>> {
        let mut state = self.lock();
        while !state.made.get(&batch).is_some_and(|pieces| pieces.iter().all(Option::is_some)) {
            state = self.wait(state);
        }
        let pieces = state.made.remove(&batch).unwrap_or_default();
        state.consumed = batch + 1;
        drop(state);
        self.changed.notify_all();
        pieces.into_iter().flatten().collect()
    }

    /// A piece whose buffers can be reused.
    pub fn take_spare(&self) -> Option<Batch> {
        self.lock().spare.pop()
    }

    /// Returns pieces whose buffers can be reused.
    pub fn give_back(&self, pieces: impl IntoIterator<Item = Batch>) {
        self.lock().spare.extend(pieces);
    }

    /// Stops the threads.
    pub fn stop(&self) {
        self.lock().stop = true;
        self.changed.notify_all();
    }
}
