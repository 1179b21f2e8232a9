//! Rules on the spread of features, and on what can be read off them.

use crate::results::{EFFECTIVE_RANK, NORMALIZED_STD, POOLED_R2, R2, ResultRow};

/// Effective rank of features below which they collapsed, as in the guard of training.
pub const COLLAPSED_RANK: f64 = 2.0;

/// Whether features collapsed, by their effective rank.
pub(super) fn spread(rows: &[ResultRow]) -> Option<String> {
    let rank = rows.iter().find(|row| row.metric == EFFECTIVE_RANK)?;
    let beside = rank.untrained.map_or_else(String::new, |untrained| format!(" (untrained: {untrained:.1})"));
    let rank = rank.value;
    let narrower = narrower(rows).unwrap_or_default();
    Some(match rank < COLLAPSED_RANK {
        true => {
            format!("Features collapsed: their effective rank is {rank:.1}{beside}, and a useful network has more.")
        }
        false => {
            format!(
                "Features have not collapsed: they use about {rank:.1} dimensions, their effective rank{beside}{narrower}."
            )
        }
    })
}

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

/// Difference of pooled R² below which two networks are called equal: it has no interval.
pub const EQUAL: f64 = 0.02;

/// Whether parameters of augmentations can be read off the features, by the pooled R² of one probe: that of the change
/// between two views if `is_relative`, and that of one view otherwise.
pub(super) fn readable(rows: &[ResultRow], is_relative: bool) -> Option<String> {
    let of_probe = |row: &&ResultRow| row.metric == POOLED_R2 && row.protocol.ends_with("relative") == is_relative;
    let row = rows.iter().find(of_probe)?;
    let said = match row.value {
        clear if clear > CLEARLY_READABLE => "say",
        little if little > READABLE => "say a little of",
        _ => "hardly say",
    };
    let what = if is_relative { "how augmentation changed from view to view" } else { "how a view was augmented" };
    let beside = row.untrained.map_or_else(String::new, |untrained| {
        let than = match row.value - untrained {
            little if little.abs() < EQUAL => "about as much as",
            less if less < 0.0 => "less than",
            _ => "more than",
        };
        format!(", {than} those of the untrained network, {untrained:.2}")
    });
    let best = best(rows, row);
    Some(format!(
        "Features {said} {what}: R² of all parameters {:.2}{beside} (1 is perfect, guessing gives 0){best}.",
        row.value
    ))
}

/// The parameters that can be read off best, as a clause.
fn best(rows: &[ResultRow], pooled: &ResultRow) -> String {
    let of_one = |row: &&ResultRow| row.metric == R2 && row.protocol == pooled.protocol && row.value > READABLE;
    let mut found: Vec<&ResultRow> = rows.iter().filter(of_one).collect();
    found.sort_by(|a, b| b.value.total_cmp(&a.value));
    let named: Vec<String> = found.iter().take(2).map(|row| format!("{} {:.2}", row.task, row.value)).collect();
    if named.is_empty() { String::new() } else { format!("; best {}", named.join(", ")) }
}

/// Pooled R² above which parameters can clearly be read off features.
pub const CLEARLY_READABLE: f64 = 0.3;

/// Pooled R² above which features say something about parameters.
pub const READABLE: f64 = 0.05;
