//! The verdict: a few sentences that say what result rows mean, computed from their values and intervals.
//!
//! Each sentence follows from a rule on numbers; a rule that cannot be decided says so or stays silent.

mod accuracies;
mod features;
mod models;
mod predictions;
mod sides;
mod training;

use crate::results::{HELD_OUT, ResultRow, with_distinct_tasks};
use accuracies::{
    Gains, baseline, chance, few_shot, few_shot_chance, few_steps, is_all_chance, other_epochs, precision, range_end,
};
use features::{readable, spread};
use models::{differences, suite};
use predictions::{Predictions, retrieved, unpredicted};
use sides::{Side, is_over_images};
use training::{collapse, failed_baseline, pace, rise, start};

pub use accuracies::{WIDE, of_baseline};
pub use features::{CLEARLY_READABLE, COLLAPSED_RANK, FEW_DIMENSIONS, NARROWER, READABLE};
pub use predictions::TELLS_APART;
pub use sides::{is_judged, is_saturated};
pub use training::{FALLING, SHORT_RUN, TrainingFacts, VERY_SHORT, caveat, of_trainings, unfinished};

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Train with a lower learning rate.
    LowerRate,
    /// Find a learning rate at which the loss falls.
    FindRate,
    /// Train for more epochs.
    TrainLonger,
    /// Compare with the same run without the module's loss.
    CompareBaseline,
    /// Train run and baseline with another seed.
    RepeatWithSeed,
    /// Evaluate with the whole range of L2 strengths.
    WidenRange,
    /// Evaluate by logistic regression, which fits to the optimum.
    FitToOptimum,
    /// Evaluate the untrained network as well.
    EvaluateUntrained,
    /// Evaluate with few labels, where all test images are right.
    EvaluateFewShot,
}

impl Advice {
    /// Whether longer training of a short run is no further advice: it is this one or another schedule, or shows nothing.
    pub fn is_conclusive(self) -> bool {
        matches!(self, Self::TrainLonger | Self::LowerRate | Self::FindRate | Self::EvaluateFewShot)
    }
}

/// Sentences in the order of reading, and the advice that follows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// At most [`MOST_SENTENCES`] sentences.
    pub sentences: Vec<String>,
    /// The next step, if the numbers suggest one.
    pub advice: Option<Advice>,
}

/// Largest number of sentences of a verdict.
pub const MOST_SENTENCES: usize = 5;

/// The verdict on the rows of a run, an evaluation or a comparison.
pub fn verdict(rows: &[ResultRow], training: Option<&TrainingFacts>) -> Verdict {
    let rows = &with_distinct_tasks(&without_trials(rows))[..];
    let (gains, predictions) = (Gains::of(rows), Predictions::of(rows, training));
    let (at_an_end, against_baseline) = (range_end(rows), baseline(rows));
    let disappointing = gains.is_disappointing() || predictions.side == Some(Side::Below);
    let drawn = depends_on_draw(rows).then(|| DRAWN.to_owned());
    let has_baseline = against_baseline.is_some();
    let failed = training.is_some_and(TrainingFacts::has_failed);
    // In the order of reading. Of too many sentences, the last of the highest number are left out.
    let sentences = [
        (0, training.and_then(collapse)),
        (0, training.and_then(rise)),
        (0, gains.sentence()),
        (0, few_steps(rows)),
        (0, training.filter(|_| !gains.measures.is_empty()).and_then(|training| start(training, has_baseline))),
        (2, at_an_end.clone()),
        (1, precision(rows)),
        (1, drawn),
        (2, other_epochs(rows)),
        (0, against_baseline.clone()),
        (0, training.filter(|_| has_baseline).and_then(failed_baseline)),
        (0, predictions.sentence.clone()),
        (2, unpredicted(rows)),
        (1, retrieved(rows)),
        (0, differences(rows)),
        (0, suite(rows)),
        (0, spread(rows)),
        (1, few_shot(rows)),
        (1, few_shot_chance(rows)),
        (1, readable(rows, false)),
        (1, readable(rows, true)),
        (0, training.filter(|_| !failed).and_then(|training| pace(training, disappointing))),
        (if is_all_chance(rows) { 0 } else { 1 }, chance(rows, gains.could_have_untrained)),
    ];
    let sentences = most_important(sentences.into_iter().filter_map(|(rank, text)| Some((rank, text?))).collect());
    let unsettled = training.is_some_and(TrainingFacts::is_unsettled);
    let advice = match () {
        () if training.is_some_and(TrainingFacts::did_not_fall) => Some(Advice::FindRate),
        () if failed => Some(Advice::LowerRate),
        () if disappointing && unsettled => Some(Advice::TrainLonger),
        () if has_baseline && training.is_some_and(|training| training.baseline_failure.is_some()) => {
            Some(Advice::LowerRate)
        }
        () if few_steps(rows).is_some() => Some(Advice::FitToOptimum),
        () if is_saturated(rows) && rows.iter().all(is_over_images) => Some(Advice::EvaluateFewShot),
        () if against_baseline.is_some() => Some(Advice::RepeatWithSeed),
        () if training.is_some() && predictions.side.is_some() => Some(Advice::CompareBaseline),
        () if at_an_end.is_some() && training.is_some() => Some(Advice::WidenRange),
        () if training.is_none() && gains.could_have_untrained => Some(Advice::EvaluateUntrained),
        () if training.is_none() && predictions.side.is_some_and(|side| side != Side::Above) => {
            Some(Advice::TrainLonger)
        }
        () => None,
    };
    Verdict { sentences, advice }
}

/// The verdict on an evaluation of a run by itself: that on its rows, and whether the run ended, and was too short for
/// them.
pub fn of_evaluation(rows: &[ResultRow], training: Option<&TrainingFacts>) -> Verdict {
    let Verdict { mut sentences, advice } = verdict(rows, None);
    let gains = Gains::of(rows);
    let has_baseline = baseline(rows).is_some();
    let start = |training| start(training, has_baseline);
    sentences.extend(training.filter(|_| has_baseline).and_then(failed_baseline));
    sentences.extend(training.filter(|_| !gains.measures.is_empty()).and_then(start));
    let disappointing = is_disappointing(rows);
    sentences.extend(training.and_then(|training| {
        let failed = unfinished(training).or_else(|| collapse(training)).or_else(|| rise(training));
        failed.or_else(|| pace(training, disappointing))
    }));
    sentences.truncate(MOST_SENTENCES);
    Verdict { sentences, advice }
}

/// Whether features did not gain, or lost, or predictions are no use.
pub fn is_disappointing(rows: &[ResultRow]) -> bool {
    Gains::of(rows).is_disappointing() || Predictions::of(rows, None).side == Some(Side::Below)
}

/// What is said of a clear difference on images that were held out of the training images.
const DRAWN: &str = "The test images were drawn from the training images: intervals do not cover the draw, and another one \
                     (--seed of `equimod eval`) may say otherwise.";

/// Whether a clear difference is one on images that were held out of the training images by the seed.
pub fn depends_on_draw(rows: &[ResultRow]) -> bool {
    let is_clear =
        |row: &ResultRow| [row.over_untrained, row.over_baseline].into_iter().flatten().any(|paired| paired.is_clear());
    let is_held_out = |row: &ResultRow| row.detail.contains(HELD_OUT);
    let is_compared = rows.iter().any(ResultRow::is_clear_difference) && rows.iter().any(is_held_out);
    is_compared || rows.iter().any(|row| is_judged(row, rows) && is_clear(row) && is_held_out(row))
}

/// The rows without those of other settings than the defaults, where the same number was measured with these.
fn without_trials(rows: &[ResultRow]) -> Vec<ResultRow> {
    let has_default = |row: &ResultRow| rows.iter().any(|other| other.settings.is_empty() && other.key() == row.key());
    rows.iter().filter(|row| row.settings.is_empty() || !has_default(row)).cloned().collect()
}

/// The sentences without the least important ones of too many.
fn most_important(mut sentences: Vec<(u8, String)>) -> Vec<String> {
    while sentences.len() > MOST_SENTENCES {
        // The last of the highest rank.
        let place =
            sentences.iter().enumerate().max_by_key(|(place, (rank, _))| (*rank, *place)).map(|(place, _)| place);
        sentences.remove(place.unwrap_or_default());
    }
    sentences.into_iter().map(|(_, text)| text).collect()
}
