//! The place where the ranks of a thread group leave their tensors for each other.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use candle_core::{DType, Tensor};

use crate::collective::{CollectiveError, CollectiveResult};
use crate::request::Request;

/// What one rank brings to an exchange. The tensors are in host memory and are not changed any more.
#[derive(Clone)]
pub(super) struct Offer {
    pub request: Request,
    pub tensors: Arc<[Tensor]>,
}

impl Offer {
    fn shapes(&self) -> Vec<(Vec<usize>, DType)> {
        self.tensors.iter().map(|tensor| (tensor.dims().to_vec(), tensor.dtype())).collect()
    }

    fn describe(&self) -> String {
        self.request.describe(&self.tensors)
    }
}

/// One exchange.
struct Round {
    /// Offer of each rank.
    offers: Vec<Option<Offer>>,
    /// Number of ranks that took the offers.
    taken: usize,
}

struct State {
    /// Exchanges that some rank has not finished, by number.
    rounds: BTreeMap<u64, Round>,
    /// Number of the next exchange of each rank.
    next: Vec<u64>,
    /// Whether each rank has left, so that it takes part in no further exchange.
    left: Vec<bool>,
    /// The first rank that failed.
    failed: Option<usize>,
    /// Ranks that did not take part in time.
    late: Vec<usize>,
    /// Time that each rank has waited in exchanges.
    waited: Vec<Duration>,
}

/// State that all ranks share.
pub(super) struct Board {
    size: usize,
    timeout: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

impl Board {
    pub fn new(size: usize, timeout: Duration) -> Self {
        let (rounds, next, left, waited) =
            (BTreeMap::new(), vec![0; size], vec![false; size], vec![Duration::ZERO; size]);
        let state = Mutex::new(State { rounds, next, left, failed: None, late: Vec::new(), waited });
        Self { size, timeout, state, changed: Condvar::new() }
    }

    pub fn size(&self) -> usize {
        self.size
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Changes are single steps, which a panic does not interrupt.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an offer to the rank's next exchange, and returns its number.
    pub fn offer(&self, rank: usize, offer: Offer) -> u64 {
        let mut state = self.lock();
        let number = state.next[rank];
        state.next[rank] += 1;
        let size = self.size;
        let round = state.rounds.entry(number).or_insert_with(|| Round { offers: vec![None; size], taken: 0 });
        round.offers[rank] = Some(offer);
        if round.offers.iter().all(Option::is_some) {
            self.changed.notify_all();
        }
        number
    }

    /// Waits as `rank` for the offers of all ranks in exchange `number`, and returns them in the order of ranks.
    pub fn take(&self, rank: usize, number: u64, request: Request) -> CollectiveResult<Vec<Offer>> {
        let operation = request.name();
        let start = Instant::now();
        let mut state = self.lock();
        loop {
            if let Some(offers) = state.taken(number, self.size) {
                if request != Request::WaitForAll {
                    state.waited[rank] += start.elapsed();
                }
                drop(state);
                return agreed(offers, operation);
            }
            let missing = state.missing(number, self.size);
            let gone = missing.iter().copied().find(|&rank| state.left[rank]);
            if let Some(rank) = state.failed.or(gone) {
                return Err(CollectiveError::RankLost { rank, operation });
            }
            // One rank may do work of any length before it waits for the others.
            let limit = if request == Request::WaitForAll { Duration::MAX } else { self.timeout };
            let Some(rest) = limit.checked_sub(start.elapsed()).filter(|rest| !rest.is_zero()) else {
                state.late.extend(&missing);
                return Err(CollectiveError::Timeout { operation, seconds: limit.as_secs(), ranks: missing });
            };
            (state, _) = self.changed.wait_timeout(state, rest.min(LONGEST)).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Notes that a rank takes part in no further exchange.
    pub fn leave(&self, rank: usize, failed: bool) {
        let mut state = self.lock();
        state.left[rank] = true;
        if failed {
            state.failed.get_or_insert(rank);
        }
        drop(state);
        self.changed.notify_all();
    }

    /// The first rank that failed.
    pub fn failed(&self) -> Option<usize> {
        self.lock().failed
    }

    /// Time that a rank has waited for others in exchanges.
    pub fn waited(&self, rank: usize) -> Duration {
        self.lock().waited[rank]
    }

    /// Whether a rank did not take part in an exchange in time.
    pub fn is_late(&self, rank: usize) -> bool {
        self.lock().late.contains(&rank)
    }
}

/// Longest wait that every system's clock can express.
const LONGEST: Duration = Duration::from_secs(3600);

impl State {
    /// The offers of an exchange if they are complete; the last rank that takes them removes the exchange.
    fn taken(&mut self, number: u64, size: usize) -> Option<Vec<Offer>> {
        let round = self.rounds.get_mut(&number)?;
        let offers: Vec<Offer> = round.offers.iter().cloned().collect::<Option<_>>()?;
        round.taken += 1;
        if round.taken == size {
            self.rounds.remove(&number);
        }
        Some(offers)
    }

    /// Ranks without an offer in an exchange.
    fn missing(&self, number: u64, size: usize) -> Vec<usize> {
        (0..size).filter(|&rank| self.next[rank] <= number).collect()
    }
}

/// The offers, if all are of the same operation, with tensors of the same shapes and types.
fn agreed(offers: Vec<Offer>, operation: &'static str) -> CollectiveResult<Vec<Offer>> {
    let Some(first) = offers.first() else { return Ok(offers) };
    let same = |other: &Offer| other.request == first.request && other.shapes() == first.shapes();
    match offers.iter().position(|other| !same(other)) {
        None => Ok(offers),
        Some(rank) => {
            let what = format!("{} and, on process {rank}, {}", first.describe(), offers[rank].describe());
            Err(CollectiveError::Mismatch { operation, what })
        }
    }
}
