//! The verdict: a few sentences that say what result rows mean, computed from their values and intervals.
//!
//! Each sentence follows from a rule on numbers; a rule that cannot be decided says so or stays silent.

mod accuracies;
mod features;
mod models;
mod predictions;
mod sides;
mod training;

use crate::results::{ResultRow, with_distinct_tasks};
use accuracies::{
    Gains, baseline, chance, few_shot, few_shot_chance, is_all_chance, other_epochs, precision, range_end,
};
use features::{readable, spread};
use models::{differences, suite};
use predictions::{Predictions, retrieved, unpredicted};
use sides::{Side, is_over_images};
use training::{collapse, pace, rise, start};

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
    let has_baseline = against_baseline.is_some();
    let failed = training.is_some_and(TrainingFacts::has_failed);
    // In the order of reading. Of too many sentences, the last of the highest number are left out.
    let sentences = [
        (0, training.and_then(collapse)),
        (0, training.and_then(rise)),
        (0, gains.sentence()),
        (0, training.filter(|_| !gains.measures.is_empty()).and_then(|training| start(training, has_baseline))),
        (2, at_an_end.clone()),
        (1, precision(rows)),
        (2, other_epochs(rows)),
        (0, against_baseline.clone()),
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
    sentences.extend(training.filter(|_| !gains.measures.is_empty()).and_then(start));
    let disappointing = gains.is_disappointing() || Predictions::of(rows, None).side == Some(Side::Below);
    sentences.extend(training.and_then(|training| {
        let failed = unfinished(training).or_else(|| collapse(training)).or_else(|| rise(training));
        failed.or_else(|| pace(training, disappointing))
    }));
    sentences.truncate(MOST_SENTENCES);
    Verdict { sentences, advice }
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
