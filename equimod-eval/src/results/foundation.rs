//! How well an accuracy is founded: by its protocol, and by how much of the protocol was done.

use super::{FEW_STEPS, MEAN_PER_CLASS, OTHER_EPOCHS, ResultRow, TOP_1};
use crate::logistic::LogisticConfig;

/// Whether logistic regression chose its strength from all strengths of the protocol.
pub fn searched_whole_range(row: &ResultRow) -> bool {
    let whole = format!("the best of {} ", LogisticConfig::default().l2_strengths.len());
    row.chosen.as_ref().is_some_and(|chosen| chosen.contains(&whole))
}

/// Whether an accuracy was measured with less than its protocol: a search of few strengths, other epochs, or too few steps.
pub fn is_reduced(row: &ResultRow) -> bool {
    is_quick_search(row) || [OTHER_EPOCHS, FEW_STEPS].iter().any(|remark| row.detail.contains(remark))
}

/// Whether logistic regression chose its strength from fewer strengths than those of the protocol, as at the end of
/// training.
pub fn is_quick_search(row: &ResultRow) -> bool {
    row.protocol == "logistic" && !searched_whole_range(row)
}

/// Place of an accuracy among those of one model, the best founded first; `None` for other rows. A quick look at the end
/// of training searches few strengths, and a linear evaluation may have other epochs than the published ones, or few
/// steps. The mean
/// over classes comes behind the top-1 accuracy of its protocol.
fn foundation(row: &ResultRow) -> Option<usize> {
    let by_class = match row.metric.as_str() {
        TOP_1 => 0,
        MEAN_PER_CLASS => 1,
        _ => return None,
    };
    let place = 2 * protocol_place(row)? + by_class;
    Some(if row.settings.is_empty() { place } else { place + 2 * PROTOCOLS })
}

/// Number of places of [`protocol_place`].
const PROTOCOLS: usize = 5;

fn protocol_place(row: &ResultRow) -> Option<usize> {
    match row.protocol.as_str() {
        "linear" => Some(if is_reduced(row) { 4 } else { 0 }),
        "logistic" => Some(if is_reduced(row) { 2 } else { 1 }),
        "knn" => Some(3),
        _ => None,
    }
}

/// The accuracies of a model, the best founded first: those of the linear layer, of logistic regression and of nearest
/// neighbors; those with other settings than the published ones follow.
pub fn best_founded(rows: &[ResultRow]) -> Vec<&ResultRow> {
    let mut found: Vec<(usize, &ResultRow)> = rows.iter().filter_map(|row| Some((foundation(row)?, row))).collect();
    found.sort_by_key(|(place, _)| *place);
    found.into_iter().map(|(_, row)| row).collect()
}

/// The accuracy that represents a model: the best founded one, for the first task.
pub fn headline_accuracy(rows: &[ResultRow]) -> Option<&ResultRow> {
    best_founded(rows).first().copied()
}

/// Whether `other`, of the same number, is better founded than `row`.
pub fn is_better_founded(other: &ResultRow, row: &ResultRow) -> bool {
    foundation(other).zip(foundation(row)).is_some_and(|(other, row)| other < row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_headline_is_of_the_best_founded_protocol_with_its_published_epochs() {
        let row = |protocol: &str, detail: &str| ResultRow {
            protocol: protocol.into(),
            metric: TOP_1.into(),
            detail: detail.into(),
            ..ResultRow::default()
        };
        let (short, whole) = (row("linear", &format!("5 epochs, {OTHER_EPOCHS}")), row("linear", "90 epochs"));
        let of = |rows: &[ResultRow]| headline_accuracy(rows).map(|row| (row.protocol.clone(), row.detail.clone()));
        let (knn, logistic) = (row("knn", "k 20"), row("logistic", "L-BFGS"));
        let rows = [knn.clone(), short.clone(), logistic.clone()];
        assert_eq!(of(&rows).unwrap().0, "logistic");
        assert_eq!(of(&[short.clone(), logistic, whole.clone()]).unwrap(), (whole.protocol, whole.detail));
        assert_eq!(of(&[short, knn.clone()]).unwrap().0, "knn");
        assert_eq!(of(&[row("linear", &format!("90 epochs (270 {FEW_STEPS})")), knn]).unwrap().0, "knn");
        assert_eq!(of(&rows[1..2]).unwrap().0, "linear");
        assert_eq!(of(&[]), None);
    }

    #[test]
    fn the_mean_over_classes_of_a_protocol_stands_before_lesser_protocols() {
        let row = |protocol: &str, metric: &str, strengths: usize| ResultRow {
            protocol: protocol.into(),
            metric: metric.into(),
            chosen: Some(format!("w 1, the best of {strengths} on validation")),
            ..ResultRow::default()
        };
        let rows = [row("knn", TOP_1, 1), row("logistic", TOP_1, 4), row("logistic", MEAN_PER_CLASS, 45)];
        assert_eq!(headline_accuracy(&rows), Some(&rows[2]));
        let both = [row("logistic", MEAN_PER_CLASS, 45), row("logistic", TOP_1, 45)];
        assert_eq!(headline_accuracy(&both), Some(&both[1]));
    }

    #[test]
    fn a_quick_search_is_founded_less_than_the_whole_one_and_more_than_neighbors() {
        let row = |protocol: &str, strengths: usize| ResultRow {
            protocol: protocol.into(),
            metric: TOP_1.into(),
            chosen: Some(format!("w 1, the best of {strengths} on validation")),
            ..ResultRow::default()
        };
        let [quick, whole, knn] = [row("logistic", 4), row("logistic", 45), row("knn", 1)];
        let rows = [knn.clone(), quick.clone(), whole.clone()];
        assert_eq!(best_founded(&rows), [&whole, &quick, &knn]);
        assert!(is_better_founded(&whole, &quick) && !is_better_founded(&quick, &whole));
        assert_eq!([&quick, &whole, &knn].map(is_reduced), [true, false, false]);
    }
}
