//! Tables of a study: for pages, in Markdown and in LaTeX.

use std::collections::BTreeMap;

use super::effects::baselines;
use super::verdict::verdict;
use super::{Cell, Effect, Spread, StudyRecord, deviation, effects, headline, mean, spread};
use crate::report::Table;
use crate::results::markdown_table;

/// Entry of a cell without a number.
const NONE: &str = "–";

/// Explanation of marks and intervals, below tables of differences.
pub const LEGEND: &str = "Differences are paired by seed; in brackets the 95 % interval over seeds (Student's t). \
    * p < 0.05 after Holm's correction over the table, † only without it; all other differences cannot be separated \
    from 0 with these seeds.";

fn texts<const N: usize>(all: [&str; N]) -> Vec<String> {
    all.map(str::to_owned).to_vec()
}

/// Mean ± standard deviation of measures: a row for each cell.
pub fn spreads(record: &StudyRecord, measures: &[usize]) -> Table {
    let titles = measures.iter().map(|&measure| column_title(record, measure));
    let row = |(number, cell): (usize, &Cell)| {
        let values = measures.iter().map(|&measure| {
            spread(record, number, measure).map_or_else(|| NONE.into(), |one| spread_text(record, measure, one))
        });
        [cell.name.clone(), cell.images.clone()].into_iter().chain(values).chain([cell.state()]).collect()
    };
    let mut table = Table {
        headings: texts(["cell", "images"]).into_iter().chain(titles).chain(texts(["remarks"])).collect(),
        rows: record.cells.iter().enumerate().map(row).collect(),
    };
    if table.rows.iter().all(|row: &Vec<String>| row.last().is_some_and(String::is_empty)) {
        table.headings.pop();
        table.rows.iter_mut().for_each(|row| drop(row.pop()));
    }
    table
}

fn column_title(record: &StudyRecord, measure: usize) -> String {
    let measure = &record.measures[measure];
    let unit = if measure.is_share() { ", %" } else { "" };
    format!("{} ({}{unit})", measure.task, measure.protocol)
}

fn spread_text(record: &StudyRecord, measure: usize, one: Spread) -> String {
    let measure = &record.measures[measure];
    let deviation = one.deviation.map_or_else(String::new, |deviation| format!(" ± {}", measure.text(deviation)));
    measure.text(one.mean) + &deviation
}

/// Paired differences from one baseline: a row for each cell.
pub fn differences(record: &StudyRecord, baseline: usize, measures: &[usize]) -> Table {
    let all = effects(record, baseline, measures);
    let entry = |cell: usize, measure: usize| {
        let effect = all.iter().find(|effect| (effect.cell, effect.measure) == (cell, measure));
        effect.map_or_else(|| NONE.into(), |effect| difference_text(record, effect))
    };
    let row = |cell: usize| {
        let entries = measures.iter().map(|&measure| entry(cell, measure));
        std::iter::once(record.cells[cell].name.clone()).chain(entries).collect()
    };
    let mut cells: Vec<usize> = all.iter().map(|effect| effect.cell).collect();
    cells.dedup();
    let titles = measures.iter().map(|&measure| column_title(record, measure));
    Table { headings: texts(["cell"]).into_iter().chain(titles).collect(), rows: cells.into_iter().map(row).collect() }
}

fn difference_text(record: &StudyRecord, effect: &Effect) -> String {
    let measure = &record.measures[effect.measure];
    let interval = effect
        .over_seeds
        .map_or_else(String::new, |(low, high)| format!(" [{}, {}]", measure.signed(low), measure.signed(high)));
    format!("{}{}{interval}", measure.signed(effect.mean), effect.mark())
}

/// Every difference from one baseline with both intervals and p-values: a row for each cell and measure.
pub fn detailed(record: &StudyRecord, baseline: usize, measures: &[usize]) -> Table {
    let headings = ["cell", "baseline", "measure", "difference", "over seeds", "over images", "p", "p, Holm", "seeds"];
    let row = |effect: Effect| {
        let measure = &record.measures[effect.measure];
        let interval = |interval: Option<(f64, f64)>| match interval {
            Some((low, high)) => format!("{} to {}", measure.signed(low), measure.signed(high)),
            None => NONE.into(),
        };
        let p = |p: Option<f64>| match p {
            Some(p) if p < 1e-4 => "< 0.0001".to_owned(),
            Some(p) => format!("{p:.4}"),
            None => NONE.into(),
        };
        vec![
            record.cells[effect.cell].name.clone(),
            record.cells[effect.baseline].name.clone(),
            measure.title(),
            format!("{}{}", measure.signed(effect.mean), effect.mark()),
            interval(effect.over_seeds),
            interval(effect.over_images),
            p(effect.p_value),
            p(effect.adjusted),
            effect.differences.len().to_string(),
        ]
    };
    Table { headings: texts(headings), rows: effects(record, baseline, measures).into_iter().map(row).collect() }
}

/// Mean ± standard deviation of every measure: a row for each measure, a column for each cell.
pub fn everything(record: &StudyRecord) -> Table {
    let names = record.cells.iter().map(|cell| cell.name.clone());
    let row = |(number, measure): (usize, &super::Measure)| {
        let values = (0..record.cells.len()).map(|cell| {
            spread(record, cell, number).map_or_else(|| NONE.into(), |one| spread_text(record, number, one))
        });
        let chance = measure.chance.map_or_else(|| NONE.into(), |chance| measure.text(chance));
        [measure.title(), chance].into_iter().chain(values).collect()
    };
    Table {
        headings: texts(["measure", "chance"]).into_iter().chain(names).collect(),
        rows: record.measures.iter().enumerate().map(row).collect(),
    }
}

/// Cost of each cell.
pub fn cost(record: &StudyRecord) -> Table {
    let headings = ["cell", "images", "parameters", "epochs", "steps", "FLOPs a step", "FLOPs", "time", "peak memory"];
    let row = |cell: &Cell| {
        let flops = |scale: f64| cell.flops.map_or_else(|| NONE.into(), |flops| format!("{:.2e}", flops * scale));
        let trained: Vec<_> = cell.runs.iter().filter(|run| run.seconds > 0.0).collect();
        let seconds: Vec<f64> = trained.iter().map(|run| run.seconds).collect();
        let time = match deviation(&seconds) {
            Some(deviation) => format!("{:.0} ± {deviation:.0} s", mean(&seconds)),
            None if seconds.is_empty() => NONE.into(),
            None => format!("{:.0} s", mean(&seconds)),
        };
        let memory = trained.iter().map(|run| run.peak_memory).max();
        vec![
            cell.name.clone(),
            cell.images.clone(),
            cell.parameters.to_string(),
            cell.epochs.to_string(),
            cell.steps.to_string(),
            flops(1.0),
            flops(cell.steps as f64),
            time,
            memory.map_or_else(|| NONE.into(), |bytes| format!("{:.0} MiB", bytes as f64 / f64::from(1 << 20))),
        ]
    };
    Table { headings: texts(headings), rows: record.cells.iter().map(row).collect() }
}

/// Facts about the study: the rule of matching, seeds, data and evaluations.
pub fn facts(record: &StudyRecord) -> Vec<(String, String)> {
    let rule = match record.matched_by.as_str() {
        "steps" => "the same number of steps on the same images in the same order for each seed",
        "flops" => {
            "the FLOPs of the baseline, by the number of epochs; the same images in the same order for each seed"
        }
        _ => "none: cells may differ in data and budget",
    };
    let seeds: Vec<String> = record.seeds.iter().map(u64::to_string).collect();
    let mut devices: BTreeMap<&str, usize> = BTreeMap::new();
    for run in record.cells.iter().flat_map(|cell| &cell.runs).filter(|run| !run.device.is_empty()) {
        *devices.entry(&run.device).or_default() += 1;
    }
    let devices: Vec<String> = devices.into_iter().map(|(device, runs)| format!("{device} ({runs} runs)")).collect();
    let fact = |name: &str, value: String| (name.to_owned(), value);
    vec![
        fact("data", record.data.clone()),
        fact("matched by", rule.into()),
        fact("seeds", seeds.join(", ")),
        fact("evaluations", record.evaluations.join("; ")),
        fact("version", record.version.clone()),
        fact("devices", devices.join(", ")),
    ]
}

/// The study as Markdown.
pub fn markdown(record: &StudyRecord) -> String {
    let table = |table: &Table| markdown_table(&table.headings, &table.rows);
    let main = headline(record);
    let mut text = format!("# {}\n\n{}\n\n", record.name, record.about);
    verdict(record).iter().for_each(|sentence| text += &format!("- {sentence}\n"));
    facts(record).iter().for_each(|(name, value)| text += &format!("- {name}: {value}\n"));
    text += &format!("\n## Mean ± standard deviation over seeds\n\n{}", table(&spreads(record, &main)));
    for (number, name) in baselines(record) {
        let shown = table(&differences(record, number, &main));
        text += &format!("\n## Differences from {name}\n\n{shown}\n{LEGEND}\n");
    }
    text + &format!("\n## Cost\n\n{}", table(&cost(record)))
}

/// The study as LaTeX tables, for the package booktabs.
pub fn latex(record: &StudyRecord) -> String {
    let main = headline(record);
    let mut text = tabular(&spreads(record, &main), "Mean ± standard deviation over seeds.");
    for (number, name) in baselines(record) {
        let caption = format!("Differences from {name}. {LEGEND}");
        text += &tabular(&differences(record, number, &main), &caption);
    }
    text
}

fn tabular(table: &Table, caption: &str) -> String {
    let line = |cells: &[String]| cells.iter().map(|cell| escaped(cell)).collect::<Vec<_>>().join(" & ") + " \\\\\n";
    let columns = "l".to_owned() + &"r".repeat(table.headings.len().saturating_sub(1));
    let rows: String = table.rows.iter().map(|row| line(row)).collect();
    format!(
        "\\begin{{table}}\n\\centering\n\\begin{{tabular}}{{{columns}}}\n\\toprule\n{}\\midrule\n{rows}\\bottomrule\n\
         \\end{{tabular}}\n\\caption{{{}}}\n\\end{{table}}\n",
        line(&table.headings),
        escaped(caption)
    )
}

/// Text with LaTeX's special characters replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => out.extend(['\\', c]),
            '\\' => out += "\\textbackslash{}",
            '~' => out += "\\textasciitilde{}",
            '^' => out += "\\textasciicircum{}",
            '±' => out += "$\\pm$",
            '†' => out += "$^\\dagger$",
            '*' => out += "$^*$",
            '<' => out += "$<$",
            '²' => out += "$^2$",
            '–' => out += "--",
            'λ' => out += "$\\lambda$",
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::effects::tests::example;

    #[test]
    fn tables_have_a_row_for_each_cell_and_say_what_failed() {
        let text = markdown(&example());
        assert!(text.contains("| equimod | 2B | 80.0 ± 14.1 | 1 of 3 diverged |"), "{text}");
        assert!(text.contains("| equimod | +25.0 ["), "{text}");
        assert!(!text.contains("| plain | +"), "a baseline is not compared with itself: {text}");
        assert_eq!(everything(&example()).rows[1][2..], ["2.167 ± 0.289", "2.500 ± 0.707"]);
    }

    #[test]
    fn latex_escapes_its_special_characters() {
        let mut record = example();
        record.cells[1].name = "a_b&c".into();
        let text = latex(&record);
        assert!(text.contains("a\\_b\\&c & 2B & 80.0 $\\pm$ 14.1"), "{text}");
        assert_eq!(text.matches("\\begin{tabular}").count(), 2);
        assert_eq!(escaped("50 % ~ <*"), "50 \\% \\textasciitilde{} $<$$^*$");
    }
}
