//! Values against reference values.

use crate::results::{ACCURACY_OF_FLAG, H_1, Paired, ResultRow, TOP_1};

/// A value against a reference: whether its interval lies above, around or below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Above,
    Around,
    Below,
}

impl Side {
    pub(super) fn of((low, high): (f64, f64), reference: f64) -> Self {
        match (low > reference, high < reference) {
            (true, _) => Self::Above,
            (_, true) => Self::Below,
            _ => Self::Around,
        }
    }
}

/// A share against a reference value.
pub(super) struct Against<'a> {
    pub(super) row: &'a ResultRow,
    pub(super) side: Side,
    /// Value minus reference, in points.
    pub(super) points: f64,
    /// Whether the interval of the difference excludes 0, and McNemar's test does not confirm it.
    pub(super) is_borderline: bool,
}

/// Whether the interval of a row is over test images, which stand for others.
pub(super) fn is_over_images(row: &ResultRow) -> bool {
    !row.is_few_shot()
}

/// Whether a row is another measure of the predictions or neighbors of a row that is judged.
fn is_secondary(row: &ResultRow, rows: &[ResultRow]) -> bool {
    let beside = |metric: &str| rows.iter().any(|other| other.metric == metric && same_model(other, row));
    [TOP_1, "recall@1", H_1].iter().any(|first| row.metric != *first && beside(first))
}

/// Whether a row is the share by which its task and protocol are judged: top-1 accuracy or recall@1, where there are
/// others beside it.
pub fn is_judged(row: &ResultRow, rows: &[ResultRow]) -> bool {
    row.is_share() && row.metric != ACCURACY_OF_FLAG && !is_secondary(row, rows)
}

/// Whether features have accuracies on test images, and every image is right in all of them: a difference is seen on more or
/// harder images alone.
pub fn is_saturated<'a>(rows: impl IntoIterator<Item = &'a ResultRow>) -> bool {
    let accuracies = rows.into_iter().filter(|row| is_over_images(row) && row.metric == TOP_1);
    let mut accuracies = accuracies.peekable();
    accuracies.peek().is_some() && accuracies.all(|row| row.value >= 1.0)
}

/// The value that shares are judged against.
#[derive(Clone, Copy)]
pub(super) enum Reference {
    Untrained,
    Baseline,
    Chance,
}

impl Reference {
    /// The value for a row, and the paired difference from it if it is known.
    pub(super) fn of(self, row: &ResultRow) -> Option<(f64, Option<Paired>)> {
        match self {
            Self::Untrained => Some((row.untrained?, row.over_untrained)),
            Self::Baseline => Some((row.baseline?, row.over_baseline)),
            Self::Chance => Some((row.chance?, None)),
        }
    }
}

/// The shares that have an interval over test images and this reference value, one of each task and protocol. A paired
/// difference decides, and where none is known, the interval of the share.
pub(super) fn against(rows: &[ResultRow], reference: Reference) -> Vec<Against<'_>> {
    let one = |row| -> Option<Against> {
        let row: &ResultRow = row;
        let (value, paired) = reference.of(row)?;
        let (interval, other) = paired.map_or((row.interval?, value), |paired| (paired.interval, 0.0));
        // An interval without width, e.g. where every test image is right, says nothing of other images.
        if interval.0 >= interval.1 {
            return None;
        }
        let is_open = paired.is_some_and(|paired| !paired.is_clear());
        let side = if is_open { Side::Around } else { Side::of(interval, other) };
        let is_borderline = is_open && Side::of(interval, other) != Side::Around;
        Some(Against { row, side, points: 100.0 * (row.value - value), is_borderline })
    };
    rows.iter().filter(|row| is_over_images(row) && is_judged(row, rows)).filter_map(one).collect()
}

pub(super) fn name(row: &ResultRow) -> String {
    let model = if row.model.is_empty() { String::new() } else { format!(", {}", row.model) };
    format!("{} of {} ({}{model})", row.metric, row.task, row.protocol_name())
}

pub(super) fn same_model(a: &ResultRow, b: &ResultRow) -> bool {
    a.task == b.task && a.model == b.model && a.protocol == b.protocol
}

pub(super) fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
