//! Exchanges under way, and the wait for one of them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use candle_core::Tensor;
use equimod_core::request::Request;
use equimod_core::{CollectiveError, CollectiveResult};

use super::ending::Endings;
use super::exchange::Exchange;
use super::link::{Link, Message};
use super::pause::{PATIENT, pause};
use super::peers::Peers;

/// State of a process in its group.
pub struct Progress {
    pub rank: usize,
    pub size: usize,
    state: Mutex<State>,
    waited: AtomicU64,
}

/// What one thread at a time may use.
pub struct State {
    pub link: Link,
    pub peers: Peers,
    pub endings: Endings,
    /// Ranks that did not take part in an exchange in time, so that their word is not waited for.
    pub late: Vec<usize>,
    /// Number of the next exchange.
    next: u64,
    under_way: BTreeMap<u64, Exchange>,
    /// Messages of finished exchanges that are still being sent.
    outgoing: Vec<Message>,
}

impl Progress {
    pub fn new(link: Link, peers: Peers) -> Self {
        let (rank, size) = (link.rank, link.size);
        let (under_way, outgoing, endings) = (BTreeMap::new(), Vec::new(), Endings::new(size));
        let state = Mutex::new(State { link, peers, endings, late: Vec::new(), next: 0, under_way, outgoing });
        Self { rank, size, state, waited: AtomicU64::new(0) }
    }

    /// Notes who the other processes are.
    pub fn know(&self, peers: Peers) {
        self.lock().peers = peers;
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        // The library's own state does not depend on ours.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time spent in waiting for others, except for all of them.
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }

    /// A process that has said that it failed, or has ended without a word on this machine.
    pub fn lost(&self) -> Option<usize> {
        let mut state = self.lock();
        if !state.link.is_open() {
            return None;
        }
        // A failure of the library shows in the next exchange.
        let State { link, endings, peers, .. } = &mut *state;
        let _ = endings.receive(link);
        endings.first().or_else(|| peers.ended())
    }

    /// Starts the next exchange, and returns its number.
    pub fn start(&self, request: Request, own: Vec<Tensor>) -> CollectiveResult<u64> {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let exchange = Exchange::start(&state.link, number, request, own)?;
        state.under_way.insert(number, exchange);
        drop(state);
        self.advance(request)?;
        Ok(number)
    }

    /// Waits for an exchange, and returns its results, flat and in host memory.
    pub fn finished(&self, number: u64, request: Request, limit: Duration) -> CollectiveResult<Vec<Tensor>> {
        let start = Instant::now();
        let mut checked = start;
        let exchange = loop {
            self.advance(request)?;
            let mut state = self.lock();
            if state.is_complete(number)
                && let Some(exchange) = state.under_way.remove(&number)
            {
                break exchange;
            }
            let waited = start.elapsed();
            if waited >= PATIENT && checked.elapsed() >= PATIENT {
                checked = Instant::now();
                state.check_peers(request)?;
            }
            if waited >= limit {
                let ranks = state.under_way.get(&number).map(Exchange::missing).unwrap_or_default();
                state.late.clone_from(&ranks);
                return Err(CollectiveError::Timeout { operation: request.name(), seconds: limit.as_secs(), ranks });
            }
            drop(state);
            pause(waited);
        };
        if request != Request::WaitForAll {
            self.waited.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        }
        // Sums take time, in which other threads may look for messages.
        let (results, outgoing) = exchange.finish()?;
        self.lock().outgoing.extend(outgoing);
        Ok(results)
    }

    /// Receives what has come, and reduces what is complete.
    fn advance(&self, request: Request) -> CollectiveResult<()> {
        let mut state = self.lock();
        state.receive(request)?;
        while let Some(number) = state.awaits_part() {
            let Some(exchange) = state.under_way.remove(&number) else { break };
            drop(state);
            let part = exchange.reduce_part();
            state = self.lock();
            let mut exchange = exchange;
            exchange.pass_part(&state.link, part?)?;
            state.under_way.insert(number, exchange);
        }
        Ok(())
    }

    /// Shuts down the library; all processes have to.
    pub fn finish(&self) {
        self.lock().link.finish();
    }
}

impl State {
    /// Receives what has come in all exchanges.
    fn receive(&mut self, request: Request) -> CollectiveResult<()> {
        self.endings.receive(&self.link)?;
        if let Some(rank) = self.endings.first() {
            return Err(CollectiveError::RankLost { rank, operation: request.name() });
        }
        for exchange in self.under_way.values_mut() {
            exchange.receive(&self.link)?;
        }
        let mut rest = Vec::new();
        for mut message in self.outgoing.drain(..) {
            if !message.is_done()? {
                rest.push(message);
            }
        }
        self.outgoing = rest;
        Ok(())
    }

    /// An exchange whose own part can be reduced.
    fn awaits_part(&self) -> Option<u64> {
        self.under_way.iter().find(|(_, exchange)| exchange.awaits_part()).map(|(number, _)| *number)
    }

    fn is_complete(&self, number: u64) -> bool {
        self.under_way.get(&number).is_some_and(|exchange| !exchange.awaits_part() && exchange.missing().is_empty())
    }

    /// Fails if a process of this machine has ended without a word.
    fn check_peers(&self, request: Request) -> CollectiveResult<()> {
        match self.peers.ended() {
            Some(rank) => Err(CollectiveError::RankLost { rank, operation: request.name() }),
            None => Ok(()),
        }
    }
}
