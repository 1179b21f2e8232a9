//! A collective whose processes are threads.
#![allow(dead_code, clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};

use candle_core::{Shape, Tensor};
use equimod_core::{Collective, CollectiveError, CollectiveResult, Exchange, Reduction};

/// State that the threads share.
struct Board {
    barrier: Barrier,
    places: Mutex<Vec<Vec<Tensor>>>,
}

/// Handle of one thread. Sums are added in descending order of ranks, from another rank in each call.
#[derive(Clone)]
pub struct Threads {
    rank: usize,
    size: usize,
    board: Arc<Board>,
    calls: Arc<AtomicUsize>,
    /// Shapes of the tensors in each started exchange.
    started: Arc<Mutex<Vec<Vec<Shape>>>>,
}

impl Threads {
    pub fn group(size: usize) -> Vec<Self> {
        let board = Arc::new(Board { barrier: Barrier::new(size), places: Mutex::new(vec![Vec::new(); size]) });
        let of_rank = |rank| {
            let (calls, started) = (Arc::default(), Arc::default());
            Self { rank, size, board: board.clone(), calls, started }
        };
        (0..size).map(of_rank).collect()
    }

    /// Runs `work` on each of `size` ranks, and returns its results in the order of ranks.
    pub fn run<T: Send>(size: usize, work: impl Fn(Self) -> T + Sync) -> Vec<T> {
        std::thread::scope(|scope| {
            let threads: Vec<_> = Self::group(size).into_iter().map(|rank| scope.spawn(|| work(rank))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    pub fn started(&self) -> Vec<Vec<Shape>> {
        self.started.lock().unwrap().clone()
    }

    /// Tensors of every rank, in the order of ranks.
    fn exchange(&self, operation: &'static str, tensors: &[Tensor]) -> CollectiveResult<Vec<Vec<Tensor>>> {
        let own = tensors.iter().map(|tensor| tensor.detach().copy()).collect::<candle_core::Result<_>>()?;
        self.board.places.lock().unwrap()[self.rank] = own;
        self.board.barrier.wait();
        let all = self.board.places.lock().unwrap().clone();
        self.board.barrier.wait();
        let shapes = |of: &[Tensor]| of.iter().map(|tensor| tensor.dims().to_vec()).collect::<Vec<_>>();
        match all.iter().position(|other| shapes(other) != shapes(&all[0])) {
            None => Ok(all),
            Some(rank) => {
                let what = format!("shapes {:?} and, on process {rank}, {:?}", shapes(&all[0]), shapes(&all[rank]));
                Err(CollectiveError::Mismatch { operation, what })
            }
        }
    }
}

impl Collective for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn is_deterministic(&self) -> bool {
        true
    }

    fn all_reduce(&self, tensors: &[Tensor], reduction: Reduction) -> CollectiveResult<Vec<Tensor>> {
        let all = self.exchange("all-reduce", tensors)?;
        let first = self.calls.fetch_add(1, Ordering::Relaxed) % self.size;
        let order: Vec<usize> = (1..=self.size).map(|i| (first + self.size - i) % self.size).collect();
        let reduced = |place: usize| {
            order[1..].iter().try_fold(all[order[0]][place].clone(), |so_far, &rank| match reduction {
                Reduction::Sum => so_far + &all[rank][place],
                Reduction::Max => so_far.maximum(&all[rank][place]),
                Reduction::Min => so_far.minimum(&all[rank][place]),
            })
        };
        Ok((0..tensors.len()).map(reduced).collect::<candle_core::Result<_>>()?)
    }

    fn all_gather(&self, tensor: &Tensor) -> CollectiveResult<Tensor> {
        Ok(Tensor::cat(&self.exchange("all-gather", std::slice::from_ref(tensor))?.concat(), 0)?)
    }

    fn broadcast(&self, tensors: &[Tensor], root: usize) -> CollectiveResult<Vec<Tensor>> {
        Ok(self.exchange("broadcast", tensors)?.swap_remove(root))
    }

    fn start_all_reduce(&self, tensors: Vec<Tensor>, reduction: Reduction) -> CollectiveResult<Box<dyn Exchange>> {
        self.started.lock().unwrap().push(tensors.iter().map(|tensor| tensor.shape().clone()).collect());
        Ok(Box::new(Deferred { rank: self.clone(), tensors, reduction }))
    }
}

/// An exchange that takes place when it is finished, after everything else in between.
struct Deferred {
    rank: Threads,
    tensors: Vec<Tensor>,
    reduction: Reduction,
}

impl Exchange for Deferred {
    fn finish(self: Box<Self>) -> CollectiveResult<Vec<Tensor>> {
        self.rank.all_reduce(&self.tensors, self.reduction)
    }
}
