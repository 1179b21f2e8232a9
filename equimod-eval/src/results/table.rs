//! Rows as tables, in Markdown and for a terminal.

use super::{ResultRow, Results};

/// A column of a table of rows: its heading and its optional cell.
pub type Column = (&'static str, fn(&ResultRow) -> Option<String>);

fn non_empty(text: &str) -> Option<String> {
    if text.is_empty() { None } else { Some(text.to_owned()) }
}

const COLUMNS: [Column; 13] = [
    ("model", |row| non_empty(&row.model)),
    ("protocol", |row| non_empty(&row.protocol)),
    ("data", |row| non_empty(&row.data)),
    ("task", |row| non_empty(&row.task)),
    ("metric", |row| non_empty(&row.metric)),
    ("value", |row| Some(row.text(row.value))),
    ("95 % interval", ResultRow::interval_text),
    ("baseline", |row| row.optional(row.baseline)),
    ("untrained", |row| row.optional(row.untrained)),
    ("chance", |row| row.optional(row.chance)),
    ("settings", |row| non_empty(&row.settings)),
    ("chosen", |row| row.chosen.clone()),
    ("detail", |row| non_empty(&row.detail)),
];

/// The detail that several rows share.
pub fn common_detail(rows: &[ResultRow]) -> Option<&str> {
    match rows {
        [first, rest @ ..] if !rest.is_empty() && rest.iter().all(|row| row.detail == first.detail) => {
            Some(&first.detail).filter(|detail| !detail.is_empty()).map(String::as_str)
        }
        _ => None,
    }
}

/// The headings and cells of a table of `rows`.
///
/// Columns without any cell are left out, and so are the data set and the detail where all rows share them. `details`
/// adds the columns `chosen` and `detail`.
pub fn cells(rows: &[ResultRow], details: bool) -> (Vec<String>, Vec<Vec<String>>) {
    let one_set = rows.windows(2).all(|pair| pair[0].data == pair[1].data);
    let wanted = |(heading, _): &&Column| match *heading {
        "data" => !one_set,
        "chosen" => details,
        "detail" => details && common_detail(rows).is_none(),
        _ => true,
    };
    let columns: Vec<Column> = COLUMNS.iter().filter(wanted).copied().collect();
    filled(&columns, &rows.iter().collect::<Vec<_>>())
}

/// The headings and cells of a table with those of `columns` that have a cell in any of `rows`.
pub fn filled(columns: &[Column], rows: &[&ResultRow]) -> (Vec<String>, Vec<Vec<String>>) {
    let used = |(_, cell): &&Column| rows.iter().any(|row| cell(row).is_some());
    let columns: Vec<&Column> = columns.iter().filter(used).collect();
    let line = |row: &&ResultRow| columns.iter().map(|(_, cell)| cell(row).unwrap_or_else(|| "–".into())).collect();
    (columns.iter().map(|(heading, _)| (*heading).to_owned()).collect(), rows.iter().map(line).collect())
}

/// A Markdown table with these headings and cells.
pub fn markdown_table(headings: &[String], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| {
        format!("| {} |\n", cells.iter().map(|c| c.replace('|', "\\|")).collect::<Vec<_>>().join(" | "))
    };
    let mut text = line(headings);
    text += &format!("|{}\n", " --- |".repeat(headings.len()));
    rows.iter().for_each(|row| text += &line(row));
    text
}

/// A Markdown table of result rows.
pub fn markdown(rows: &[ResultRow]) -> String {
    let (headings, lines) = cells(rows, true);
    let below = common_detail(rows).map_or_else(String::new, |detail| format!("\n{detail}\n"));
    markdown_table(&headings, &lines) + &below
}

/// The file `results.md`: the verdict as a list, and the rows as a table.
pub fn markdown_page(results: &Results) -> String {
    let verdict: String = results.verdict.iter().map(|sentence| format!("- {sentence}\n")).collect();
    let gap = if verdict.is_empty() { "" } else { "\n" };
    verdict + gap + &markdown(&results.rows)
}

/// Aligned text for a terminal with these headings and cells.
pub fn aligned(headings: &[String], rows: &[Vec<String>]) -> String {
    let lines = || std::iter::once(headings).chain(rows.iter().map(Vec::as_slice));
    let width = |column: usize| lines().map(|cells| cells[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    for cells in lines() {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}  "));
        text += padded.collect::<String>().trim_end();
        text.push('\n');
    }
    text
}

/// Aligned text of result rows for a terminal; `details` adds chosen hyper-parameters and details.
pub fn plain(rows: &[ResultRow], details: bool) -> String {
    let (headings, lines) = cells(rows, details);
    let below = common_detail(rows).filter(|_| details).map_or_else(String::new, |detail| format!("{detail}\n"));
    aligned(&headings, &lines) + &below
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_a_line_for_each_row_and_no_empty_column() {
        let row = ResultRow {
            protocol: "knn".into(),
            data: "d".into(),
            task: "a|b".into(),
            metric: "top-1 accuracy".into(),
            value: 0.5,
            interval: Some((0.4, 0.6)),
            chance: Some(0.1),
            detail: "k 20".into(),
            ..Default::default()
        };
        let text = markdown(std::slice::from_ref(&row));
        let line = "| knn | a\\|b | top-1 accuracy | 50.0 % | 40.0–60.0 % | 10.0 % | k 20 |\n";
        assert!(text.ends_with(line), "{text}");
        let twice = plain(&[row.clone(), row.clone()], true);
        assert!(twice.lines().count() == 4 && twice.ends_with("\nk 20\n"), "{twice}");
        let other = ResultRow { data: "e".into(), ..row.clone() };
        assert!(plain(&[row, other], false).starts_with("protocol  data  task"));
    }
}
