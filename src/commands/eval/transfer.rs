//! `eval transfer`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context;
use equimod_eval::ResultRow;
use equimod_eval::knn::KnnConfig;
use equimod_eval::logistic::{LogisticConfig, penalties};
use equimod_eval::report::{Figure, Section, Table};
use equimod_eval::results::{aligned, markdown_table};
use equimod_eval::suite::{Suite, SuiteMetric, SuiteProtocol, SuiteTask, ranks};

use super::models::{Comparison, Contender, names};
use crate::bundled::SUITES;
use crate::cli::Transfer;
use crate::evaluation::{Evaluation, MEAN_PER_CLASS, Rows, TOP_1};
use crate::exit::Usage;
use crate::record::{Drawn, drawn};
use crate::sources::{Elsewhere, Reading, Splits};
use crate::{device, output};

/// Evaluates models on every task of a suite.
pub fn run(arguments: &Transfer) -> anyhow::Result<ExitCode> {
    let suite = suite(arguments)?;
    let tasks = opened(&suite, arguments)?;
    let device = device::open(&arguments.shared.device.device)?;
    let mut contenders = Vec::new();
    for (path, name) in arguments.models.iter().zip(names(&arguments.models)) {
        contenders.push(Contender::load(path, name, &arguments.shared, &device)?);
    }
    if arguments.untrained {
        contenders.push(contenders[0].untrained(&arguments.shared, &device)?);
    }
    let (mut rows, mut splits) = (Vec::new(), Vec::new());
    for (number, contender) in contenders.iter().enumerate() {
        for (task, pictures) in &tasks {
            output::note(&format!("{}: {}", contender.name, task.name));
            let (row, drawn) = one(contender, task, pictures, arguments)?;
            rows.push(row);
            splits.extend(if number == 0 { drawn } else { Vec::new() });
        }
    }
    let table = table(&contenders, &tasks, &rows);
    let lead = Section::new("Models beside each other", vec![Figure::Table(table.clone())]);
    let means = means(&contenders, &tasks, &rows);
    rows.extend(means);
    let comparison = Comparison {
        title: format!("transfer, suite {}", arguments.suite),
        summary: "Per cent; * marks the best of a column, whether or not its lead is more than chance. Intervals are 95 % bootstrap \
                  intervals over test pictures.",
        rows,
        sections: vec![lead],
        drawn: splits,
    };
    let results = comparison.keep(&arguments.shared, &contenders)?;
    if let Some(folder) = &arguments.shared.out {
        let markdown = markdown_table(&table.headings, &table.rows);
        equimod_core::checkpoint::write_atomic(&folder.join("table.md"), markdown.as_bytes())?;
    }
    if arguments.shared.json {
        output::json(&results)?;
    } else {
        output::result(&aligned(&table.headings, &table.rows))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The suite that was asked for, with its tasks and sources as they were asked for.
fn suite(arguments: &Transfer) -> anyhow::Result<Suite> {
    let name = &arguments.suite;
    let built_in = SUITES.iter().find(|(known, _)| known == name);
    let text = match built_in {
        Some((_, text)) => (*text).to_owned(),
        None if Path::new(name).is_file() => {
            std::fs::read_to_string(name).with_context(|| format!("cannot read {name}"))?
        }
        None => {
            let known: Vec<&str> = SUITES.iter().map(|(name, _)| *name).collect();
            let text = format!("there is no suite {name:?}; give a TOML file, or one of {}", known.join(", "));
            return Err(Usage(text).into());
        }
    };
    let mut suite = Suite::parse(name, &text)?;
    if let (None, Some(folder)) = (built_in, Path::new(name).parent()) {
        // Sources that lie beside the file are meant.
        for source in suite.tasks.iter_mut().flat_map(SuiteTask::sources) {
            let beside = folder.join(&*source);
            if beside.exists() {
                *source = beside.display().to_string();
            }
        }
    }
    let wanted = arguments.data.iter().map(|change| change.split_once('=').map_or(change.as_str(), |(task, _)| task));
    for task in wanted.chain(arguments.only.iter().map(String::as_str)) {
        if !suite.tasks.iter().any(|known| known.name == task) {
            let known: Vec<&str> = suite.tasks.iter().map(|task| task.name.as_str()).collect();
            return Err(Usage(format!("the suite {name} has no task {task:?}; it has {}", known.join(", "))).into());
        }
    }
    for change in &arguments.data {
        let Some((name, source)) = change.split_once('=') else {
            return Err(Usage(format!("--data {change} names no pictures; write --data TASK=DATA")).into());
        };
        suite.tasks.iter_mut().filter(|task| task.name == name).for_each(|task| task.data = source.to_owned());
    }
    if !arguments.only.is_empty() {
        suite.tasks.retain(|task| arguments.only.contains(&task.name));
    }
    Ok(suite)
}

/// Every task with its pictures: what cannot be had is told before anything is computed.
fn opened<'a>(suite: &'a Suite, arguments: &Transfer) -> anyhow::Result<Vec<(&'a SuiteTask, Splits)>> {
    let (mut tasks, mut missing) = (Vec::new(), Vec::new());
    for task in &suite.tasks {
        let elsewhere = Elsewhere { validation: task.validation.as_deref(), test: task.test.as_deref() };
        let found = elsewhere.splits(&task.data, Reading::default()).and_then(|splits| {
            let splits = splits.with_labels(task.labels.as_slice())?;
            check(task, &splits)?;
            Ok(splits)
        });
        match found {
            Ok(splits) => tasks.push((task, splits)),
            Err(error) => missing.push(format!("{}: {error}", task.name)),
        }
    }
    let told: String = missing.iter().map(|task| format!("\n  {task}")).collect();
    if !missing.is_empty() && (tasks.is_empty() || !arguments.skip_missing) {
        let hint = "name other pictures by --data TASK=DATA, or leave such tasks out by --skip-missing";
        let text = format!("{} tasks of the suite {} have no pictures; {hint}:{told}", missing.len(), arguments.suite);
        return Err(equimod_eval::Error::Protocol(text).into());
    }
    if !missing.is_empty() {
        output::note(&format!("left out:{told}"));
    }
    Ok(tasks)
}

/// Refuses labels that the pictures do not have.
fn check(task: &SuiteTask, splits: &Splits) -> anyhow::Result<()> {
    match (task.protocol, &splits.designs) {
        (SuiteProtocol::CrossDesign, None) => {
            anyhow::bail!("its pictures are not in two designs, as cross-design needs")
        }
        (SuiteProtocol::CrossDesign, Some(_)) => Ok(()),
        _ => {
            let number = splits.train.task(&labels(task, splits)?)?;
            let mut found = (0..splits.train.len()).filter_map(|picture| splits.train.label(number, picture));
            let first = found.next();
            anyhow::ensure!(found.any(|label| Some(label) != first), "its training pictures are not of two classes");
            Ok(())
        }
    }
}

/// The labels of a task.
fn labels(task: &SuiteTask, splits: &Splits) -> anyhow::Result<String> {
    let tasks = splits.train.tasks();
    match (&task.labels, tasks.first()) {
        (None, Some(first)) => Ok(first.name.clone()),
        (None, None) => anyhow::bail!("its pictures have no labels"),
        (Some(labels), _) => {
            let known = tasks.iter().find(|known| known.name.replace('_', "-") == labels.replace('_', "-"));
            match known {
                Some(known) => Ok(known.name.clone()),
                None => Ok(tasks[splits.train.task(labels)?].name.clone()),
            }
        }
    }
}

/// The number that counts for one model on one task.
fn one(
    contender: &Contender,
    task: &SuiteTask,
    splits: &Splits,
    arguments: &Transfer,
) -> anyhow::Result<(ResultRow, Vec<Drawn>)> {
    let seed = arguments.shared.seed;
    let named = |row: ResultRow| ResultRow { model: contender.name.clone(), task: task.name.clone(), ..row };
    if task.protocol == SuiteProtocol::CrossDesign {
        let evaluation = Evaluation::new(&contender.model, splits, contender.settings(&[], seed))?;
        let wanted = task.labels.as_deref().unwrap_or("cross-design");
        let rows = evaluation.cross_design()?;
        let row = rows.into_iter().find(|row| row.task == wanted && row.metric == "recall@1");
        return row
            .map(|row| (named(row), Vec::new()))
            .with_context(|| format!("the task {} asks for labels {wanted:?}; give flags or cross-design", task.name));
    }
    let tasks = [labels(task, splits)?];
    let evaluation = Evaluation::new(&contender.model, splits, contender.settings(&tasks, seed))?;
    let outcomes = match task.protocol {
        SuiteProtocol::Knn => evaluation.knn(&KnnConfig::default())?,
        _ => {
            let penalties = penalties(arguments.penalties as usize);
            let select_by_class = task.metric == SuiteMetric::MeanPerClass;
            evaluation.logistic(&LogisticConfig { penalties, select_by_class, ..Default::default() })?
        }
    };
    let metric = match task.metric {
        SuiteMetric::Top1 => TOP_1,
        SuiteMetric::MeanPerClass => MEAN_PER_CLASS,
    };
    let rows = outcomes.iter().flat_map(|outcome| outcome.rows(&splits.name, seed, Rows::All));
    let row = rows.into_iter().find(|row| row.metric == metric);
    let drawn = drawn(&outcomes);
    row.map(|row| (named(row), drawn)).with_context(|| format!("the task {} has no number {metric}", task.name))
}

/// The values of each model, in the order of the tasks: rows come model by model.
fn values(contenders: &[Contender], rows: &[ResultRow]) -> Vec<Vec<f64>> {
    let each = rows.len() / contenders.len().max(1);
    rows.chunks(each.max(1)).map(|rows| rows.iter().map(|row| row.value).collect()).collect()
}

/// The mean rank of each model over the tasks.
fn mean_ranks(contenders: &[Contender], rows: &[ResultRow]) -> Vec<f64> {
    let all = values(contenders, rows);
    let tasks = all.first().map_or(0, Vec::len);
    let ranked: Vec<Vec<Option<f64>>> =
        (0..tasks).map(|task| ranks(&all.iter().map(|values| values.get(task).copied()).collect::<Vec<_>>())).collect();
    let mean = |model: usize| ranked.iter().filter_map(|ranks| ranks[model]).sum::<f64>() / tasks.max(1) as f64;
    (0..contenders.len()).map(mean).collect()
}

/// Mean over tasks, and mean rank, of each model.
fn means(contenders: &[Contender], tasks: &[(&SuiteTask, Splits)], rows: &[ResultRow]) -> Vec<ResultRow> {
    let ranks = mean_ranks(contenders, rows);
    let row = |contender: &Contender, metric: &str, value: f64| ResultRow {
        model: contender.name.clone(),
        protocol: "transfer".into(),
        task: format!("{} tasks", tasks.len()),
        metric: metric.into(),
        value,
        ..Default::default()
    };
    let both = |((contender, values), rank): ((&Contender, Vec<f64>), f64)| {
        let mean = values.iter().sum::<f64>() / values.len().max(1) as f64;
        [row(contender, "mean over tasks", mean), row(contender, "mean rank", rank)]
    };
    contenders.iter().zip(values(contenders, rows)).zip(ranks).flat_map(both).collect()
}

/// A row a model, a column a task, then mean and rank; the best of each column is marked.
fn table(contenders: &[Contender], tasks: &[(&SuiteTask, Splits)], rows: &[ResultRow]) -> Table {
    let mut headings = vec!["model".to_owned()];
    headings.extend(tasks.iter().map(|(task, _)| task.name.clone()));
    headings.extend(["mean".to_owned(), "mean rank".to_owned()]);
    let all = values(contenders, rows);
    let best = |task: usize| all.iter().map(|values| values[task]).fold(f64::NEG_INFINITY, f64::max);
    let many = contenders.len() > 1;
    let line = |((contender, values), rank): ((&Contender, &Vec<f64>), f64)| {
        let cell = |(task, value): (usize, &f64)| {
            let mark = if many && *value == best(task) { "*" } else { "" };
            format!("{:.1}{mark}", 100.0 * value)
        };
        let mut cells = vec![contender.name.clone()];
        cells.extend(values.iter().enumerate().map(cell));
        cells.push(format!("{:.1}", 100.0 * values.iter().sum::<f64>() / values.len().max(1) as f64));
        cells.push(format!("{rank:.2}"));
        cells
    };
    let rows = contenders.iter().zip(&all).zip(mean_ranks(contenders, rows)).map(line).collect();
    Table { headings, rows }
}
