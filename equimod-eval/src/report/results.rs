//! Result rows on a page: a chart, the definitions of the measures, and all numbers.

use super::figures::{definition_list, figures, framed_table, row};
use super::{Bar, Bars, Figure, escape};
use crate::results::{ACCURACY_OF_FLAG, ResultRow, cells, common_detail, with_distinct_tasks};
use crate::verdict::is_judged;

/// Rows above which a table opens on a click only, if a chart shows its numbers.
const LONG: usize = 8;
/// Rows above which such a table is left out of print.
const MOST_PRINTED: usize = 30;
/// Bars above which a chart shows one measure of each task and protocol.
const MOST_BARS: usize = 12;

/// A value of a row that measures are held against: its name and its place.
type Reference = (&'static str, fn(&ResultRow) -> Option<f64>);

const REFERENCES: [Reference; 3] =
    [("baseline", |row| row.baseline), ("untrained", |row| row.untrained), ("chance", |row| row.chance)];

/// Chart of the measures that have a value of the untrained network or the baseline.
fn glance(rows: &[ResultRow]) -> Vec<Figure> {
    let compared = |row: &&ResultRow| row.untrained.is_some() || row.baseline.is_some();
    let rows: Vec<&ResultRow> = rows.iter().filter(compared).collect();
    let references = REFERENCES.map(|(name, of)| (name, of));
    let title = match rows.iter().any(|row| row.is_share() && row.interval.is_some()) {
        true => "per cent, with 95 % intervals",
        false => "per cent",
    };
    share_chart(title, "trained", &rows, &references)
}

/// Chart of the shares among `rows` in per cent, called `name` in the legend, each with its reference values; empty without
/// a share.
pub fn share_chart<F: Fn(&ResultRow) -> Option<f64>>(
    title: &str,
    name: &str,
    rows: &[&ResultRow],
    references: &[(&str, F)],
) -> Vec<Figure> {
    let bar = |(row, distinct): (&ResultRow, &ResultRow)| Bar {
        label: distinct.label(),
        value: 100.0 * row.value,
        interval: row.interval.map(|(low, high)| (100.0 * low, 100.0 * high)),
        references: references.iter().map(|(_, of)| of(row).map(|value| 100.0 * value)).collect(),
    };
    // Flags among parameters have their R² in a chart of their own.
    let is_drawn = |row: &&&ResultRow| row.is_share() && row.metric != ACCURACY_OF_FLAG;
    let shares: Vec<ResultRow> = rows.iter().filter(is_drawn).map(|&row| row.clone()).collect();
    let distinct = with_distinct_tasks(&shares);
    let is_drawn = |row: &&ResultRow| shares.len() <= MOST_BARS || is_judged(row, &shares);
    let drawn = shares.iter().zip(&distinct).filter(|(row, _)| is_drawn(row));
    let chart = Bars {
        title: title.into(),
        name: name.into(),
        references: references.iter().map(|(name, _)| (*name).to_owned()).collect(),
        bars: drawn.map(bar).collect(),
        decimals: 1,
    };
    if chart.bars.is_empty() { Vec::new() } else { vec![Figure::Bars(chart)] }
}

/// The chart, the definitions of its measures, and the table; empty without rows. `drawn` says that a chart elsewhere
/// on the page shows numbers of the table.
pub fn results(rows: &[ResultRow], drawn: bool) -> String {
    let chart = figures(&glance(rows));
    let list = definition_list(rows);
    let mut numbers = table(rows);
    if numbers.is_empty() {
        return numbers;
    }
    if (drawn || !chart.is_empty()) && rows.len() > LONG {
        let count = rows.len();
        let (class, print) = match count > MOST_PRINTED {
            true => ("", format!("<p class=\"print-only\">On a screen, this page has all {count} numbers.</p>")),
            false => (" class=\"printed\"", String::new()),
        };
        numbers = format!("<details{class}><summary>All {count} numbers</summary>{numbers}</details>{print}");
    }
    format!("<div class=\"beside\">{chart}{list}</div>{numbers}")
}

/// All numbers; what was chosen and the detail of a row stand below it.
fn table(rows: &[ResultRow]) -> String {
    let (headings, lines) = cells(rows, false);
    let common = common_detail(rows);
    let line = |(number, cells): (&ResultRow, &Vec<String>)| {
        let detail = Some(number.detail.as_str()).filter(|detail| common.is_none() && !detail.is_empty());
        let notes: Vec<&str> = number.chosen.as_deref().into_iter().chain(detail).collect();
        let (class, below) = match notes.is_empty() {
            true => ("", String::new()),
            false => (
                " class=\"noted\"",
                format!(
                    "<tr class=\"note\"><td colspan=\"{}\">{}</td></tr>",
                    headings.len(),
                    escape(&notes.join("; "))
                ),
            ),
        };
        format!("<tr{class}>{}</tr>{below}", row(&headings, cells))
    };
    let lines: String = rows.iter().zip(&lines).map(line).collect();
    let below = common.map_or_else(String::new, |detail| format!("<p class=\"note\">{}</p>", escape(detail)));
    framed_table(&headings, &lines, "results") + &below
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::TOP_1;

    #[test]
    fn measures_of_the_untrained_network_and_the_baseline_become_a_chart() {
        let row = |untrained, baseline| ResultRow {
            task: "birds".into(),
            metric: "top-1 accuracy".into(),
            value: 0.25,
            untrained,
            baseline,
            chance: Some(0.05),
            ..ResultRow::default()
        };
        let page = |untrained, baseline| results(&[row(untrained, baseline)], false);
        let bars = |page: &str| page.matches("<rect").count();
        assert_eq!([bars(&page(Some(0.125), None)), bars(&page(Some(0.125), Some(0.2)))], [3, 4]);
        assert!(!page(None, None).contains("<svg"));
    }

    #[test]
    fn a_long_table_below_a_chart_opens_on_a_click() {
        let row = |task: &str| ResultRow {
            protocol: "logistic".into(),
            task: task.into(),
            metric: TOP_1.into(),
            untrained: Some(0.5),
            chosen: Some("λ 0.1".into()),
            detail: format!("{task}: 10 images"),
            ..ResultRow::default()
        };
        let rows: Vec<ResultRow> = (0..=LONG).map(|number| row(&number.to_string())).collect();
        let page = results(&rows, false);
        assert!(page.contains("All 9 numbers") && page.contains("λ 0.1; 4: 10 images"), "{page}");
        assert_eq!(page.matches("frozen features gets right").count(), 1);
        assert!(!results(&rows[..LONG], true).contains("<details"));
        let plain = ResultRow { untrained: None, ..row("birds") };
        assert!(!results(&vec![plain.clone(); LONG + 1], false).contains("<details"));
        assert!(results(&vec![plain; LONG + 1], true).contains("<details"));
    }

    #[test]
    fn of_many_rows_the_chart_shows_one_of_each_protocol_and_print_leaves_the_table_out() {
        let row = |number: usize| ResultRow {
            protocol: format!("linear, {} % of the labels", number / 2),
            task: "birds".into(),
            metric: if number.is_multiple_of(2) { TOP_1.into() } else { "mean per class accuracy".into() },
            untrained: Some(0.5),
            value: 0.25,
            ..ResultRow::default()
        };
        let rows: Vec<ResultRow> = (0..MOST_PRINTED + 1).map(row).collect();
        let bars = |count: usize| results(&rows[..count], false).matches("<rect").count();
        assert_eq!([bars(MOST_BARS), bars(MOST_BARS + 2)], [2 * MOST_BARS, 2 * (MOST_BARS + 2) / 2]);
        assert!(results(&rows[..MOST_PRINTED], false).contains("<details class=\"printed\">"));
        let page = results(&rows, false);
        assert!(page.contains("<details><summary>") && page.contains("On a screen, this page has all 31 numbers"));
    }
}
