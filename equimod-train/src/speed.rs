//! Throughput of training, and the breakdown of a step's time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Number of steps over which throughput and shares are averaged.
const WINDOW: usize = 20;

/// Time spent in each phase of a step.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Waiting for the loader.
    pub data: Duration,
    /// Forward pass, from images to losses.
    pub forward: Duration,
    /// Backward pass, from losses to gradients.
    pub backward: Duration,
    /// Update, from gradients to weights: guard, clipping and optimizer.
    pub optimizer: Duration,
    /// Waiting for other ranks, which is part of the phases above.
    pub exchange: Duration,
}

impl Spent {
    fn sum(of: impl Iterator<Item = Self>) -> Self {
        of.fold(Self::default(), |a, b| Self {
            data: a.data + b.data,
            forward: a.forward + b.forward,
            backward: a.backward + b.backward,
            optimizer: a.optimizer + b.optimizer,
            exchange: a.exchange + b.exchange,
        })
    }
}

/// Shares of a step's time in each phase, from 0 to 1. The rest goes to transfers, log files and displays.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Waiting for the loader.
    pub data: f64,
    /// Forward pass, from images to losses.
    pub forward: f64,
    /// Backward pass, from losses to gradients.
    pub backward: f64,
    /// Update, from gradients to weights.
    pub optimizer: f64,
    /// Waiting for other ranks, which is part of the phases above.
    pub exchange: f64,
}

impl Shares {
    fn of(spent: Spent, seconds: f64) -> Self {
        let share = |part: Duration| part.as_secs_f64() / seconds.max(1e-9);
        Self {
            data: share(spent.data),
            forward: share(spent.forward),
            backward: share(spent.backward),
            optimizer: share(spent.optimizer),
            exchange: share(spent.exchange),
        }
    }

    /// Name and value of the share of each phase.
    pub fn named(self) -> [(&'static str, f64); 4] {
        [("data", self.data), ("forward", self.forward), ("backward", self.backward), ("optimizer", self.optimizer)]
    }
}

/// The slowest of several ranks: the one that waits least for the others, because they wait for it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Slowest {
    /// The rank.
    pub rank: usize,
    /// Share of its time in which it waits for the loader.
    pub data: f64,
    /// Share of its time in which it waits for other ranks.
    pub exchange: f64,
    /// Largest share of another rank's time in which that rank waits for other ranks.
    pub others: f64,
}

impl Slowest {
    /// The slowest rank by the shares of all ranks; `None` if there is only one, or none is known to have waited, as where
    /// GPUs wait for each other.
    pub(crate) fn of(ranks: &[Shares]) -> Option<Self> {
        if ranks.len() < 2 || ranks.iter().all(|shares| shares.exchange == 0.0) {
            return None;
        }
        let (rank, shares) = ranks.iter().enumerate().min_by(|a, b| a.1.exchange.total_cmp(&b.1.exchange))?;
        let others = ranks.iter().enumerate().filter(|(other, _)| *other != rank).map(|(_, shares)| shares.exchange);
        Some(Self { rank, data: shares.data, exchange: shares.exchange, others: others.fold(0.0, f64::max) })
    }
}

impl std::fmt::Display for Slowest {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let [data, exchange, others] = [self.data, self.exchange, self.others].map(|share| 100.0 * share);
        let rank = self.rank;
        write!(
            f,
            "slowest rank {rank} (waits {data:.0} % for data, {exchange:.0} % for ranks; others up to {others:.0} %)"
        )
    }
}

/// Throughput of training.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Training time in seconds, without probes and checkpoints between steps.
    pub seconds: f64,
    /// Number of steps in that time.
    pub steps: u64,
    /// Images per second.
    pub images_per_second: f64,
    /// Breakdown of the time by phase.
    pub shares: Shares,
    /// The slowest of several ranks, once it is known.
    pub slowest: Option<Slowest>,
}

/// Stopwatch over the steps of a run.
pub(crate) struct Speed {
    images: usize,
    last: Instant,
    /// Time that this rank has waited for others until the last step.
    waited: Duration,
    recent: VecDeque<(Duration, Spent)>,
    total: (Duration, Spent, u64),
}

impl Speed {
    /// A stopwatch for steps of `images` images, started now.
    pub fn new(images: usize) -> Self {
        let (recent, total) = (VecDeque::with_capacity(WINDOW), Default::default());
        Self { images, last: Instant::now(), waited: Duration::ZERO, recent, total }
    }

    /// Records a step that took `spent` by phase, after which this rank has waited for others for `waited` altogether.
    pub fn tick(&mut self, spent: Spent, waited: Duration) {
        let spent = Spent { exchange: waited.saturating_sub(self.waited), ..spent };
        self.waited = waited;
        let now = Instant::now();
        let whole = now - self.last;
        self.last = now;
        if self.recent.len() == WINDOW {
            self.recent.pop_front();
        }
        self.recent.push_back((whole, spent));
        let (time, parts, steps) = self.total;
        self.total = (time + whole, Spent::sum([parts, spent].into_iter()), steps + 1);
    }

    /// Restarts the clock, so that the time since the last step is not counted; until now, this rank has waited for
    /// others for `waited` altogether.
    pub fn pause(&mut self, waited: Duration) {
        (self.last, self.waited) = (Instant::now(), waited);
    }

    /// Throughput over the most recent steps.
    pub fn recent(&self) -> Pace {
        let time = self.recent.iter().map(|(time, _)| *time).sum();
        self.pace(time, Spent::sum(self.recent.iter().map(|(_, spent)| *spent)), self.recent.len() as u64)
    }

    /// Throughput over all steps.
    pub fn overall(&self) -> Pace {
        let (time, spent, steps) = self.total;
        self.pace(time, spent, steps)
    }

    fn pace(&self, time: Duration, spent: Spent, steps: u64) -> Pace {
        let seconds = time.as_secs_f64();
        let images_per_second = steps as f64 * self.images as f64 / seconds.max(1e-9);
        Pace { seconds, steps, images_per_second, shares: Shares::of(spent, seconds), slowest: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_do_not_count_and_shares_are_of_the_steps() {
        let mut speed = Speed::new(10);
        std::thread::sleep(Duration::from_millis(40));
        speed.pause(Duration::from_millis(30));
        std::thread::sleep(Duration::from_millis(10));
        speed.tick(Spent { forward: Duration::from_millis(5), ..Spent::default() }, Duration::from_millis(32));
        let pace = speed.overall();
        assert!((0.010..0.040).contains(&pace.seconds), "{pace:?}");
        assert!((pace.shares.forward - 0.005 / pace.seconds).abs() < 1e-9);
        assert!((pace.shares.exchange - 0.002 / pace.seconds).abs() < 1e-9);
        assert!((pace.images_per_second * pace.seconds - 10.0).abs() < 1e-6);
        assert_eq!(speed.recent(), pace);
    }

    #[test]
    fn the_rank_that_waits_least_is_the_slowest() {
        let rank = |data, exchange| Shares { data, exchange, ..Shares::default() };
        assert_eq!(Slowest::of(&[rank(0.5, 0.5)]), None);
        assert_eq!(Slowest::of(&[rank(0.5, 0.0), rank(0.0, 0.0)]), None);
        let slowest = Slowest::of(&[rank(0.0, 0.25), rank(0.75, 0.125), rank(0.1, 0.5)]).unwrap();
        assert_eq!(slowest, Slowest { rank: 1, data: 0.75, exchange: 0.125, others: 0.5 });
        let text = "slowest rank 1 (waits 75 % for data, 12 % for ranks; others up to 50 %)";
        assert_eq!(slowest.to_string(), text);
    }
}
