//! Result rows as a table that fits a terminal of 80 columns.

use equimod_eval::ResultRow;
use equimod_eval::results::{ABSOLUTE, Column, SHUFFLED, TOP_1, aligned, filled};

/// Maximum number of characters of a measure's name.
const NAME: usize = 24;

const COLUMNS: [Column; 6] = [
    ("measure", |row| Some(name(row))),
    ("value", |row| Some(row.text(row.value))),
    ("95 %", ResultRow::interval_numbers),
    ("baseline", |row| row.baseline.map(|value| row.text(value))),
    ("untrained", |row| row.untrained.map(|value| row.text(value))),
    ("chance", |row| row.chance.map(|value| row.text(value))),
];

/// The table: accuracies, recall@1, and absolute equivariance with its control. Other measures are in the files.
pub fn brief(rows: &[ResultRow]) -> String {
    let rows: Vec<&ResultRow> = rows.iter().filter(|row| short(row).is_some()).collect();
    let (headings, lines) = filled(&COLUMNS, &rows);
    aligned(&headings, &lines) + remark(rows.iter().copied())
}

/// A remark on the equivariance of a baseline among these rows; empty without one.
pub fn remark<'a>(rows: impl IntoIterator<Item = &'a ResultRow>) -> &'static str {
    let is_of_baseline = |row: &ResultRow| row.metric == ABSOLUTE && row.baseline.is_some();
    if rows.into_iter().any(is_of_baseline) { UNTRAINED_PREDICTOR } else { "" }
}

/// Remark on the equivariance of a baseline, in which the module's loss has no weight.
const UNTRAINED_PREDICTOR: &str = "the baseline leaves its predictor as it began: its equivariance shows no effect\n";

/// Short name of the protocol with its metric; `None` for measures that are left to the files.
fn short(row: &ResultRow) -> Option<String> {
    Some(match row.metric.as_str() {
        TOP_1 => row.protocol_name(),
        ABSOLUTE => "equivariance".into(),
        SHUFFLED => "– its control".into(),
        metric if metric == "recall@1" => metric.into(),
        _ => return None,
    })
}

fn name(row: &ResultRow) -> String {
    let name = format!("{} {}", short(row).unwrap_or_default(), row.task);
    match name.chars().count() > NAME {
        true => name.chars().take(NAME - 1).chain(['…']).collect(),
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_fits_80_columns_and_leaves_the_rest_to_the_files() {
        let row = |protocol: &str, task: &str, metric: &str, value: f64| ResultRow {
            protocol: protocol.into(),
            task: task.into(),
            metric: metric.into(),
            value,
            interval: Some((value - 0.125, value + 0.125)),
            baseline: Some(value),
            untrained: Some(value),
            chance: Some(0.125),
            ..ResultRow::default()
        };
        let rows = [
            row("logistic", "a-label-with-a-very-long-name", TOP_1, 0.875),
            row("equivariance", "equimod", ABSOLUTE, -0.5),
            row("equivariance", "equimod", SHUFFLED, -0.5),
            row("equivariance", "equimod", "relative equivariance", 0.5),
        ];
        let table = brief(&rows);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 5, "{table}");
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{table}");
        assert!(lines[1].starts_with("logistic a-label-with-a…  87.5 %  75.0–100.0"), "{table}");
        assert!(lines[2].contains("-0.625 to -0.375") && lines[3].starts_with("– its control equimod"), "{table}");
        assert!(lines[4].contains("leaves its predictor as it began"), "{table}");
        let alone = ResultRow { baseline: None, chance: None, ..rows[0].clone() };
        assert!(brief(&[alone]).starts_with("measure                   value   95 %        untrained"));
        assert_eq!(brief(&[]), "\n");
    }
}
