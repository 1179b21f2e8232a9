//! Learning-rate range test (Smith, arXiv 1506.01186): the learning rate rises from step to step until the loss
//! diverges.

use equimod_data::Batches;
use serde::Serialize;

use crate::Result;
use crate::metrics::StepReport;
use crate::trainer::Trainer;

/// Weight of older losses in the smoothed loss.
const SMOOTHING: f64 = 0.9;
/// Number of first steps in which the smoothed loss still follows single batches: they neither end the search nor are
/// its result.
const SETTLED: usize = 10;
/// Rise of the smoothed loss above its minimum that ends the search, as a share of its total fall.
const TOO_HIGH: f64 = 1.0;

/// Rise of the smoothed loss above its minimum from which it counts as rising, as a share of its total fall. A fall of less
/// than a tenth of the loss counts as that much, because single batches differ.
const RISEN: f64 = 0.5;
/// Share of the total fall of the smoothed loss after which the fall has begun.
const BEGUN: f64 = 0.1;

/// Number of stretches of the whole search over one of which a slope is taken.
const STRETCHES: usize = 8;

/// One step of the search.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RateStep {
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Loss before the step.
    pub loss: f64,
    /// Loss smoothed over the previous steps: `m ← 0.9·m + 0.1·loss`, divided by `1 − 0.9^steps`.
    pub smoothed: f64,
}

/// Result of a search: learning rates in increasing order, one step each.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RateSearch {
    /// Every step of the search.
    #[serde(rename = "tried")]
    pub steps: Vec<RateStep>,
    /// Whether the loss or the gradient was not finite after the last step.
    pub diverged: bool,
    /// Whether the smoothed loss rose again: so far that the search ended, or clearly by the last rate.
    pub rose: bool,
    /// Learning rate at which a tenth of the fall of the smoothed loss lay behind.
    pub falls_from: Option<f64>,
    /// Learning rate at which the smoothed loss fell most steeply over the logarithm of the rate.
    pub steepest: Option<f64>,
    /// Learning rate of the lowest smoothed loss.
    pub lowest: Option<f64>,
}

impl RateSearch {
    /// Whether the steepest fall of the smoothed loss may be where it is by chance: the fall is no larger than the deviation
    /// of single steps from it, or every other step alone has it elsewhere.
    pub fn is_within_noise(&self) -> bool {
        let steps = self.steps.get(SETTLED..).unwrap_or_default();
        let until = |rate: f64| steps.iter().take_while(move |step| step.learning_rate <= rate);
        let Some(lowest) = self.lowest else { return true };
        let [highest, least] = [f64::max, f64::min].map(|of| until(lowest).map(|step| step.smoothed).reduce(of));
        let squares = until(lowest).map(|step| (step.loss - step.smoothed).powi(2));
        let noise = (squares.sum::<f64>() / until(lowest).count().max(1) as f64).sqrt();
        highest.zip(least).is_none_or(|(highest, least)| highest - least <= noise) || !self.is_steepest_in_halves()
    }

    /// Whether the even and the odd steps alone have their steepest falls at similar learning rates.
    fn is_steepest_in_halves(&self) -> bool {
        let half = |first: usize| {
            let (mut average, mut weight) = (0.0, 1.0);
            let steps = self.steps.iter().skip(first).step_by(2).map(|step| {
                // As far back in the rates as all steps.
                let smoothing = SMOOTHING.powi(2);
                (average, weight) = (smoothing * average + (1.0 - smoothing) * step.loss, weight * smoothing);
                RateStep { smoothed: average / (1.0 - weight), ..*step }
            });
            Fall::of(&steps.collect::<Vec<_>>(), SETTLED / 2)?.steepest
        };
        half(0).zip(half(1)).is_some_and(|(even, odd)| even.max(odd) <= SIMILAR * even.min(odd))
    }

    fn of(steps: Vec<RateStep>, diverged: bool) -> Self {
        let (rose, fall) = (rose(&steps), Fall::of(&steps, SETTLED));
        let (lowest, steepest) = (fall.as_ref().map(|fall| fall.lowest), fall.as_ref().and_then(|fall| fall.steepest));
        let falls_from = fall.and_then(|fall| fall.from).filter(|_| steepest.is_some());
        Self { rose, falls_from, steepest, lowest, steps, diverged }
    }
}

/// Largest ratio of similar learning rates.
const SIMILAR: f64 = 3.0;

/// The fall of a smoothed loss.
struct Fall {
    /// Learning rate at which a tenth of the fall lay behind.
    from: Option<f64>,
    /// Learning rate of the steepest fall.
    steepest: Option<f64>,
    /// Learning rate of the lowest loss.
    lowest: f64,
}

impl Fall {
    /// The fall over `steps`, of which the first `settled` do not count; `None` without any others.
    fn of(steps: &[RateStep], settled: usize) -> Option<Self> {
        let lowest = steps.iter().skip(settled).min_by(|a, b| a.smoothed.total_cmp(&b.smoothed))?;
        let before_lowest = |t: &&RateStep| t.learning_rate <= lowest.learning_rate;
        let falling: Vec<&RateStep> = steps.iter().skip(settled).filter(before_lowest).collect();
        let highest = falling.iter().map(|t| t.smoothed).fold(f64::NEG_INFINITY, f64::max);
        let fell = |t: &&&RateStep| t.smoothed <= highest - BEGUN * (highest - lowest.smoothed);
        // A loss that was as low before its highest value has not fallen yet.
        let top = falling.iter().position(|t| t.smoothed == highest).unwrap_or(0);
        let from = falling[top..].iter().find(fell).map(|t| t.learning_rate);
        // Over several steps, so that a single batch does not decide.
        let width = (steps.len() / STRETCHES).max(5);
        let slope = |w: &&[&RateStep]| w[w.len() - 1].smoothed - w[0].smoothed;
        let in_range = |w: &&[&RateStep]| from.is_some_and(|from| w[width / 2].learning_rate >= from);
        let steepest = falling.windows(width).filter(in_range).min_by(|a, b| slope(a).total_cmp(&slope(b)));
        let steepest = steepest.filter(|w| slope(w) < 0.0).map(|w| w[width / 2].learning_rate);
        Some(Self { from, steepest, lowest: lowest.learning_rate })
    }
}

/// Whether the last smoothed loss lies clearly above the lowest one.
fn rose(steps: &[RateStep]) -> bool {
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else { return false };
    let lowest = steps.iter().map(|step| step.smoothed).fold(f64::INFINITY, f64::min);
    last.smoothed - lowest > RISEN * (first.smoothed - lowest).max(0.1 * first.smoothed.abs())
}

impl Trainer {
    /// Takes up to `steps` steps at learning rates from `least` to `most`, evenly spaced in the logarithm, and passes
    /// each to `on_step`. The weights are of no use afterwards.
    ///
    /// # Errors
    ///
    /// If the data cannot be read or a step fails.
    pub fn search_rates(
        &mut self,
        least: f64,
        most: f64,
        steps: usize,
        mut on_step: impl FnMut(&RateStep),
    ) -> Result<RateSearch> {
        let mut batches: Batches = self.loader().start(0)?;
        let (mut taken, mut average): (Vec<RateStep>, f64) = (Vec::new(), 0.0);
        let (mut first, mut lowest) = (f64::INFINITY, f64::INFINITY);
        for number in 0..steps {
            let Some(batch) = batches.next().transpose()? else { break };
            let learning_rate = least * (most / least).powf(number as f64 / (steps - 1).max(1) as f64);
            self.take_step(&batch, learning_rate)?;
            let read = self.pending.read()?;
            let Some(StepReport { loss, .. }) = read.sound.first() else { return Ok(RateSearch::of(taken, true)) };
            let loss = *loss;
            batches.recycle(batch);
            average = SMOOTHING * average + (1.0 - SMOOTHING) * loss;
            let smoothed = average / (1.0 - SMOOTHING.powi(number as i32 + 1));
            let step = RateStep { learning_rate, loss, smoothed };
            on_step(&step);
            taken.push(step);
            if number == 0 {
                first = smoothed;
            }
            lowest = smoothed.min(lowest);
            if number >= SETTLED && smoothed > first + TOO_HIGH * (first - lowest).max(0.1 * first.abs()) {
                break;
            }
        }
        Ok(RateSearch::of(taken, false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_steepest_fall_is_found_before_the_lowest_loss() {
        // Falls like a hyperbolic tangent around 10^-2, rises from 10^0 on.
        let loss = |x: f64| 3.0 - (2.0 * (x + 2.0)).tanh() + if x > 0.0 { 4.0 * x } else { 0.0 };
        let at = |i: i32| f64::from(i) / 10.0 - 5.0;
        let step = |i: i32| RateStep { learning_rate: 10f64.powf(at(i)), loss: loss(at(i)), smoothed: loss(at(i)) };
        let search = RateSearch::of((0..61).map(step).collect(), false);
        assert!((search.steepest.unwrap().log10() + 2.0).abs() < 0.15, "{search:?}");
        assert!((search.lowest.unwrap().log10()).abs() < 0.15, "{search:?}");
        // A tenth of the fall of the hyperbolic tangent: tanh(2·(x + 2)) = −0.8, x = −2.55.
        assert!((search.falls_from.unwrap().log10() + 2.55).abs() < 0.15, "{search:?}");
        assert_eq!(RateSearch::of(Vec::new(), true).steepest, None);
        // A fall within the first steps comes from single batches.
        let mut early: Vec<RateStep> = (0..61).map(step).collect();
        (0..5).for_each(|i| early[i].smoothed += 9.0 - 2.0 * i as f64);
        assert_eq!(RateSearch::of(early, false).steepest, search.steepest);
    }

    #[test]
    fn a_fall_no_larger_than_the_noise_of_single_steps_may_be_chance() {
        let is_noise = |noise: f64| {
            let step = |i: i32| {
                let (learning_rate, smoothed) = (f64::from(i + 1), 10.0 - 0.1 * f64::from(i));
                RateStep { learning_rate, loss: smoothed + if i % 2 == 0 { noise } else { -noise }, smoothed }
            };
            RateSearch::of((0..31).map(step).collect(), false).is_within_noise()
        };
        // From the eleventh step to the last, the smoothed loss falls by 2.
        assert_eq!([is_noise(1.99), is_noise(2.01)], [false, true]);
        assert!(RateSearch::of(Vec::new(), false).is_within_noise());
    }

    #[test]
    fn a_steepest_fall_that_every_other_step_has_elsewhere_may_be_chance() {
        // The even steps fall at 1e-4, and the odd ones at the rate 10^x.
        let is_noise = |x: f64| {
            let fall = |at: f64, x: f64| 10.0 - 4.0 * (4.0 * (at - x)).tanh();
            let mut average = 0.0;
            let step = |i: i32| {
                let at = f64::from(i) / 50.0 - 6.0;
                let loss = fall(at, if i % 2 == 0 { -4.0 } else { x });
                average = SMOOTHING * average + (1.0 - SMOOTHING) * loss;
                RateStep { learning_rate: 10f64.powf(at), loss, smoothed: average / (1.0 - SMOOTHING.powi(i + 1)) }
            };
            RateSearch::of((0..200).map(step).collect(), false).is_within_noise()
        };
        assert_eq!([-4.0, -3.7, -3.4].map(is_noise), [false, false, true]);
    }

    #[test]
    fn a_clear_rise_at_the_end_is_noticed() {
        let with_last = |last: f64| {
            let step = |smoothed: f64| RateStep { learning_rate: 1.0, loss: smoothed, smoothed };
            RateSearch::of([10.0, 9.0, 5.0, last].map(step).to_vec(), false).rose
        };
        assert_eq!([with_last(7.51), with_last(7.49)], [true, false]);
    }
}
