//! Values against reference values.

use crate::results::{FEW_SHOT, ResultRow, TOP_1};

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
}

/// Whether the interval of a row is over test images, which stand for others.
pub(super) fn is_over_images(row: &ResultRow) -> bool {
    !row.protocol.starts_with(FEW_SHOT)
}

/// Whether a row is another measure of the predictions or neighbors of a row that is judged.
fn is_secondary(row: &ResultRow, rows: &[ResultRow]) -> bool {
    let beside = |metric: &str| rows.iter().any(|other| other.metric == metric && same_model(other, row));
    [TOP_1, "recall@1", "H@1"].iter().any(|first| row.metric != *first && beside(first))
}

/// End of the metric of probes for parameters that are on or off.
const OF_FLAG: &str = "of the flag";

/// Whether a row is the share by which its task and protocol are judged: top-1 accuracy or recall@1, where there are
/// others beside it.
pub fn is_judged(row: &ResultRow, rows: &[ResultRow]) -> bool {
    row.is_share() && !row.metric.ends_with(OF_FLAG) && !is_secondary(row, rows)
}

/// The shares that have an interval over test images and this reference value, one of each task and protocol.
pub(super) fn against(rows: &[ResultRow], reference: fn(&ResultRow) -> Option<f64>) -> Vec<Against<'_>> {
    let one = |row| -> Option<Against> {
        let row: &ResultRow = row;
        let reference = reference(row)?;
        Some(Against { row, side: Side::of(row.interval?, reference), points: 100.0 * (row.value - reference) })
    };
    // An interval without width, where every test image is right or none, says nothing of other images.
    let has_width = |row: &ResultRow| row.interval.is_some_and(|(low, high)| high > low);
    rows.iter().filter(|row| is_over_images(row) && is_judged(row, rows) && has_width(row)).filter_map(one).collect()
}

pub(super) fn name(row: &ResultRow) -> String {
    let model = if row.model.is_empty() { String::new() } else { format!(", {}", row.model) };
    format!("{} of {} ({}{model})", row.metric, row.task, row.protocol)
}

pub(super) fn same_model(a: &ResultRow, b: &ResultRow) -> bool {
    a.task == b.task && a.model == b.model && a.protocol == b.protocol
}

pub(super) fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}
