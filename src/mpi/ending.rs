//! The end of all processes after the failure of one: they agree on who reports it, and on the exit code.

use std::thread::sleep;
use std::time::{Duration, Instant};

use equimod_core::CollectiveResult;

use super::Processes;
use super::link::{Link, Message};
use super::pause::pause;

/// Tag of the messages with which processes end.
const TAG: i32 = 32_767;

/// Longest time to wait for the other processes to end.
const GRACE: Duration = Duration::from_secs(10);

/// The word of a process that ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ending {
    /// Whether it failed by itself, not because another process did.
    own: bool,
    /// Exit code of its failure.
    code: u8,
}

/// The words of all processes so far.
pub struct Endings {
    of_ranks: Vec<Option<Ending>>,
    incoming: Vec<Message>,
}

impl Endings {
    pub fn new(size: usize) -> Self {
        Self { of_ranks: vec![None; size], incoming: Vec::new() }
    }

    /// Receives what has come.
    pub fn receive(&mut self, link: &Link) -> CollectiveResult<()> {
        while let Some(message) = link.arrived(None, TAG)? {
            self.incoming.push(message);
        }
        for mut message in std::mem::take(&mut self.incoming) {
            if message.is_done()? {
                self.note(&message.into_bytes());
            } else {
                self.incoming.push(message);
            }
        }
        Ok(())
    }

    /// Notes a message: the rank in four bytes, whether the failure is its own, and the code.
    fn note(&mut self, message: &[u8]) {
        if let Some((rank, &[own, code])) = message.split_first_chunk::<4>()
            && let Some(of_rank) = self.of_ranks.get_mut(u32::from_le_bytes(*rank) as usize)
        {
            *of_rank = Some(Ending { own: own != 0, code });
        }
    }

    /// The lowest rank that failed by itself.
    pub fn first(&self) -> Option<usize> {
        self.of_ranks.iter().position(|ending| ending.is_some_and(|ending| ending.own))
    }
}

/// The failure of a run, as one of its processes ends with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Whether this process reports the failure: one of them does.
    pub reports: bool,
    /// Exit code of all processes.
    pub code: u8,
}

impl Failure {
    /// The failure by the words of the processes, as `rank` sees it.
    fn of(endings: &Endings, rank: usize, code: u8) -> Self {
        let first = endings.first();
        let code = first.and_then(|first| endings.of_ranks[first]).map_or(code, |ending| ending.code);
        Self { reports: first.is_none_or(|first| first == rank), code }
    }
}

impl Processes {
    /// Tells the other processes that this one ends with an exit code, and waits until they end as well, though not for
    /// long. The caller then reports the failure, if it is its turn, and [ends all](Self::end_all).
    pub fn fail(&self, code: u8) -> Failure {
        let (rank, start) = (self.rank(), Instant::now());
        let mut sent = Vec::new();
        {
            let mut state = self.progress.lock();
            let own = state.endings.first().is_none();
            state.endings.of_ranks[rank] = Some(Ending { own, code });
            let message = [&(rank as u32).to_le_bytes()[..], &[u8::from(own), code]].concat();
            // A process that cannot be reached is ended by the launcher.
            let others = (0..self.size()).filter(|&other| other != rank);
            sent.extend(others.filter_map(|other| state.link.send(other, TAG, message.clone()).ok()));
        }
        while start.elapsed() < GRACE && !self.all_have_ended(&mut sent) {
            pause(start.elapsed());
        }
        Failure::of(&self.progress.lock().endings, rank, code)
    }

    /// Whether the other processes end, and know that this one does.
    fn all_have_ended(&self, sent: &mut [Message]) -> bool {
        let mut state = self.progress.lock();
        let state = &mut *state;
        if state.endings.receive(&state.link).is_err() || sent.iter_mut().any(|message| message.is_done().is_err()) {
            return true;
        }
        let gone = state.peers.ended();
        let is_silent = |rank: usize| gone == Some(rank) || state.late.contains(&rank);
        state.endings.of_ranks.iter().enumerate().all(|(rank, ending)| ending.is_some() || is_silent(rank))
    }

    /// Ends all processes with the exit code of a failure, once it is reported.
    pub fn end_all(&self, failure: Failure) -> ! {
        if !failure.reports {
            // The process that reports the failure ends all.
            sleep(GRACE);
        }
        self.progress.lock().link.abort(failure.code.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_rank_that_failed_by_itself_reports() {
        let mut endings = Endings::new(4);
        assert_eq!(Failure::of(&endings, 2, 1), Failure { reports: true, code: 1 });
        for message in [[3, 0, 0, 0, 1, 7], [0, 0, 0, 0, 0, 1], [2, 0, 0, 0, 1, 3], [9, 0, 0, 0, 1, 5]] {
            endings.note(&message);
        }
        endings.note(&[1, 0]);
        assert_eq!(endings.of_ranks[0], Some(Ending { own: false, code: 1 }));
        assert_eq!((endings.of_ranks[1], endings.first()), (None, Some(2)));
        assert_eq!(Failure::of(&endings, 2, 3), Failure { reports: true, code: 3 });
        for rank in [0, 3] {
            assert_eq!(Failure::of(&endings, rank, 1), Failure { reports: false, code: 3 });
        }
    }
}
