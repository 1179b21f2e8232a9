//! How fast steps are, and where their time goes.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Steps over which speed and shares are averaged.
const WINDOW: usize = 20;

/// Time of a step by part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Waiting for the loader.
    pub data: Duration,
    /// From images to losses.
    pub forward: Duration,
    /// From losses to gradients.
    pub backward: Duration,
    /// From gradients to weights: the guard, clipping and the optimiser.
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

/// Shares of the time of steps, each from 0 to 1; what is missing to 1 are transfers, files and displays.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shares {
    /// Waiting for the loader.
    pub data: f64,
    /// From images to losses.
    pub forward: f64,
    /// From losses to gradients.
    pub backward: f64,
    /// From gradients to weights.
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

    /// Each with its name.
    pub fn named(self) -> [(&'static str, f64); 4] {
        [("data", self.data), ("forward", self.forward), ("backward", self.backward), ("optimizer", self.optimizer)]
    }
}

/// How fast steps are.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Of training, without what was done between steps.
    pub seconds: f64,
    /// Steps in that time.
    pub steps: u64,
    /// Pictures a second.
    pub images_per_second: f64,
    /// Where the time went.
    pub shares: Shares,
}

/// Measures steps.
pub(crate) struct Speed {
    images: usize,
    last: Instant,
    recent: VecDeque<(Duration, Spent)>,
    total: (Duration, Spent, u64),
}

impl Speed {
    /// Of steps of `images` pictures, from now on.
    pub fn new(images: usize) -> Self {
        Self { images, last: Instant::now(), recent: VecDeque::with_capacity(WINDOW), total: Default::default() }
    }

    /// A step is done.
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

    /// Something else was done since the last step, which is nobody's time.
    pub fn pause(&mut self) {
        self.last = Instant::now();
    }

    /// Of the last steps.
    pub fn recent(&self) -> Pace {
        let time = self.recent.iter().map(|(time, _)| *time).sum();
        self.pace(time, Spent::sum(self.recent.iter().map(|(_, spent)| *spent)), self.recent.len() as u64)
    }

    /// Of all steps.
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
