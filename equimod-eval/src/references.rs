//! Values of other networks beside those of a model: of the network before training, and of the baseline.

use crate::ResultRow;
use crate::compare::compare_paired;
use crate::results::Paired;

/// Sets [`ResultRow::untrained`] and the difference from it, with the rows of the same protocols on the network before
/// training. `seed` decides the resamples.
pub fn with_untrained(mut rows: Vec<ResultRow>, untrained: &[ResultRow], seed: u64) -> Vec<ResultRow> {
    for row in &mut rows {
        let other = same_number(row, untrained);
        (row.untrained, row.over_untrained) = (other.map(|other| other.value), paired(row, other, seed));
    }
    rows
}

/// Sets [`ResultRow::baseline`] and the difference from it, with the rows of the same protocols on the baseline. `seed`
/// decides the resamples.
pub fn with_baseline(mut rows: Vec<ResultRow>, baseline: &[ResultRow], seed: u64) -> Vec<ResultRow> {
    for row in &mut rows {
        let other = same_number(row, baseline);
        (row.baseline, row.over_baseline) = (other.map(|other| other.value), paired(row, other, seed));
    }
    rows
}

/// Sets the values of the untrained network and of the baseline that rows lack from `earlier` rows of the same model
/// with the same value, measured in the same way.
pub fn with_references(mut rows: Vec<ResultRow>, earlier: &[ResultRow]) -> Vec<ResultRow> {
    for row in &mut rows {
        let this = row.without_references();
        for other in earlier.iter().filter(|other| other.without_references() == this) {
            if row.untrained.is_none() {
                (row.untrained, row.over_untrained) = (other.untrained, other.over_untrained);
            }
            if row.baseline.is_none() {
                (row.baseline, row.over_baseline) = (other.baseline, other.over_baseline);
            }
        }
    }
    rows
}

/// Row of another model that holds the same number.
fn same_number<'a>(row: &ResultRow, others: &'a [ResultRow]) -> Option<&'a ResultRow> {
    let same =
        |other: &&ResultRow| (&other.protocol, &other.task, &other.metric) == (&row.protocol, &row.task, &row.metric);
    others.iter().find(same)
}

/// The difference of two rows whose values are means over the same images; `None` if they are not.
fn paired(row: &ResultRow, other: Option<&ResultRow>, seed: u64) -> Option<Paired> {
    let (own, other) = (row.samples.as_ref()?.to_vec(), other?.samples.as_ref()?.to_vec());
    let is_right_or_wrong = own.iter().chain(&other).all(|value| *value == 0.0 || *value == 1.0);
    let compared = compare_paired(&[(other, own)], seed).ok()?;
    Some(Paired { interval: compared.difference.interval, p_value: compared.p_value.filter(|_| is_right_or_wrong) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::TOP_1;

    #[test]
    fn differences_are_those_of_the_same_images() {
        let row = |values: Vec<f64>| ResultRow { metric: TOP_1.into(), ..ResultRow::default() }.of_images(values, 1);
        let right = |count: usize| -> Vec<f64> { (0..40).map(|i| f64::from(u8::from(i < count))).collect() };
        let [found] = &with_untrained(vec![row(right(30))], &[row(right(20))], 1)[..] else { panic!("one row") };
        let compared = compare_paired(&[(right(20), right(30))], 1).unwrap();
        assert_eq!((found.untrained, found.baseline), (Some(0.5), None));
        let expected = Paired { interval: compared.difference.interval, p_value: compared.p_value };
        assert_eq!(found.over_untrained, Some(expected));
        assert!(expected.interval.0 > 0.0 && expected.p_value.unwrap() < 0.01);
        // Means over several views are neither right nor wrong; other images cannot be paired.
        let [found] = &with_baseline(vec![row(vec![0.5; 40])], &[row(right(20))], 1)[..] else { panic!("one row") };
        assert!(found.over_baseline.unwrap().p_value.is_none() && found.baseline == Some(0.5));
        let [found] = &with_baseline(vec![row(right(30))], &[row(right(20)[..39].to_vec())], 1)[..] else { panic!("") };
        assert!(found.over_baseline.is_none() && found.baseline.is_some());
    }

    #[test]
    fn references_come_from_the_same_measurement_only() {
        let row = |value, detail: &str, untrained| ResultRow {
            task: "kind".into(),
            metric: TOP_1.into(),
            value,
            detail: detail.into(),
            untrained,
            baseline: untrained.map(|value| 2.0 * value),
            ..ResultRow::default()
        };
        let earlier = [row(0.5, "k 20", Some(0.25)), row(0.75, "k 5", Some(0.3))];
        let rows = [row(0.5, "k 20", None), row(0.5, "k 5", None), row(0.75, "k 5", Some(0.1))];
        let found = with_references(rows.to_vec(), &earlier);
        assert_eq!(found.iter().map(|row| row.untrained).collect::<Vec<_>>(), [Some(0.25), None, Some(0.1)]);
        assert_eq!(found[0].baseline, Some(0.5));
    }
}
