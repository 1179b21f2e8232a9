//! The results of runs that stand for each number, where it was measured several times.

use equimod_eval::ResultRow;
use equimod_eval::results::{is_better_founded, searched_whole_range};

/// One row for each number of each run: of one run, those of the newest evaluation with each settings; of several, those
/// that can be compared.
pub fn of_runs(all: &[Vec<ResultRow>]) -> Vec<Vec<ResultRow>> {
    match all {
        [one] => vec![newest_of_each(one)],
        several => several.iter().map(|run| comparable(run, several)).collect(),
    }
}

/// The rows of one of several runs: the newest with settings that all runs have, if possible the defaults, or else the
/// first, that of the evaluation after training.
fn comparable(run: &[ResultRow], all: &[Vec<ResultRow>]) -> Vec<ResultRow> {
    let mut kept: Vec<ResultRow> = Vec::new();
    for row in run {
        if kept.iter().any(|other| other.key() == row.key()) {
            continue;
        }
        let in_all = |row: &&ResultRow| all.iter().all(|results| newest(results, row).is_some());
        let of_first = all[0].iter().rev().filter(|other| other.key() == row.key()).filter(in_all);
        // The first of the best: the newest, with the defaults if there is one.
        let shared = of_first.min_by_key(|other| !other.settings.is_empty());
        kept.push(shared.and_then(|shared| newest(run, shared)).unwrap_or(row).clone());
    }
    kept
}

/// Whether two rows are the same number, measured with the same settings and as whole a search.
pub fn are_alike(a: &ResultRow, b: &ResultRow) -> bool {
    a.key() == b.key() && a.settings == b.settings && searched_whole_range(a) == searched_whole_range(b)
}

/// The newest row of a number with the settings of `row`.
fn newest<'a>(results: &'a [ResultRow], row: &ResultRow) -> Option<&'a ResultRow> {
    results.iter().rev().find(|other| {
        other.key() == row.key()
            && has_same_settings(other, row)
            && searched_whole_range(other) == searched_whole_range(row)
    })
}

/// Whether two rows of a number were measured in the same way, up to the search for strengths.
fn has_same_settings(a: &ResultRow, b: &ResultRow) -> bool {
    (&a.settings, &a.detail) == (&b.settings, &b.detail)
}

/// The results without those that a later evaluation with the same settings, or a whole search, replaced.
fn newest_of_each(results: &[ResultRow]) -> Vec<ResultRow> {
    let mut kept: Vec<ResultRow> = Vec::new();
    for row in results {
        match kept.iter_mut().find(|other| other.key() == row.key() && has_same_settings(other, row)) {
            Some(earlier) if is_better_founded(earlier, row) => {}
            Some(earlier) => *earlier = row.clone(),
            None => kept.push(row.clone()),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::of_runs;
    use equimod_eval::ResultRow;

    /// Rows of one number with these settings, in the order of time.
    fn measured(details: &[&str]) -> Vec<ResultRow> {
        let row = |(value, detail): (usize, &&str)| ResultRow {
            metric: "top-1 accuracy".into(),
            value: value as f64,
            detail: (*detail).into(),
            ..ResultRow::default()
        };
        details.iter().enumerate().map(row).collect()
    }

    fn values(runs: &[Vec<ResultRow>]) -> Vec<Vec<f64>> {
        of_runs(runs).iter().map(|rows| rows.iter().map(|row| row.value).collect()).collect()
    }

    #[test]
    fn runs_are_compared_by_the_newest_evaluation_that_all_have() {
        let runs = [measured(&["quick", "whole", "few images"]), measured(&["quick", "other", "whole", "whole"])];
        assert_eq!(values(&runs), [[1.0], [3.0]]);
        // In another order of time.
        assert_eq!(values(&[measured(&["quick", "whole"]), measured(&["whole", "quick"])]), [[1.0], [0.0]]);
        // The defaults before other settings, however new.
        let trial = |value: f64| ResultRow { value, settings: "48".into(), ..measured(&["quick"])[0].clone() };
        let both = || [measured(&["quick"]), vec![trial(5.0)]].concat();
        assert_eq!(values(&[both(), both()]), [[0.0], [0.0]]);
        // Without a common one, that after training.
        assert_eq!(values(&[measured(&["quick", "whole"]), measured(&["short", "other"])]), [[0.0], [0.0]]);
    }

    #[test]
    fn a_quick_look_is_not_compared_with_the_whole_search() {
        let searched = |value: f64, strengths: usize| ResultRow {
            protocol: "logistic".into(),
            metric: "top-1 accuracy".into(),
            value,
            chosen: Some(format!("w 1, the best of {strengths} on validation")),
            ..ResultRow::default()
        };
        let runs = [vec![searched(0.5, 4), searched(0.6, 45)], vec![searched(0.7, 4)]];
        assert_eq!(values(&runs), [[0.5], [0.7]]);
        assert_eq!(values(&[runs[0].clone()]), [[0.6]]);
        assert_eq!(values(&[runs[0].iter().rev().cloned().collect()]), [[0.6]]);
    }

    #[test]
    fn one_run_has_the_newest_of_each_settings() {
        assert_eq!(values(&[measured(&["quick", "whole", "quick"])]), [[2.0, 1.0]]);
    }
}
