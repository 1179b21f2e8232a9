//! `equimod report`.

mod rows;
mod several;
mod verdict;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use candle_core::Device;
use equimod_core::Model;
use equimod_core::checkpoint::write_atomic;
use equimod_eval::ResultRow;
use equimod_eval::evaluation::{ABSOLUTE, SHUFFLED, equivariance_section, predictions_section};
use equimod_eval::report::{Figure, Plot, ReportData, Section, Table, render, share_chart};
use equimod_eval::results::is_quick_search;
use equimod_eval::verdict::is_judged;
use equimod_train::run_dir::RESOLVED;
use equimod_train::{Recipe, RunInfo, recorded, settings};

use self::rows::are_alike;
use crate::cli::Report;
use crate::commands::eval::names;
use crate::inputs::evaluated_data::found;
use crate::inputs::sources::splits;
use crate::outputs::console::{self, duration};
use crate::outputs::suggestion::on_page;
use crate::outputs::verdict::print_verdict;
use crate::process::exit::Usage;
use crate::process::memory::peak;
use crate::reference::PREFIX;
use crate::run::baseline;
use crate::run::files::{Metrics, all_results, earlier_results};
use crate::run_state::{status, unrecorded_seconds};

/// Metrics that are plotted first, in this order.
const FIRST: [&str; 2] = ["loss", "invariance_loss"];

/// Files of one run.
struct Run {
    folder: PathBuf,
    name: String,
    info: RunInfo,
    recipe: Recipe,
    metrics: Metrics,
    results: Vec<ResultRow>,
}

/// Writes one page that compares runs.
///
/// # Errors
///
/// If a run cannot be read, or the page cannot be written, or would replace the page of a run.
pub fn run(arguments: &Report) -> anyhow::Result<ExitCode> {
    let out = &arguments.out;
    if out.with_file_name("run.json").is_file() {
        let text = format!("{} is a file of a run; give --out with a file outside run directories", out.display());
        return Err(Usage(text).into());
    }
    if let Some(twice) = arguments.runs.iter().enumerate().find(|(place, run)| arguments.runs[..*place].contains(run)) {
        return Err(Usage(format!("{} is given twice; give other runs to compare it with", twice.1.display())).into());
    }
    let named = arguments.runs.iter().zip(names(&arguments.runs));
    let mut runs = named.map(|(path, name)| read(path, name)).collect::<anyhow::Result<Vec<Run>>>()?;
    let all: Vec<Vec<ResultRow>> = runs.iter_mut().map(|run| std::mem::take(&mut run.results)).collect();
    for (run, results) in runs.iter_mut().zip(rows::of_runs(&all)) {
        run.results = results;
    }
    let names: Vec<&str> = runs.iter().map(|run| run.name.as_str()).collect();
    let results = results(&runs);
    let (verdict, next) = verdict::of(&runs);
    let page = render(&ReportData {
        title: format!("equimod: {}", names.join(", ")),
        summary: match &runs[..] {
            [_] => "all evaluations of the run".into(),
            several => format!("comparison of {} runs", several.len()),
        },
        verdict: verdict.clone(),
        next: on_page(&next),
        // Of one run, the page has the table and chart of its own page.
        results: if let [one] = &runs[..] { one.results.clone() } else { Vec::new() },
        lead: vec![Section::new("At a glance", glance(&drawn(&runs)))],
        sections: sections(&runs, results),
        ..Default::default()
    });
    write_atomic(out, page.as_bytes())?;
    print_verdict(&verdict, &next)?;
    console::result(&format!("report {}", out.display()))?;
    Ok(ExitCode::SUCCESS)
}

/// The sections below the results of one run, and those of several runs.
fn sections(runs: &[Run], results: Compared) -> Vec<Section> {
    let (about, curves) = (Section::table("Runs", about(runs)), Section::lines("Curves", plots(&drawn(runs))));
    if let [one] = runs {
        return vec![equivariance_section(&one.results), views(one), about, curves];
    }
    vec![
        about,
        Section::table("Settings that differ", differences(runs)),
        Section::new("Results", compared(runs, results.judged)),
        Section::table("Further results", results.further).folded(),
        Section::table("Results of some runs only", results.others).folded(),
        curves,
    ]
}

/// What is nearest to the predictions of views, of a run with such predictions whose images are still there.
fn views(run: &Run) -> Section {
    // Images of the Hub may not be here, and a page is no reason to download them.
    if run.recipe.data.source.starts_with(PREFIX) {
        return Section::default();
    }
    let section = || -> anyhow::Result<Section> {
        let model = Model::load(&run.folder, &Device::Cpu)?;
        let source = found(run.recipe.data.source.clone(), &run.folder.join(RESOLVED));
        let splits = splits(&source, run.recipe.data.reading())?;
        let images = splits.pretraining.unwrap_or(splits.train);
        Ok(predictions_section(&model, images.as_ref(), run.info.seed)?)
    };
    // Without them, the page has the numbers alone.
    section().unwrap_or_default()
}

fn read(path: &Path, name: String) -> anyhow::Result<Run> {
    let info = RunInfo::read(path)?;
    let recipe = recorded(&path.join(RESOLVED))?;
    let results = all_results(path)?;
    for file in earlier_results(path)? {
        let text = "is of weights that the run had before it was resumed, and is left out; evaluate the run again";
        console::note(&format!("{} {text}", file.display()));
    }
    Ok(Run { folder: path.to_owned(), name, info, recipe, metrics: Metrics::read(path)?, results })
}

/// The runs in the order of figures: the baseline of another run comes last, with the color that it has on the page of
/// that run.
fn drawn(runs: &[Run]) -> Vec<&Run> {
    let (last, first): (Vec<&Run>, Vec<&Run>) = runs.iter().partition(|run| is_baseline(run, runs));
    [first, last].concat()
}

/// Whether a run is the baseline of one of several.
fn is_baseline<'a>(run: &Run, runs: impl IntoIterator<Item = &'a Run>) -> bool {
    runs.into_iter().any(|other| is_baseline_of(run, other))
}

/// Whether a run is the baseline of another one.
fn is_baseline_of(run: &Run, other: &Run) -> bool {
    baseline::of(&other.folder).as_ref() == Some(&run.folder)
}

/// Most runs beside the first of a chart, which has a color for each.
const MOST_BESIDE: usize = 4;

/// Chart of the accuracies and recalls that all of several runs have, in per cent.
fn glance(runs: &[&Run]) -> Vec<Figure> {
    let Some((first, others)) = runs.split_first().filter(|(_, others)| (1..=MOST_BESIDE).contains(&others.len()))
    else {
        return Vec::new();
    };
    let same = |run: &Run, row: &ResultRow| run.results.iter().find(|other| are_alike(other, row)).map(|row| row.value);
    let references: Vec<_> =
        others.iter().map(|&run| (run.name.as_str(), move |row: &ResultRow| same(run, row))).collect();
    let in_all = |row: &&ResultRow| references.iter().all(|(_, of)| of(row).is_some());
    let rows: Vec<&ResultRow> = first.results.iter().filter(in_all).collect();
    share_chart(&format!("per cent, with 95 % intervals of {}", first.name), &first.name, &rows, &references)
}

fn headings(first: &str, runs: &[Run]) -> Vec<String> {
    std::iter::once(first.to_owned()).chain(runs.iter().map(|run| run.name.clone())).collect()
}

fn about(runs: &[Run]) -> Table {
    let row = |what: &str, of: &dyn Fn(&Run) -> String| {
        std::iter::once(what.to_owned()).chain(runs.iter().map(of)).collect::<Vec<_>>()
    };
    let rows = vec![
        row("about", &|run| run.recipe.about.clone()),
        row("status", &|run| status(&run.folder, &run.info)),
        row("started", &|run| run.info.started.clone().unwrap_or_else(|| "–".into())),
        row("training", &|run| duration(training_time(run))),
        row("peak memory", &|run| peak(run.info.peak_memory)),
        row("device", &|run| run.info.device.clone()),
        row("version", &|run| run.info.version.clone()),
        row("git", &|run| run.info.git.as_ref().map_or_else(|| "–".into(), ToString::to_string)),
        row("data fingerprint", &|run| run.info.data_fingerprint.chars().take(16).collect()),
    ];
    Table { headings: headings("run", runs), rows }
}

fn training_time(run: &Run) -> Duration {
    Duration::from_secs_f64(run.info.seconds + unrecorded_seconds(&run.folder, &run.info))
}

/// Settings that differ between runs.
fn differences(runs: &[Run]) -> Table {
    let from = |run: &Run| run.info.from.as_ref().map(|from| ("from".to_owned(), from.model.clone()));
    let settings = |run: &Run| settings(&run.recipe).into_iter().chain(from(run)).collect();
    let settings: Vec<BTreeMap<String, String>> = runs.iter().map(settings).collect();
    let mut names: Vec<&String> = settings.iter().flat_map(BTreeMap::keys).filter(|name| *name != "about").collect();
    names.sort();
    names.dedup();
    names.retain(|name| settings.iter().any(|one| one.get(*name) != settings[0].get(*name)));
    let value =
        |name: &String| settings.iter().map(|one| one.get(name).cloned().unwrap_or_else(|| "–".into())).collect();
    let row = |name: &String| [vec![name.clone()], value(name)].concat();
    let rows = names.into_iter().map(row).collect();
    Table { headings: headings("setting", runs), rows }
}

/// Every result of every run with its interval.
struct Compared {
    /// The measures by which runs are judged, and absolute equivariance, that all runs have, with the difference of two runs.
    judged: Table,
    /// Further measures that all runs have.
    further: Table,
    /// Measures that some runs lack.
    others: Table,
}

fn results(runs: &[Run]) -> Compared {
    let mut wanted: Vec<&ResultRow> = Vec::new();
    for row in runs.iter().flat_map(|run| &run.results) {
        if !wanted.iter().any(|other| are_alike(other, row)) {
            wanted.push(row);
        }
    }
    let (mut judged, mut further, mut others) = (Vec::new(), Vec::new(), Vec::new());
    let is_first = |row: &ResultRow| {
        let overall = [ABSOLUTE, SHUFFLED].contains(&row.metric.as_str()) && !row.task.ends_with(" alone");
        overall || runs.iter().any(|run| run.results.contains(row) && is_judged(row, &run.results))
    };
    for wanted in wanted {
        let rows = runs.iter().map(|run| run.results.iter().find(|row| are_alike(row, wanted)));
        let rows: Vec<Option<&ResultRow>> = rows.collect();
        let cells = rows.iter().map(|row| row.map_or_else(|| "–".into(), with_interval));
        let quick = if is_quick_search(wanted) { "quick " } else { "" };
        let settings = if wanted.settings.is_empty() { String::new() } else { format!(" ({})", wanted.settings) };
        let name = format!("{quick}{}{settings}", wanted.key().join(" "));
        let mut line: Vec<String> = std::iter::once(name).chain(cells).collect();
        if rows.contains(&None) {
            others.push(line);
            continue;
        }
        if let [Some(first), Some(second)] = rows[..] {
            line.push(second.difference(first));
        }
        let is_judged = rows.iter().flatten().any(|row| is_first(row));
        if is_judged { judged.push(line) } else { further.push(line) }
    }
    let mut columns = headings("result", runs);
    let others = Table { headings: columns.clone(), rows: others };
    if let [first, second] = runs {
        columns.push(format!("{} − {}", second.name, first.name));
    }
    let [judged, further] = [judged, further].map(|rows| Table { headings: columns.clone(), rows });
    Compared { judged, further, others }
}

/// The results of several runs, and the definitions of their measures.
fn compared(runs: &[Run], shared: Table) -> Vec<Figure> {
    // The table has no column of a baseline.
    let row = |row: &ResultRow| ResultRow { baseline: None, ..row.clone() };
    let rows = runs.iter().flat_map(|run| run.results.iter().map(row)).collect();
    let remark = runs.iter().any(|run| is_baseline(run, runs)).then(|| {
        Figure::Text("The predictor of a baseline is untrained: its equivariance and retrieval show no effect.".into())
    });
    [Figure::Table(shared)].into_iter().chain(remark).chain([Figure::Definitions(rows)]).collect()
}

fn with_interval(row: &ResultRow) -> String {
    let interval = row.interval_numbers().map_or_else(String::new, |interval| format!(" ({interval})"));
    row.text(row.value) + &interval
}

/// One plot per metric, with one line per run.
fn plots(runs: &[&Run]) -> Vec<Plot> {
    let mut names: Vec<String> = FIRST.map(str::to_owned).to_vec();
    for name in runs.iter().flat_map(|run| run.metrics.names()) {
        if !names.contains(&name) && name != "step" && name != "epoch" {
            names.push(name);
        }
    }
    let plot = |name: String| {
        let lines = runs.iter().map(|run| run.metrics.series(&run.name, &name)).filter(|line| !line.points.is_empty());
        Plot {
            title: name.replace('_', " ").replace('.', ": "),
            x_label: "step".into(),
            series: lines.collect(),
            ..Plot::default()
        }
    };
    names.into_iter().map(plot).collect()
}
