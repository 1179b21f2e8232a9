//! Results as rows: one schema for files, tables and reports.

use serde::{Deserialize, Serialize};

/// One number with its protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ResultRow {
    /// `knn`, `logistic`, `equivariance`, …
    pub protocol: String,
    /// The pictures.
    pub data: String,
    /// The labels, or the module.
    pub task: String,
    /// What the number is.
    pub metric: String,
    /// The number.
    pub value: f64,
    /// Its 95 % bootstrap interval.
    pub interval: Option<(f64, f64)>,
    /// The same for the network before training.
    pub untrained: Option<f64>,
    /// What guessing gives.
    pub chance: Option<f64>,
    /// Chosen hyper-parameters and numbers of pictures.
    pub detail: String,
}

impl ResultRow {
    /// `value` as text: shares in per cent.
    fn text(&self, value: f64) -> String {
        if self.is_share() { format!("{:.1} %", 100.0 * value) } else { format!("{value:.3}") }
    }

    /// Whether the number lies in [0, 1] and reads best in per cent.
    fn is_share(&self) -> bool {
        self.metric.contains("accuracy") || self.metric.contains("recall")
    }

    /// The cells of the row, in the order of [`HEADINGS`].
    pub fn cells(&self) -> [String; 8] {
        let optional = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |v| self.text(v));
        let interval = self.interval.map(|(low, high)| format!("{} – {}", self.text(low), self.text(high)));
        [
            self.protocol.clone(),
            self.task.clone(),
            self.metric.clone(),
            self.text(self.value),
            interval.unwrap_or_else(|| "–".into()),
            optional(self.untrained),
            optional(self.chance),
            self.detail.clone(),
        ]
    }
}

/// The headings of a table of rows.
pub const HEADINGS: [&str; 8] =
    ["protocol", "task", "metric", "value", "95 % interval", "untrained", "chance", "detail"];

/// A Markdown table.
pub fn markdown(rows: &[ResultRow]) -> String {
    let line = |cells: &[String]| {
        format!("| {} |\n", cells.iter().map(|c| c.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
    };
    let mut text = line(&HEADINGS.map(str::to_owned));
    text += &format!("|{}\n", " --- |".repeat(HEADINGS.len()));
    rows.iter().for_each(|row| text += &line(&row.cells()));
    text
}

/// The rows as aligned text for a terminal; `details` adds the last column.
pub fn plain(rows: &[ResultRow], details: bool) -> String {
    let columns = if details { HEADINGS.len() } else { HEADINGS.len() - 1 };
    let mut table = vec![HEADINGS.map(str::to_owned)];
    table.extend(rows.iter().map(ResultRow::cells));
    let width = |column: usize| table.iter().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for cells in &table {
        let mut line = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            line += &format!("{cell:<width$}  ");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_a_line_a_row() {
        let row = ResultRow {
            protocol: "knn".into(),
            data: "d".into(),
            task: "a|b".into(),
            metric: "accuracy".into(),
            value: 0.5,
            interval: Some((0.4, 0.6)),
            untrained: None,
            chance: Some(0.1),
            detail: "k 20".into(),
        };
        let text = markdown(std::slice::from_ref(&row));
        assert!(
            text.ends_with("| knn | a\\|b | accuracy | 50.0 % | 40.0 % – 60.0 % | – | 10.0 % | k 20 |\n"),
            "{text}"
        );
        assert_eq!(plain(&[row.clone(), row], true).lines().count(), 3);
    }
}
