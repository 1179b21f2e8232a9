//! `eval transfer`.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use crate::bundled::SUITES;
use anyhow::Context;
use equimod_data::Splits;
use equimod_data::source::ReadOptions;
use equimod_eval::ResultRow;
use equimod_eval::evaluation::SuiteTable;
use equimod_eval::report::Section;
use equimod_eval::results::{SUITE_MEAN, aligned, markdown_table};
use equimod_eval::suite::{Suite, SuiteTask};

use super::contenders::{Comparison, Contender, names};
use super::next::after_transfer;
use super::settings;
use crate::cli::{CropKind, SharedArgs, Transfer};
use crate::inputs::channels::ignored_transparency;
use crate::inputs::evaluated_data::{behind, open_each, readings};
use crate::inputs::sources::OtherSources;
use crate::outputs::console;
use crate::outputs::console::Console;
use crate::outputs::verdict::print_verdict;
use crate::process::device;
use crate::process::exit::Usage;
use crate::reference::{PREFIX, Reference, plain_name};

/// Evaluates models on every task of a suite.
pub fn run(arguments: &Transfer) -> anyhow::Result<ExitCode> {
    let suite = suite(arguments)?;
    let readings = readings(&arguments.models, arguments.reading.reading())?;
    // Missing data is named once.
    let opened = open_each(&readings, |place| tasks(&suite, readings[place], arguments, place == 0))?;
    let named: Vec<String> =
        opened[0].iter().map(|(task, splits)| format!("{} of {}", task.name, splits.name)).collect();
    console::note(&format!("suite {}: {}", arguments.suite, named.join(", ")));
    let devices = device::open_all(&arguments.shared.device.device)?;
    let mut contenders = Vec::new();
    for (path, name) in arguments.models.iter().zip(names(&arguments.models)) {
        contenders.push(Contender::load(path, name, &arguments.shared, &devices)?);
    }
    if arguments.untrained {
        contenders.push(contenders[0].untrained(&arguments.shared)?);
    }
    let (console, strengths) = (Console::default(), arguments.l2_strengths as usize);
    let (mut rows, mut drawn) = (Vec::new(), Vec::new());
    for (number, contender) in contenders.iter().enumerate() {
        // The untrained network sees what the first model sees.
        let place = if number < arguments.models.len() { number } else { 0 };
        let behind = behind(readings[place]);
        for (task, splits) in opened[place].iter() {
            console::note(&format!("{}: {} of {}{behind}", contender.name, task.name, splits.name));
            let evaluation = contender.evaluation(splits, arguments.shared.seed, &console);
            let (row, draws) = evaluation.suite_task(task, strengths)?;
            let settings = settings_of(task, &arguments.models[place], arguments).join(", ");
            rows.push(ResultRow { model: contender.name.clone(), settings, ..row });
            drawn.extend(if number == 0 { draws } else { Vec::new() });
        }
    }
    let models = contenders.iter().map(|contender| contender.name.clone()).collect();
    let suite_table = SuiteTable::new(models, opened[0].iter().map(|(task, _)| task.name.clone()).collect(), &rows);
    let table = suite_table.table();
    let measures = measures(&rows);
    rows.extend(suite_table.mean_rows());
    // The models come in the order of the arguments, before the untrained network.
    let means: Vec<f64> = rows.iter().filter(|row| row.metric == SUITE_MEAN).map(|row| row.value).collect();
    let next = after_transfer(arguments, &means, opened[0][0].0);
    let comparison = Comparison {
        title: format!("transfer, suite {}", arguments.suite),
        summary: "Per cent; * marks the best of a column, whether or not its lead is more than chance. Intervals are \
                  95 % bootstrap intervals over test images."
            .into(),
        rows,
        sections: vec![Section::table("Models side by side", table.clone())],
        drawn,
        next: next.clone(),
    };
    let results = comparison.write(&arguments.shared, &contenders)?;
    if let Some(folder) = &arguments.shared.out {
        let markdown = markdown_table(&table.headings, &table.rows);
        equimod_core::checkpoint::write_atomic(&folder.join("table.md"), markdown.as_bytes())?;
    }
    if arguments.shared.json {
        console::json(&results)?;
    } else {
        console::result(&aligned(&table.headings, &table.rows))?;
        console::sentences(&measures)?;
        print_verdict(&results.verdict, &next)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// What the numbers of a table are: each measure, and the tasks that have it if there are several.
fn measures(rows: &[ResultRow]) -> String {
    let mut found: Vec<(String, Vec<&str>)> = Vec::new();
    for row in rows {
        let measure = format!("{} ({})", row.metric, row.protocol);
        match found.iter_mut().find(|(known, _)| *known == measure) {
            Some((_, tasks)) if tasks.contains(&row.task.as_str()) => {}
            Some((_, tasks)) => tasks.push(&row.task),
            None => found.push((measure, vec![&row.task])),
        }
    }
    let all = match found.as_slice() {
        [(measure, _)] => measure.clone(),
        several => {
            several.iter().map(|(name, tasks)| format!("{name} on {}", tasks.join(", "))).collect::<Vec<_>>().join("; ")
        }
    };
    format!("Per cent: {all}. * marks the best of a column, whether or not its lead is more than chance.")
}

/// The suite of the arguments, with the tasks that they select and the sources that they replace.
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
        // Relative sources are relative to the folder of the suite's file.
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
            let own = if arguments.only.iter().any(|only| only == task) {
                ""
            } else {
                "; --data takes TASK=DATA, and other tasks are written in a file for --suite"
            };
            return Err(
                Usage(format!("the suite {name} has no task {task:?}; it has {}{own}", known.join(", "))).into()
            );
        }
    }
    for change in &arguments.data {
        let Some((name, source)) = change.split_once('=') else {
            return Err(Usage(format!("--data {change} names no data; write --data TASK=DATA")).into());
        };
        suite.tasks.iter_mut().filter(|task| task.name == name).for_each(|task| task.data = source.to_owned());
    }
    if !arguments.only.is_empty() {
        suite.tasks.retain(|task| arguments.only.contains(&task.name));
    }
    Ok(suite)
}

/// Settings of a task other than the defaults. Test and validation images of another repository or folder than the data set
/// are not its own.
fn settings_of<'a>(task: &'a SuiteTask, model: &Path, arguments: &Transfer) -> Vec<String> {
    let SharedArgs { input, seed, .. } = &arguments.shared;
    let repository = |source: &str| Reference::parse(source).ok().map(|reference| reference.id());
    let is_own = |source: &str| match task.data.starts_with(PREFIX) {
        true => repository(source) == repository(&task.data),
        false => Path::new(plain_name(source)).starts_with(plain_name(&task.data)),
    };
    // Of a path, the last part names it.
    let last = |source: &'a str| match source.starts_with(PREFIX) {
        true => source,
        false => Path::new(source).file_name().and_then(OsStr::to_str).unwrap_or(source),
    };
    let other = |source: &'a Option<String>| source.as_deref().filter(|source| !is_own(source)).map(last);
    let of_images = settings::of_images(model, input, CropKind::Center, &arguments.reading, *seed);
    of_images.into_iter().chain(settings::of_sources(other(&task.test), other(&task.validation))).collect()
}

/// Tasks of a suite with their images.
type Tasks<'a> = Vec<(&'a SuiteTask, Splits)>;

/// Every task with its splits; missing data is reported before anything is computed, and noted if it is
/// left out and this `is_first`.
fn tasks<'a>(
    suite: &'a Suite,
    options: ReadOptions,
    arguments: &Transfer,
    is_first: bool,
) -> anyhow::Result<Tasks<'a>> {
    let (mut tasks, mut missing) = (Vec::new(), Vec::new());
    for task in &suite.tasks {
        let others = OtherSources { validation: task.validation.as_deref(), test: task.test.as_deref() };
        let opened = others.splits(&task.data, options).and_then(|splits| {
            let splits = splits.with_labels(task.labels.as_slice())?;
            task.check(&splits)?;
            Ok(splits)
        });
        match opened {
            Ok(splits) => {
                let give = "; --background white puts them on white";
                let ignored = ignored_transparency(splits.train.as_ref(), options.background, give);
                ignored.iter().for_each(|text| console::note(&format!("{}: {text}", task.name)));
                tasks.push((task, splits));
            }
            Err(error) => missing.push(format!("{}: {error}", task.name)),
        }
    }
    let list: String = missing.iter().map(|task| format!("\n  {task}")).collect();
    if !missing.is_empty() && (tasks.is_empty() || !arguments.skip_missing) {
        let hint = "give other data with --data TASK=DATA, or leave such tasks out with --skip-missing";
        let text = format!("{} tasks of the suite {} have no data; {hint}:{list}", missing.len(), arguments.suite);
        return Err(equimod_eval::Error::Protocol(text).into());
    }
    if is_first && !missing.is_empty() {
        console::note(&format!("left out:{list}"));
    }
    Ok(tasks)
}
