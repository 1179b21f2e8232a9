//! The table of an evaluation, and the verdict on it with the next command.

use equimod_eval::ResultRow;
use equimod_eval::results::plain;

use super::brief::remark;
use super::console::{fits, result, sentences, width};
use super::narrow::narrow;
use super::suggestion::{Suggestion, print_all};

/// Prints rows as a table. Where the terminal is too narrow for it, chosen hyper-parameters and details stand below.
///
/// # Errors
///
/// If stdout cannot be written.
pub fn print_rows(rows: &[ResultRow]) -> anyhow::Result<()> {
    let whole = plain(rows, true);
    match width().filter(|_| !fits(&whole)) {
        None => result(&whole)?,
        Some(width) => {
            result(&narrow(rows, width))?;
            sentences(&details(rows))?;
        }
    }
    match remark(rows) {
        "" => Ok(()),
        remark => sentences(remark),
    }
}

/// Most lines of details with what was chosen for each row; beyond them, the files and pages say it.
const MOST_DETAILS: usize = 6;

/// Chosen hyper-parameters and details, each once, with the tasks that they belong to, or, of one task, the metrics.
fn details(rows: &[ResultRow]) -> String {
    let whole = details_with(rows, true);
    if whole.lines().count() > MOST_DETAILS { details_with(rows, false) } else { whole }
}

fn details_with(rows: &[ResultRow], chosen: bool) -> String {
    let of_tasks = rows.iter().any(|row| row.task != rows[0].task);
    let label = |row| -> &str {
        let row: &ResultRow = row;
        if of_tasks { &row.task } else { &row.metric }
    };
    let mut said: Vec<(String, Vec<&str>)> = Vec::new();
    for row in rows {
        let parts = row.chosen.as_deref().filter(|_| chosen).into_iter().chain([row.detail.as_str()]);
        let text = parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join("; ");
        match said.iter_mut().find(|(other, _)| *other == text) {
            _ if text.is_empty() => {}
            Some((_, labels)) if labels.contains(&label(row)) => {}
            Some((_, labels)) => labels.push(label(row)),
            None => said.push((text, vec![label(row)])),
        }
    }
    match said.as_slice() {
        [(text, _)] => format!("{text}\n"),
        all => all.iter().map(|(text, labels)| format!("{}: {text}\n", labels.join(", "))).collect(),
    }
}

/// Prints the sentences of a verdict, and the commands that follow.
///
/// # Errors
///
/// If stdout cannot be written.
pub fn print_verdict(verdict: &[String], next: &[Suggestion]) -> anyhow::Result<()> {
    if !verdict.is_empty() {
        sentences(&verdict.join("\n"))?;
    }
    match next {
        [] => Ok(()),
        [one] => one.print(),
        several => print_all(several),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_stand_once() {
        let row = |task: &str, detail: &str| ResultRow {
            task: task.into(),
            chosen: Some("k 20".into()),
            detail: detail.into(),
            ..ResultRow::default()
        };
        let rows = [row("kind", "90 images"), row("kind", "90 images"), row("size", "90 images"), row("color", "9")];
        assert_eq!(details(&rows), "kind, size: k 20; 90 images\ncolor: k 20; 9\n");
        assert_eq!(details(&rows[..2]), "k 20; 90 images\n");
        let metric = |metric: &str, detail| ResultRow { metric: metric.into(), ..row("features", detail) };
        let rows = [metric("alignment", "two views"), metric("uniformity", "one")];
        assert_eq!(details(&rows), "alignment: k 20; two views\nuniformity: k 20; one\n");
    }
}
