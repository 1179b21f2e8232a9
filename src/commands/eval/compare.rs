//! `eval compare`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use equimod_data::Splits;
use equimod_data::source::ReadOptions;
use equimod_eval::Evaluation;
use equimod_eval::evaluation::{Classification, ComparedModel, compare, distinct_draws, introduction};
use equimod_eval::knn::KnnConfig;
use equimod_eval::logistic::{LogisticConfig, l2_strengths};
use equimod_eval::results::DIFFERENCE;
use equimod_train::run_dir::RESOLVED;
use equimod_train::{Recipe, decisive, recorded};

use super::contenders::{Comparison, Contender, names};
use super::next::{Kept, after_comparison};
use super::session::open_images;
use super::settings::repeated;
use crate::cli::{Compare, Compared};
use crate::inputs::evaluated_data::{choose_each, open_each};
use crate::outputs::console;
use crate::outputs::console::Console;
use crate::outputs::verdict::{print_rows, print_verdict};
use crate::process::device;
use crate::process::exit::Usage;
use crate::run::differences::between;
use crate::run::lengths::is_longer;

/// Compares pairs of models on the same test images.
pub fn run(arguments: &Compare) -> anyhow::Result<ExitCode> {
    if arguments.models.len() % 2 == 1 {
        let text = format!("{} models are no pairs; give A B, or A1 B1 A2 B2 …", arguments.models.len());
        return Err(Usage(text).into());
    }
    let devices = device::open_all(&arguments.shared.device.device)?;
    let images = &arguments.images;
    let splits = opened(arguments)?;
    let seed = arguments.shared.seed;
    let console = Console::default();
    let mut contenders = Vec::new();
    let mut classifications: Vec<Vec<Classification>> = Vec::new();
    for ((path, name), splits) in arguments.models.iter().zip(names(&arguments.models)).zip(&splits) {
        console::note(&name);
        let contender = Contender::load(path, name, &arguments.shared, &devices)?;
        let evaluation = contender.evaluation(splits, seed, &console).tasks(&images.task);
        classifications.push(classify(&evaluation, arguments)?);
        drop(evaluation);
        contenders.push(contender);
    }
    different(&contenders)?;
    if let Some(pair) = contenders.chunks_exact(2).find(|pair| pair[0].model.sha256 == pair[1].model.sha256) {
        console::note(&format!("{} and {} are the same weights", pair[0].name, pair[1].name));
    }
    if let [first, second] = arguments.models.as_slice()
        && is_longer([first, second])
    {
        // That it is short is what the comparison is about.
        contenders[0].training = None;
    }
    if let Some(settings) = other_settings(&arguments.models) {
        console::note(&format!("the pairs differ in more than their seeds: {settings}"));
    }
    if let [first, second] = arguments.models.as_slice()
        && let Some(settings) = between(first, second)
    {
        console::note(&settings);
    }
    let models = contenders.iter().zip(&classifications);
    let models: Vec<ComparedModel> =
        models.map(|(c, all)| ComparedModel { name: &c.name, classifications: all }).collect();
    let (rows, sections) = compare(&models, &splits[0].name, seed)?;
    let difference = rows.iter().find(|row| row.metric.starts_with(DIFFERENCE)).map(|row| row.model.clone());
    let title = match contenders.as_slice() {
        [one, other] => format!("{} and {}", one.name, other.name),
        _ => difference.unwrap_or_default(),
    };
    let introduced = introduction(&models);
    introduced.iter().for_each(|text| console::note(text));
    let intervals = "Of one pair, the 95 % interval of the difference is a paired bootstrap interval over test images; of \
                   several pairs, it is a Student's t interval over them.";
    let summary = introduced.map_or_else(|| intervals.into(), |text| format!("{text}. {intervals}"));
    let drawn = distinct_draws(&classifications[0]);
    let by: &[&str] = if arguments.by == Compared::Knn { &["--by", "knn"] } else { &[] };
    let others = repeated(images, &arguments.shared.input, seed, true);
    let kept = Kept { data: images.data.clone(), others, is_of_this: true, ..Kept::default() };
    let next = after_comparison(&arguments.models, &kept, by, &rows);
    let comparison = Comparison { title, summary, rows, sections, drawn, next: next.clone() };
    let results = comparison.write(&arguments.shared, &contenders)?;
    if arguments.shared.json {
        console::json(&results)?;
    } else {
        print_rows(&results.rows)?;
        print_verdict(&results.verdict, &next)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The images for each model, decoded as in its training.
fn opened(arguments: &Compare) -> anyhow::Result<Vec<Rc<Splits>>> {
    let Compare { models, images, .. } = arguments;
    let choices = choose_each(models, images.data.as_deref(), images.reading.reading())?;
    let readings: Vec<ReadOptions> = choices.iter().map(|choice| choice.options).collect();
    let is_one = readings.iter().all(|options| *options == readings[0]);
    let names = names(models);
    open_each(&readings, |place| {
        let whose = if is_one { "" } else { &format!("{}: ", names[place]) };
        console::note(&format!("{whose}{}", choices[place].describe()));
        open_images(&choices[place], images, console::note)
    })
}

fn classify(evaluation: &Evaluation, arguments: &Compare) -> anyhow::Result<Vec<Classification>> {
    match arguments.by {
        Compared::Knn => Ok(evaluation.classify(&KnnConfig { k: arguments.k as usize, ..Default::default() })?),
        Compared::Logistic => {
            let l2_strengths = l2_strengths(arguments.l2_strengths as usize);
            Ok(evaluation.classify(&LogisticConfig { l2_strengths, ..Default::default() })?)
        }
    }
}

/// Settings other than the seed that affect weights, and in which the runs of several pairs differ from those of the first.
fn other_settings(models: &[PathBuf]) -> Option<String> {
    let recipes: Vec<Recipe> =
        models.iter().map(|model| recorded(&model.join(RESOLVED)).ok()).collect::<Option<_>>()?;
    let differ = recipes.iter().enumerate().skip(2).flat_map(|(place, recipe)| decisive(&recipes[place % 2], recipe));
    let mut settings: Vec<String> = differ.filter(|setting| setting != "seed").collect();
    settings.sort();
    settings.dedup();
    (!settings.is_empty()).then(|| settings.join(", "))
}

/// Refuses a pair that is given twice, which would count as two seeds.
fn different(contenders: &[Contender]) -> anyhow::Result<()> {
    let pairs: Vec<(&str, &str)> =
        contenders.chunks_exact(2).map(|pair| (pair[0].model.sha256.as_str(), pair[1].model.sha256.as_str())).collect();
    match (0..pairs.len()).find(|&i| pairs[..i].contains(&pairs[i])) {
        Some(i) => {
            let (a, b) = (&contenders[2 * i].name, &contenders[2 * i + 1].name);
            Err(Usage(format!("the pair {a}, {b} is given twice; give another seed's models")).into())
        }
        None => Ok(()),
    }
}
