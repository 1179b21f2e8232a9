//! The page of a study.

use super::effects::baselines;
use super::tables::{LEGEND, cost, detailed, differences, everything, facts, spreads};
use super::verdict::verdict;
use super::{Cell, Effect, StudyRecord, deviation, effects, headline, mean};
use crate::report::{BandLine, BandPlot, EffectRow, Effects, Figure, ReportData, Section, effect_file, render};

/// The study as an HTML page.
pub fn page(record: &StudyRecord) -> String {
    let main = headline(record);
    let mut lead = vec![Section::table("Mean ± standard deviation over seeds", spreads(record, &main))];
    for (number, name) in baselines(record) {
        let mut figures = vec![Figure::Table(differences(record, number, &main)), Figure::Text(LEGEND.into())];
        figures.extend(effect_plots(record, number, &main).into_iter().map(Figure::Effects));
        lead.push(Section::new(&format!("Differences from {name}"), figures));
    }
    let mut sections = vec![
        Section::new("Training, mean ± standard deviation over seeds", curves(record)),
        Section::table("Cost", cost(record)),
    ];
    for (number, name) in baselines(record) {
        sections.push(Section::table(&format!("Every difference from {name}"), detailed(record, number, &main)));
    }
    sections.push(Section::table("Every measure, mean ± standard deviation over seeds", everything(record)));
    sections.push(Section::table("Settings of the cells", settings(record)));
    render(&ReportData {
        title: format!("equimod study: {}", record.name),
        summary: record.about.clone(),
        verdict: verdict(record),
        facts: facts(record),
        lead,
        sections,
        ..ReportData::default()
    })
}

/// The effect plots as SVG files, with their titles: the number of the baseline, and the measure.
pub fn figures(record: &StudyRecord) -> Vec<(String, String)> {
    let main = headline(record);
    let of_baseline = |(number, _)| {
        let plots = effect_plots(record, number, &main).into_iter().zip(&main);
        let file = move |(plot, &measure): (Effects, &usize)| {
            let title = format!("{} {}", number + 1, record.measures[measure].title());
            Some((title, effect_file(&plot)?))
        };
        plots.filter_map(file).collect::<Vec<_>>()
    };
    baselines(record).into_iter().flat_map(of_baseline).collect()
}

/// An effect plot for each measure.
fn effect_plots(record: &StudyRecord, baseline: usize, measures: &[usize]) -> Vec<Effects> {
    let all = effects(record, baseline, measures);
    let plot = |&measure: &usize| {
        let shown = &record.measures[measure];
        let scale = if shown.is_share() { 100.0 } else { 1.0 };
        let row = |effect: &Effect| EffectRow {
            label: record.cells[effect.cell].name.clone(),
            value: scale * effect.mean,
            interval: effect.over_seeds.map(|(low, high)| (scale * low, scale * high)),
            stands: effect.stands(),
        };
        let unit = if shown.is_share() { ", in points" } else { "" };
        let rows = all.iter().filter(|effect| effect.measure == measure).map(row).collect();
        Effects { title: format!("{}{unit}", shown.title()), rows }
    };
    measures.iter().map(plot).collect()
}

/// A plot for each metric and group of cells with the same baseline.
fn curves(record: &StudyRecord) -> Vec<Figure> {
    let mut groups: Vec<&str> = Vec::new();
    let mut names: Vec<&String> = Vec::new();
    for cell in &record.cells {
        let group = cell.baselines.first().map_or("", String::as_str);
        if !groups.contains(&group) {
            groups.push(group);
        }
        for name in cell.runs.iter().flat_map(|run| run.curves.keys()) {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    let plot = |name: &String, group: &str| {
        let of_group = record.cells.iter().filter(|cell| cell.baselines.first().map_or("", String::as_str) == group);
        let lines: Vec<BandLine> = of_group.map(|cell| band(cell, name)).collect();
        let beside = if group.is_empty() { String::new() } else { format!(", beside {group}") };
        let title = format!("{}{beside}", name.replace('_', " ").replace('.', ": "));
        Figure::Bands(BandPlot { title, x_label: "per cent of the training".into(), lines })
    };
    names.iter().flat_map(|name| groups.iter().map(|group| plot(name, group)).collect::<Vec<_>>()).collect()
}

/// Mean and standard deviation of a metric over the seeds of a cell; without points if no run has it.
fn band(cell: &Cell, name: &str) -> BandLine {
    let curves: Vec<&Vec<f64>> = cell.runs.iter().filter_map(|run| run.curves.get(name)).collect();
    let longest = curves.iter().map(|curve| curve.len()).max().unwrap_or(0);
    let point = |place: usize| {
        let values: Vec<f64> = curves.iter().filter_map(|curve| curve.get(place).copied()).collect();
        let share = 100.0 * (place as f64 + 0.5) / longest as f64;
        (share, mean(&values), deviation(&values).unwrap_or(0.0))
    };
    BandLine { name: cell.name.clone(), points: (0..longest).map(point).collect() }
}

fn settings(record: &StudyRecord) -> crate::report::Table {
    let row = |cell: &Cell| vec![cell.name.clone(), cell.settings.join(", ")];
    crate::report::Table {
        headings: vec!["cell".into(), "settings".into()],
        rows: record.cells.iter().map(row).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::effects::tests::example;

    #[test]
    fn the_page_shows_effects_curves_and_bad_runs() {
        let page = page(&example());
        for part in ["+25.0", "1 of 3 diverged", "Every difference from plain", "beside plain", "<polygon", "<circle"] {
            assert!(page.contains(part), "{part}");
        }
        assert!(!page.contains("NaN"));
        let figures = figures(&example());
        let titles: Vec<&str> = figures.iter().map(|(title, _)| title.as_str()).collect();
        assert_eq!(titles, ["1 birds, top-1 accuracy ()"]);
        for (_, file) in &figures {
            assert!(
                file.starts_with("<svg xmlns") && file.contains("stands after") && !file.contains("var("),
                "{file}"
            );
        }
    }
}
