//! Spread over seeds, and paired differences from baselines.

use super::{StudyRecord, holm, mean, paired_t, statistics};
use crate::metrics::bootstrap_mean;
use crate::results::{ABSOLUTE, TOP_1};

/// Level below which an adjusted p-value is marked.
pub const ALPHA: f64 = 0.05;

/// A measure of a cell over its seeds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Number of runs with a value.
    pub runs: usize,
    /// Mean.
    pub mean: f64,
    /// Standard deviation; `None` for one run.
    pub deviation: Option<f64>,
}

/// A cell's difference from a baseline in one measure, paired by seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    /// Index of the cell.
    pub cell: usize,
    /// Index of the baseline among the cells.
    pub baseline: usize,
    /// Index of the measure.
    pub measure: usize,
    /// Differences by seed.
    pub differences: Vec<f64>,
    /// Mean difference.
    pub mean: f64,
    /// 95 % interval over seeds (Student's t); `None` for one pair.
    pub over_seeds: Option<(f64, f64)>,
    /// 95 % bootstrap interval over test images, each with all its seeds; for protocols that predict.
    pub over_images: Option<(f64, f64)>,
    /// Two-sided p-value over seeds.
    pub p_value: Option<f64>,
    /// P-value adjusted by Holm's procedure over the table.
    pub adjusted: Option<f64>,
}

impl Effect {
    /// Whether the difference stands after the correction.
    pub fn stands(&self) -> bool {
        self.adjusted.is_some_and(|p| p < ALPHA)
    }

    /// `*` if the difference stands after the correction, `†` if only without it.
    pub fn mark(&self) -> &'static str {
        match (self.stands(), self.p_value.is_some_and(|p| p < ALPHA)) {
            (true, _) => "*",
            (false, true) => "†",
            _ => "",
        }
    }
}

/// Indices of the measures of the main table: top-1 accuracy, recall@1, pooled R², and overall absolute equivariance.
pub fn headline(record: &StudyRecord) -> Vec<usize> {
    let is_main = |&index: &usize| {
        let measure = &record.measures[index];
        let overall = measure.metric == ABSOLUTE && !measure.task.ends_with(" alone");
        overall || [TOP_1, "recall@1", "pooled R²"].contains(&measure.metric.as_str())
    };
    (0..record.measures.len()).filter(is_main).collect()
}

/// A measure of a cell over its seeds; `None` if no run has a value.
pub fn spread(record: &StudyRecord, cell: usize, measure: usize) -> Option<Spread> {
    let values: Vec<f64> = record.cells[cell].runs.iter().filter_map(|run| run.value(measure)).collect();
    let deviation = statistics::deviation(&values);
    (!values.is_empty()).then(|| Spread { runs: values.len(), mean: mean(&values), deviation })
}

/// Numbers of the baselines of the study from which a cell differs, each with the names of the cells that it stands for.
pub fn baselines(record: &StudyRecord) -> Vec<(usize, String)> {
    let count = record.cells.first().map_or(0, |cell| cell.baselines.len());
    let named = |number: usize| {
        let mut names: Vec<&str> = Vec::new();
        for name in record.cells.iter().filter_map(|cell| cell.baselines.get(number)) {
            if !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        (number, names.join(", "))
    };
    (0..count).filter(|&number| !pairs(record, number).is_empty()).map(named).collect()
}

/// Each cell with its baseline of this number: not a baseline with itself, and not two cells whose difference an earlier
/// baseline has with the other sign.
fn pairs(record: &StudyRecord, number: usize) -> Vec<[usize; 2]> {
    let position = |name: &String| record.cells.iter().position(|cell| cell.name == *name);
    let pair = |cell: usize| {
        let name = record.cells[cell].baselines.get(number)?;
        let other = position(name).filter(|&other| other != cell)?;
        let is_mirrored = record.cells[other].baselines.iter().take(number).any(|name| position(name) == Some(cell));
        (!is_mirrored).then_some([cell, other])
    };
    (0..record.cells.len()).filter_map(pair).collect()
}

/// Differences of all cells from their baseline with the number `baseline`, in these measures: one table, over which
/// p-values are adjusted.
pub fn effects(record: &StudyRecord, baseline: usize, measures: &[usize]) -> Vec<Effect> {
    let mut effects = Vec::new();
    for pair in pairs(record, baseline) {
        effects.extend(measures.iter().filter_map(|&measure| effect(record, pair, measure)));
    }
    let adjusted = holm(&effects.iter().map(|effect| effect.p_value).collect::<Vec<_>>());
    effects.iter_mut().zip(adjusted).for_each(|(effect, adjusted)| effect.adjusted = adjusted);
    effects
}

/// The difference in one measure over the seeds for which both cells have a value.
fn effect(record: &StudyRecord, [cell, baseline]: [usize; 2], measure: usize) -> Option<Effect> {
    let (mut differences, mut hits) = (Vec::new(), Vec::new());
    for run in &record.cells[cell].runs {
        let Some(other) = record.cells[baseline].run(run.seed) else { continue };
        let (Some(value), Some(base)) = (run.value(measure), other.value(measure)) else { continue };
        differences.push(value - base);
        hits.extend(run.hits(measure).zip(other.hits(measure)));
    }
    let t = paired_t(&differences);
    (!differences.is_empty()).then(|| Effect {
        cell,
        baseline,
        measure,
        mean: mean(&differences),
        over_seeds: t.map(|t| t.interval),
        over_images: if hits.len() == differences.len() { over_images(&hits) } else { None },
        p_value: t.and_then(|t| t.p_value),
        adjusted: None,
        differences,
    })
}

/// Bootstrap interval over images of the mean over seeds; `None` if the images differ.
fn over_images(pairs: &[(Vec<f64>, Vec<f64>)]) -> Option<(f64, f64)> {
    let count = pairs.first()?.0.len();
    if count == 0 || pairs.iter().any(|(a, b)| a.len() != count || b.len() != count) {
        return None;
    }
    let of_image = |i: usize| pairs.iter().map(|(a, b)| a[i] - b[i]).sum::<f64>() / pairs.len() as f64;
    Some(bootstrap_mean(&(0..count).map(of_image).collect::<Vec<f64>>(), 0).interval)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::study::{Cell, FORMAT, Hits, Measure, Run, State};

    /// Two cells with three seeds, of which one diverged, and two measures, of which one has predictions.
    pub fn example() -> StudyRecord {
        let run = |seed: u64, right: usize, rank: f64| {
            let hits: Vec<bool> = (0..10).map(|i| i < right).collect();
            Run {
                seed,
                state: State::Finished,
                values: vec![Some(right as f64 / 10.0), Some(rank)],
                hits: vec![Hits::pack(0, &hits)],
                curves: [("loss".to_owned(), vec![3.0, 2.0 + seed as f64, 1.0])].into(),
                ..Run::default()
            }
        };
        let diverged = Run { seed: 2, state: State::Diverged, remark: "at step 7".into(), ..Run::default() };
        let cell = |name: &str, runs: Vec<Run>| Cell {
            name: name.into(),
            baselines: vec!["plain".into()],
            images: "2B".into(),
            runs,
            ..Cell::default()
        };
        let measure =
            |task: &str, metric: &str| Measure { task: task.into(), metric: metric.into(), ..Measure::default() };
        StudyRecord {
            format: FORMAT,
            name: "example".into(),
            matched_by: "steps".into(),
            seeds: vec![0, 1, 2],
            measures: vec![measure("birds", TOP_1), measure("features", "effective rank (RankMe)")],
            cells: vec![
                cell("plain", vec![run(0, 5, 2.0), run(1, 6, 2.5), run(2, 4, 2.0)]),
                cell("equimod", vec![run(0, 7, 3.0), run(1, 9, 2.0), diverged]),
            ],
            ..StudyRecord::default()
        }
    }

    #[test]
    fn effects_pair_the_seeds_that_both_cells_have() {
        let record = example();
        assert_eq!(headline(&record), [0]);
        let effects = effects(&record, 0, &[0, 1]);
        assert_eq!((effects.len(), effects[0].cell, effects[0].differences.len()), (2, 1, 2));
        // Differences 0.2 and 0.3: t = 5 on one degree of freedom, p = 1 − 2/π·atan(5).
        assert!((effects[0].mean - 0.25).abs() < 1e-12);
        let p = 1.0 - 2.0 / std::f64::consts::PI * 5f64.atan();
        assert!((effects[0].p_value.unwrap() - p).abs() < 1e-9);
        // The smaller of two p-values is doubled.
        assert!((effects[0].adjusted.unwrap() - 2.0 * p).abs() < 1e-9);
        assert_eq!((effects[0].mark(), effects[1].over_images), ("", None));
        let (low, high) = effects[0].over_images.unwrap();
        assert!(low > 0.0 && low <= 0.25 && high >= 0.25, "{low} {high}");
        let spread = spread(&record, 1, 0).unwrap();
        assert_eq!((spread.runs, record.cells[1].state().as_str()), (2, "1 of 3 diverged"));
        assert!((spread.mean - 0.8).abs() < 1e-12);
    }

    #[test]
    fn two_baselines_have_their_difference_once() {
        let mut record = example();
        let third = Cell { name: "longer".into(), ..record.cells[1].clone() };
        record.cells.push(third);
        record.cells.iter_mut().for_each(|cell| cell.baselines = vec!["plain".into(), "equimod".into()]);
        let compared = |record: &StudyRecord, number| -> Vec<[usize; 2]> {
            effects(record, number, &[0]).iter().map(|effect| [effect.cell, effect.baseline]).collect()
        };
        assert_eq!((compared(&record, 0), compared(&record, 1)), (vec![[1, 0], [2, 0]], vec![[2, 1]]));
        // Of two cells, the second baseline has nothing left.
        record.cells.pop();
        assert_eq!((compared(&record, 0), baselines(&record)), (vec![[1, 0]], vec![(0, "plain".to_owned())]));
    }

    #[test]
    fn a_record_reads_back_and_contradictions_are_refused() {
        let record = example();
        assert_eq!(StudyRecord::parse("s", &record.to_json()).unwrap(), record);
        let refused = |record: &StudyRecord| StudyRecord::parse("s", &record.to_json()).unwrap_err().to_string();
        let mut wrong = example();
        wrong.cells[1].baselines = vec!["plane".into()];
        assert!(refused(&wrong).contains("compared with plane"));
        let mut wrong = example();
        wrong.cells[0].runs[1].values.push(None);
        assert!(refused(&wrong).contains("plain, seed 1"));
        assert!(refused(&StudyRecord { format: 9, ..example() }).contains("format 9"));
        assert!(StudyRecord::parse("s", b"{}").unwrap_err().to_string().contains("not the study.json"));
    }
}
