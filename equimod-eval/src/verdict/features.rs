//! Rules on the spread of features, and on what can be read off them.

use super::sides::Side;
use crate::results::{EFFECTIVE_RANK, NORMALIZED_STD, POOLED_R2, Paired, R2, ResultRow};

/// Effective rank of features below which they collapsed, as in the guard of training.
pub const COLLAPSED_RANK: f64 = 2.0;

/// Whether features collapsed, by their effective rank.
pub(super) fn spread(rows: &[ResultRow]) -> Option<String> {
    let rank = rows.iter().find(|row| row.metric == EFFECTIVE_RANK)?;
    let named = |name: &str, value: Option<f64>| value.map(|value| format!("{name}: {value:.1}"));
    let baseline = named("baseline", rank.baseline);
    let beside: Vec<String> = named("untrained", rank.untrained).into_iter().chain(baseline.clone()).collect();
    let beside = if beside.is_empty() { String::new() } else { format!(" ({})", beside.join(", ")) };
    let baseline = baseline.map_or_else(String::new, |baseline| format!(" ({baseline})"));
    let (rank, untrained) = (rank.value, rank.untrained);
    let narrower = narrower(rows).unwrap_or_default();
    let few = untrained.filter(|untrained| rank < FEW_DIMENSIONS * untrained);
    Some(match (rank < COLLAPSED_RANK, few) {
        (true, _) => {
            format!("Features collapsed: their effective rank is {rank:.1}{beside}, and a useful network has more.")
        }
        (false, Some(untrained)) => format!(
            "Features have not collapsed, but use few dimensions: their effective rank is {rank:.1}{baseline}, and \
             {untrained:.1} before training{narrower}."
        ),
        (false, None) => format!(
            "Features have not collapsed: they use about {rank:.1} dimensions, their effective rank{beside}{narrower}."
        ),
    })
}

/// Share of the untrained network's effective rank below which features use few dimensions.
pub const FEW_DIMENSIONS: f64 = 0.25;

/// Share of the untrained network's standard deviation below which features lie closer together than before training.
pub const NARROWER: f64 = 0.5;

/// Whether features lie much closer together than before training, as a clause.
fn narrower(rows: &[ResultRow]) -> Option<String> {
    let std = rows.iter().find(|row| row.metric == NORMALIZED_STD)?;
    let untrained = std.untrained.filter(|untrained| std.value < NARROWER * untrained)?;
    Some(format!(
        ", but lie closer together than before training: standard deviation × √D {:.2}, untrained {untrained:.2}",
        std.value
    ))
}

/// Difference of pooled R² below which two networks are called equal, where there is no interval.
pub const EQUAL: f64 = 0.02;

/// Whether parameters of augmentations can be read off the features, by the pooled R² of one probe: that of the change
/// between two views if `is_relative`, and that of one view otherwise.
pub(super) fn readable(rows: &[ResultRow], is_relative: bool) -> Option<String> {
    let of_probe = |row: &&ResultRow| row.metric == POOLED_R2 && row.protocol.ends_with("relative") == is_relative;
    let row = rows.iter().find(of_probe)?;
    let said = match row.value {
        clear if clear > CLEARLY_READABLE && is_above_guessing(row) => "say",
        little if little > READABLE && is_above_guessing(row) => "say a little of",
        _ => "hardly say",
    };
    let what = if is_relative { "how augmentation changed from view to view" } else { "how a view was augmented" };
    let beside =
        [(row.untrained, row.over_untrained, "untrained network"), (row.baseline, row.over_baseline, "baseline")];
    let beside = beside.into_iter().filter_map(|(value, paired, network)| {
        let value = value?;
        let than = if row.value.max(value) > READABLE { than(row, value, paired) } else { "as little as" };
        Some(format!(", {than} those of the {network}, {value:.2}"))
    });
    let beside: String = beside.collect();
    let interval = row.interval.map_or_else(String::new, |(low, high)| format!(" ({low:.2} to {high:.2})"));
    let best = best(rows, row);
    let whole = if said == "hardly say" && !best.is_empty() { "On the whole, features" } else { "Features" };
    Some(format!(
        "{whole} {said} {what}: R² of all parameters {:.2}{interval}{beside} (1 is perfect, guessing gives 0){best}.",
        row.value
    ))
}

/// Whether an R² lies above 0 with its interval, so that guessing is worse.
fn is_above_guessing(row: &ResultRow) -> bool {
    row.interval.is_none_or(|interval| Side::of(interval, 0.0) == Side::Above)
}

/// A value of R² against that of another network: by the interval of the paired difference, else by its own, and without
/// one by a fixed difference.
fn than(row: &ResultRow, other: f64, paired: Option<Paired>) -> &'static str {
    let own = || row.interval.unwrap_or((row.value - EQUAL, row.value + EQUAL));
    match paired.map_or_else(|| Side::of(own(), other), |paired| Side::of(paired.interval, 0.0)) {
        Side::Above => "more than",
        Side::Around => "about as much as",
        Side::Below => "less than",
    }
}

/// The parameters that can be read off best, as a clause.
fn best(rows: &[ResultRow], pooled: &ResultRow) -> String {
    let of_one = |row: &&ResultRow| {
        row.metric == R2 && row.protocol == pooled.protocol && row.value > READABLE && is_above_guessing(row)
    };
    let mut found: Vec<&ResultRow> = rows.iter().filter(of_one).collect();
    found.sort_by(|a, b| b.value.total_cmp(&a.value));
    let beside = |row: &ResultRow| row.untrained.map_or_else(String::new, |value| format!(" (untrained {value:.2})"));
    let named = |row: &&ResultRow| format!("{} {:.2}{}", row.task, row.value, beside(row));
    let named: Vec<String> = found.iter().take(2).map(named).collect();
    if named.is_empty() { String::new() } else { format!("; best {}", named.join(", ")) }
}

/// Pooled R² above which parameters can clearly be read off features.
pub const CLEARLY_READABLE: f64 = 0.3;

/// Pooled R² above which features say something about parameters.
pub const READABLE: f64 = 0.05;
