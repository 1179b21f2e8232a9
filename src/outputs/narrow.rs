//! Result rows as a table for a terminal that is too narrow for all their columns.

use equimod_eval::ResultRow;
use equimod_eval::results::{Column, aligned, filled};

const PROTOCOL: Column = ("protocol", |row| Some(row.protocol.clone()));
const DATA: Column = ("data", |row| Some(row.data.clone()));
const TASK: Column = ("task", |row| Some(row.task.clone()));
const METRIC: Column = ("metric", |row| Some(row.metric.clone()));
const NUMBERS: [Column; 5] = [
    ("value", |row| Some(row.text(row.value))),
    ("95 %", ResultRow::interval_numbers),
    ("baseline", |row| row.baseline.map(|value| row.text(value))),
    ("untrained", |row| row.untrained.map(|value| row.text(value))),
    ("chance", |row| row.chance.map(|value| row.text(value))),
];

/// The table in at most `width` columns, if that is possible. Protocol, data and task are left out where all rows share
/// them; each model's name stands above its rows, and so do tasks and then metrics where there is no place for them.
pub fn narrow(rows: &[ResultRow], width: usize) -> String {
    let fits = |text: &String| text.lines().all(|line| line.chars().count() <= width);
    let joined = |parts: &[&str]| -> String {
        parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(", ")
    };
    let beside = table(rows, &[PROTOCOL, DATA, TASK], &[METRIC], |row| row.model.clone());
    if fits(&beside) {
        return beside;
    }
    let below_tasks = table(rows, &[PROTOCOL, DATA], &[METRIC], |row| joined(&[&row.model, &row.task]));
    if fits(&below_tasks) {
        return below_tasks;
    }
    table(rows, &[PROTOCOL, DATA], &[], |row| joined(&[&row.model, &row.task, &row.metric]))
}

/// A table with those `first` columns in which rows differ, the metric and the numbers; a heading that is not empty
/// stands above its rows.
fn table(rows: &[ResultRow], first: &[Column], metric: &[Column], heading: impl Fn(&ResultRow) -> String) -> String {
    let differs = |(_, cell): &&Column| rows.iter().any(|row| cell(row) != cell(&rows[0]));
    let first = first.iter().filter(differs).chain(metric).copied();
    let columns: Vec<Column> = first.chain(NUMBERS).collect();
    let (headings, lines) = filled(&columns, &rows.iter().collect::<Vec<_>>());
    let table = aligned(&headings, &lines);
    let mut lines = table.lines();
    let mut text = lines.next().map_or_else(String::new, |headings| format!("{headings}\n"));
    let mut last = String::new();
    for (row, line) in rows.iter().zip(lines) {
        let heading = heading(row);
        if heading != last {
            text += &format!("{heading}:\n");
            last = heading;
        }
        text += &format!("{line}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_columns_are_left_out_and_models_stand_above_their_rows() {
        let row = |model: &str, task: &str, value: f64| ResultRow {
            model: model.into(),
            protocol: "logistic".into(),
            data: "birds".into(),
            task: task.into(),
            metric: "top-1 accuracy".into(),
            value,
            interval: Some((value - 0.125, value + 0.125)),
            ..ResultRow::default()
        };
        let alone = narrow(&[row("", "kind", 0.5), row("", "size", 0.75)], 80);
        let lines = ["task  metric          value   95 %", "kind  top-1 accuracy  50.0 %  37.5–62.5"];
        assert_eq!(alone.lines().take(2).collect::<Vec<_>>(), lines);
        let rows = [row("out/a", "kind", 0.5), row("out/a", "kind", 0.5), row("out/b − out/a", "kind", 0.75)];
        let two = narrow(&rows, 80);
        let names: Vec<&str> = two.lines().filter(|line| line.ends_with(':')).collect();
        assert_eq!((names, two.lines().count()), (vec!["out/a:", "out/b − out/a:"], 6));
        assert_eq!(narrow(&[], 80), "\n");
        let tasks = narrow(&[row("", "a task with a long name", 0.5), row("", "another task", 0.75)], 50);
        let lines = ["a task with a long name:", "top-1 accuracy  50.0 %  37.5–62.5", "another task:"];
        assert_eq!(tasks.lines().skip(1).take(3).collect::<Vec<_>>(), lines);
    }
}
