//! Collective communication between the processes of a run: all-reduce, all-gather and broadcast.
//!
//! Batch norm's per-channel sums, the losses and the gradients go through a [`Collective`], so that N processes compute
//! the same result as one process with the whole batch. [`SingleProcess`] is the collective of a run in one process.

use std::sync::Arc;
use std::time::Duration;

use candle_core::Tensor;

/// Error of communication between processes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CollectiveError {
    /// Another process ended or cannot be reached.
    #[error(
        "process {rank} was lost during {operation}; its own output may have the reason; resume from the newest checkpoint"
    )]
    RankLost {
        /// Rank of the lost process.
        rank: usize,
        /// The operation that noticed it, e.g. `"all-reduce"`.
        operation: &'static str,
    },
    /// The other processes did not take part in time.
    #[error(
        "{operation} between processes did not finish within {seconds} s{}; look for a process that is stuck or slow, \
         or raise execution.timeout",
        named(.ranks)
    )]
    Timeout {
        /// The operation that timed out.
        operation: &'static str,
        /// Time limit in seconds.
        seconds: u64,
        /// Ranks that did not take part, as far as they are known.
        ranks: Vec<usize>,
    },
    /// The processes passed tensors that do not fit together, or called different operations.
    #[error("the processes disagree in {operation}: {what}; start all with the same version, recipe and data")]
    Mismatch {
        /// The operation in which they disagree.
        operation: &'static str,
        /// The difference, as a clause.
        what: String,
    },
    /// The communication library or the network failed.
    #[error(
        "{operation} between processes failed: {reason}; check the network and the launcher, and resume from the \
         newest checkpoint"
    )]
    Transport {
        /// The failed operation.
        operation: &'static str,
        /// Message of the library.
        reason: String,
    },
    /// A tensor operation on one process failed.
    #[error("tensor operation failed in an exchange between processes: {0}")]
    Tensor(#[from] candle_core::Error),
}

/// The processes that an error waits for, as a clause.
fn named(ranks: &[usize]) -> String {
    let list = ranks.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    if list.is_empty() { list } else { format!(": process {list} did not take part") }
}

/// `Result` with [`CollectiveError`].
pub type CollectiveResult<T> = std::result::Result<T, CollectiveError>;

/// Elementwise reduction over ranks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Sum, in an order that the contract does not fix.
    Sum,
    /// Maximum.
    Max,
    /// Minimum.
    Min,
}

/// Communication between the processes of one run.
///
/// Every rank calls the same operations in the same order, with tensors of the same number, shapes and types. Tensors
/// may have any memory layout; results are on the device of their input. Tensors in host memory are accepted whatever
/// the device of the run. An operation may return before its result is computed, as kernels on a device do.
pub trait Collective: Send + Sync {
    /// Rank of this process, counted from 0.
    fn rank(&self) -> usize;

    /// Number of processes (the world size).
    fn size(&self) -> usize;

    /// Whether sums are the same bit for bit in every run with the same number of processes. All ranks get the same
    /// bits in any case.
    fn is_deterministic(&self) -> bool;

    /// Reduces each of `tensors` over all ranks; the results have the same shapes. One call takes many tensors, of
    /// different shapes and types, so that they can be sent together.
    ///
    /// # Errors
    ///
    /// If a process is lost or too slow, the ranks' tensors differ in number or shape, or the transport fails.
    fn all_reduce(&self, tensors: &[Tensor], reduction: Reduction) -> CollectiveResult<Vec<Tensor>>;

    /// Tensors `[rows, …]` of all ranks, concatenated to `[size·rows, …]` in the order of ranks.
    ///
    /// # Errors
    ///
    /// Those of [`all_reduce`](Self::all_reduce).
    fn all_gather(&self, tensor: &Tensor) -> CollectiveResult<Tensor>;

    /// The tensors of rank `root`, which have the shapes of `tensors`.
    ///
    /// # Errors
    ///
    /// Those of [`all_reduce`](Self::all_reduce).
    fn broadcast(&self, tensors: &[Tensor], root: usize) -> CollectiveResult<Vec<Tensor>>;

    /// Starts an [`all_reduce`](Self::all_reduce) that may run while this process computes. Several may be under way;
    /// every rank starts them in the same order. The tensors must not be changed in place any more. The default performs
    /// the exchange at once.
    ///
    /// # Errors
    ///
    /// Those of [`all_reduce`](Self::all_reduce).
    fn start_all_reduce(&self, tensors: Vec<Tensor>, reduction: Reduction) -> CollectiveResult<Box<dyn Exchange>> {
        Ok(Box::new(Completed(self.all_reduce(&tensors, reduction)?)))
    }

    /// Waits until every rank has called this, for work of unknown length that only one of them does, such as an
    /// evaluation. Implementations with a time limit for exchanges have none here. The default is an exchange of no
    /// tensors.
    ///
    /// # Errors
    ///
    /// If a process is lost, or the transport fails.
    fn wait_for_all(&self) -> CollectiveResult<()> {
        self.all_reduce(&[], Reduction::Max).map(|_| ())
    }

    /// Time that this process has waited for others in exchanges, without [`wait_for_all`](Self::wait_for_all). The
    /// default is zero, for implementations that do not know it.
    fn waited(&self) -> Duration {
        Duration::ZERO
    }

    /// Whether all exchanges so far were completed, for implementations whose results can be read before that is known,
    /// as those of a device. Ask once results were read by the host, before they are used further. The default has no
    /// such results.
    ///
    /// # Errors
    ///
    /// If an exchange was given up, so that its results mean nothing.
    fn check(&self) -> CollectiveResult<()> {
        Ok(())
    }

    /// A rank that is known to have failed, outside of any exchange. The default knows of none.
    fn lost(&self) -> Option<usize> {
        None
    }

    /// Sum of one tensor over all ranks; same shape.
    ///
    /// # Errors
    ///
    /// Those of [`all_reduce`](Self::all_reduce).
    fn all_reduce_sum(&self, tensor: &Tensor) -> CollectiveResult<Tensor> {
        let mut sums = self.all_reduce(std::slice::from_ref(tensor), Reduction::Sum)?;
        check_number(&sums, 1)?;
        Ok(sums.swap_remove(0))
    }

    /// Whether this is the first process, which alone writes files and logs.
    fn is_first(&self) -> bool {
        self.rank() == 0
    }
}

/// An exchange under way.
pub trait Exchange {
    /// Waits for the exchange and returns its results, in the order of the tensors that it was started with.
    ///
    /// # Errors
    ///
    /// Those of [`Collective::all_reduce`].
    fn finish(self: Box<Self>) -> CollectiveResult<Vec<Tensor>>;
}

/// Shared handle to the collective of a run.
pub type SharedCollective = Arc<dyn Collective>;

/// An exchange that was performed when it was started.
struct Completed(Vec<Tensor>);

impl Exchange for Completed {
    fn finish(self: Box<Self>) -> CollectiveResult<Vec<Tensor>> {
        Ok(self.0)
    }
}

/// Checks that an all-reduce of `number` tensors gave as many results.
///
/// # Errors
///
/// If it did not.
pub(crate) fn check_number(results: &[Tensor], number: usize) -> CollectiveResult<()> {
    if results.len() == number {
        return Ok(());
    }
    let what = format!("{} results for {number} tensors", results.len());
    Err(CollectiveError::Mismatch { operation: "all-reduce", what })
}

/// Collective of a single process: every operation returns its input.
#[derive(Clone, Copy, Debug, Default)]
pub struct SingleProcess;

impl SingleProcess {
    /// Shared handle to the collective of a single process.
    pub fn shared() -> SharedCollective {
        Arc::new(Self)
    }
}

impl Collective for SingleProcess {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        1
    }

    fn is_deterministic(&self) -> bool {
        true
    }

    fn all_reduce(&self, tensors: &[Tensor], _reduction: Reduction) -> CollectiveResult<Vec<Tensor>> {
        Ok(tensors.to_vec())
    }

    fn all_gather(&self, tensor: &Tensor) -> CollectiveResult<Tensor> {
        Ok(tensor.clone())
    }

    fn broadcast(&self, tensors: &[Tensor], _root: usize) -> CollectiveResult<Vec<Tensor>> {
        Ok(tensors.to_vec())
    }

    fn all_reduce_sum(&self, tensor: &Tensor) -> CollectiveResult<Tensor> {
        Ok(tensor.clone())
    }
}
