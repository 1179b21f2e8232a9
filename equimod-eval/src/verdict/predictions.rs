//! Rules on the predictions of equivariance modules.

use super::TrainingFacts;
use super::sides::{Side, same_model};
use crate::results::{ABSOLUTE, BY_PREDICTOR, H_1, ResultRow, SHUFFLED};

/// Overall absolute equivariance of the predictions.
pub(super) struct Predictions {
    /// The worst module against 0 and its control; `None` if nothing was measured.
    pub(super) side: Option<Side>,
    pub(super) sentence: Option<String>,
}

impl Predictions {
    pub(super) fn of(rows: &[ResultRow], training: Option<&TrainingFacts>) -> Self {
        let overall = |row: &&ResultRow| row.metric == ABSOLUTE && !row.task.ends_with(ALONE);
        let judged = rows.iter().filter(overall).filter_map(|row| {
            let interval = row.interval?;
            let control = control(rows, row);
            let useful = Side::of(interval, 0.0);
            let informed = control.map_or(Side::Above, |control| Side::of(interval, control));
            let side = if informed == Side::Above { useful } else { Side::Below };
            Some((row, useful, informed, side, control))
        });
        let rank = |side: Side| [Side::Below, Side::Around, Side::Above].iter().position(|one| *one == side);
        let Some((row, useful, informed, side, control)) = judged.min_by_key(|judged| rank(judged.3)) else {
            return Self { side: None, sentence: None };
        };
        let (task, value) = (&row.task, row.text(row.value));
        let in_training = in_training(training, task);
        let control = control.map_or_else(String::new, |control| row.text(control));
        let sentence = match (useful, informed) {
            (Side::Above, Side::Above) => format!(
                "The predictions of {task} are closer to the views than the un-augmented images are: absolute \
                 equivariance {value}, above 0 and above its control with shuffled parameters ({control})."
            ),
            (Side::Above, _) => format!(
                "The predictions of {task} beat the un-augmented images (absolute equivariance {value}), but not its \
                 control with shuffled parameters ({control}): they do not use the parameters."
            ),
            (Side::Around, _) => format!(
                "The predictions of {task} are no closer to the views than the un-augmented images, as far as the \
                 interval of absolute equivariance ({value}{in_training}) can tell."
            ),
            (Side::Below, _) => format!(
                "The predictions of {task} are farther from the views than the un-augmented images (absolute \
                 equivariance {value}{in_training}): copying the image would be better."
            ),
        };
        Self { side: Some(side), sentence: Some(sentence) }
    }
}

/// The end of a value: that of the last step of training, if it was above 0.
fn in_training(training: Option<&TrainingFacts>, module: &str) -> String {
    let mut values = training.into_iter().flat_map(|training| &training.equivariance);
    let value = values.find(|(name, value)| name == module && *value > 0.0);
    value.map_or_else(String::new, |(_, value)| format!("; {value:+.3} in training, with the statistics of each batch"))
}

/// Value of the control of a row of absolute equivariance.
fn control(rows: &[ResultRow], row: &ResultRow) -> Option<f64> {
    let is_control = |other: &&ResultRow| other.metric == SHUFFLED && same_model(other, row);
    rows.iter().find(is_control).map(|control| control.value)
}

/// End of the task of rows on a single augmentation.
const ALONE: &str = " alone";

/// Augmentations that, alone, the predictions follow best, and those that they do not follow, or follow worse than copies of
/// the un-augmented image.
pub(super) fn unpredicted(rows: &[ResultRow]) -> Option<String> {
    let alone = || rows.iter().filter(|row| row.metric == ABSOLUTE && row.task.ends_with(ALONE));
    let named = |row: &ResultRow| {
        let (module, augmentation) = row.task.strip_suffix(ALONE)?.split_once(", ")?;
        Some(format!("{augmentation} ({module})"))
    };
    let is_worse = |row: &&ResultRow| row.interval.is_some_and(|interval| Side::of(interval, 0.0) == Side::Below);
    let is_uninformed = |row: &&ResultRow| {
        let sides = row.interval.zip(control(rows, row)).map(|(interval, control)| Side::of(interval, control));
        sides.is_some_and(|side| side != Side::Above)
    };
    let is_followed = |row: &&ResultRow| {
        row.interval.is_some_and(|interval| Side::of(interval, 0.0) == Side::Above) && !is_uninformed(row)
    };
    let mut followed: Vec<&ResultRow> = alone().filter(is_followed).collect();
    followed.sort_by(|a, b| b.value.total_cmp(&a.value));
    let values = followed.iter().filter_map(|row| Some(format!("{} {}", named(row)?, row.text(row.value))));
    let values: Vec<String> = values.take(2).collect();
    let best = (!values.is_empty()).then(|| format!("predictions are best for {}", values.join(" and ")));
    let worse: Vec<String> = alone().filter(is_worse).filter_map(named).collect();
    let uninformed = alone().filter(|row| !is_worse(row) && is_uninformed(row));
    let uninformed: Vec<String> = uninformed.filter_map(named).collect();
    let one = |names: &[String]| names.len() == 1;
    let worse = (!worse.is_empty()).then(|| {
        let are = if one(&worse) { "is" } else { "are" };
        format!("{} {are} predicted worse than by copying the un-augmented image", worse.join(", "))
    });
    let uninformed = (!uninformed.is_empty()).then(|| {
        let (are, their) = if one(&uninformed) { ("is", "its") } else { ("are", "their") };
        let names = uninformed.join(", ");
        format!("{names} {are} not predicted clearly better with {their} own parameters than with wrong ones")
    });
    let said: Vec<String> = best.into_iter().chain(worse).chain(uninformed).collect();
    (!said.is_empty()).then(|| format!("Alone, {}.", said.join("; ")))
}

/// How many times chance the share of views that are ranked first is of a predictor that tells them apart.
pub const TELLS_APART: f64 = 1.5;

/// Whether the predictor ranks the view whose parameters it is given first among the views of an image.
pub(super) fn retrieved(rows: &[ResultRow]) -> Option<String> {
    let row = rows.iter().find(|row| row.protocol.ends_with(BY_PREDICTOR) && row.metric == H_1)?;
    // Without success, the comparison with chance says so.
    let chance = row.chance.filter(|chance| row.interval.is_some_and(|of| Side::of(of, *chance) == Side::Above))?;
    // Of many views, an interval is so narrow that next to nothing lies above chance.
    let hardly = if row.value < TELLS_APART * chance { "hardly " } else { "" };
    let untrained = row.untrained.map_or_else(String::new, |value| format!(", untrained {}", row.text(value)));
    Some(format!(
        "The predictor of {} {hardly}tells views apart: it ranks the right one first in {} (chance {}{untrained}).",
        row.task,
        row.text(row.value),
        row.text(chance)
    ))
}
