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
}

impl Spent {
    fn sum(of: impl Iterator<Item = Self>) -> Self {
        of.fold(Self::default(), |a, b| Self {
            data: a.data + b.data,
            forward: a.forward + b.forward,
            backward: a.backward + b.backward,
            optimizer: a.optimizer + b.optimizer,
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
}

impl Shares {
    fn of(spent: Spent, seconds: f64) -> Self {
        let share = |part: Duration| part.as_secs_f64() / seconds.max(1e-9);
        Self {
            data: share(spent.data),
            forward: share(spent.forward),
            backward: share(spent.backward),
            optimizer: share(spent.optimizer),
        }
    }

    /// Name and value of each share.
    pub fn named(self) -> [(&'static str, f64); 4] {
        [("data", self.data), ("forward", self.forward), ("backward", self.backward), ("optimizer", self.optimizer)]
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
}

/// Stopwatch over the steps of a run.
pub(crate) struct Speed {
    images: usize,
    last: Instant,
    recent: VecDeque<(Duration, Spent)>,
    total: (Duration, Spent, u64),
}

impl Speed {
    /// A stopwatch for steps of `images` images, started now.
    pub fn new(images: usize) -> Self {
        Self { images, last: Instant::now(), recent: VecDeque::with_capacity(WINDOW), total: Default::default() }
    }

    /// Records a step that took `spent` by phase.
    pub fn tick(&mut self, spent: Spent) {
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

    /// Restarts the clock, so that the time since the last step is not counted.
    pub fn pause(&mut self) {
        self.last = Instant::now();
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
        Pace { seconds, steps, images_per_second, shares: Shares::of(spent, seconds) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_do_not_count_and_shares_are_of_the_steps() {
        let mut speed = Speed::new(10);
        std::thread::sleep(Duration::from_millis(40));
        speed.pause();
        std::thread::sleep(Duration::from_millis(10));
        speed.tick(Spent { forward: Duration::from_millis(5), ..Spent::default() });
        let pace = speed.overall();
        assert!((0.010..0.040).contains(&pace.seconds), "{pace:?}");
        assert!((pace.shares.forward - 0.005 / pace.seconds).abs() < 1e-9);
        assert!((pace.images_per_second * pace.seconds - 10.0).abs() < 1e-6);
        assert_eq!(speed.recent(), pace);
    }
}
