//! Result rows as a table for a terminal that is too narrow for all their columns.

use equimod_eval::ResultRow;
use equimod_eval::results::{Column, aligned, filled};

use super::brief::interval;

const PROTOCOL: Column = ("protocol", |row| Some(row.protocol.clone()));
const DATA: Column = ("data", |row| Some(row.data.clone()));
const TASK: Column = ("task", |row| Some(row.task.clone()));
const OTHERS: [Column; 6] = [
    ("metric", |row| Some(row.metric.clone())),
    ("value", |row| Some(row.text(row.value))),
    ("95 %", interval),
    ("baseline", |row| row.baseline.map(|value| row.text(value))),
    ("untrained", |row| row.untrained.map(|value| row.text(value))),
    ("chance", |row| row.chance.map(|value| row.text(value))),
];

/// The table. Protocol, data and task are left out where all rows share them; each model's name stands above its rows.
pub fn narrow(rows: &[ResultRow]) -> String {
    let differs = |(_, cell): &Column| rows.iter().any(|row| cell(row) != cell(&rows[0]));
    let columns: Vec<Column> = [PROTOCOL, DATA, TASK].into_iter().filter(differs).chain(OTHERS).collect();
    let (headings, lines) = filled(&columns, &rows.iter().collect::<Vec<_>>());
    let table = aligned(&headings, &lines);
    let mut lines = table.lines();
    let mut text = lines.next().map_or_else(String::new, |headings| format!("{headings}\n"));
    let mut model = "";
    for (row, line) in rows.iter().zip(lines) {
        if row.model != model {
            text += &format!("{}:\n", row.model);
            model = &row.model;
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
        let alone = narrow(&[row("", "kind", 0.5), row("", "size", 0.75)]);
        let lines = ["task  metric          value   95 %", "kind  top-1 accuracy  50.0 %  37.5–62.5"];
        assert_eq!(alone.lines().take(2).collect::<Vec<_>>(), lines);
        let two = narrow(&[row("out/a", "kind", 0.5), row("out/a", "kind", 0.5), row("out/b − out/a", "kind", 0.75)]);
        let names: Vec<&str> = two.lines().filter(|line| line.ends_with(':')).collect();
        assert_eq!((names, two.lines().count()), (vec!["out/a:", "out/b − out/a:"], 6));
        assert_eq!(narrow(&[]), "\n");
    }
}
