//! `eval compare`.

use std::process::ExitCode;

use equimod_eval::ResultRow;
use equimod_eval::compare::{Paired, paired};
use equimod_eval::knn::KnnConfig;
use equimod_eval::logistic::{LogisticConfig, penalties};
use equimod_eval::report::{Bar, Bars, Figure, Section};
use equimod_eval::results::plain;

use super::models::{Comparison, Contender, names};
use crate::cli::{Compare, Compared};
use crate::evaluation::{Evaluation, Outcome};
use crate::exit::Usage;
use crate::record::drawn;
use crate::sources::Elsewhere;
use crate::{device, output};

/// Compares pairs of models on the same test pictures.
pub fn run(arguments: &Compare) -> anyhow::Result<ExitCode> {
    if arguments.models.len() % 2 == 1 {
        let text = format!("{} models are no pairs; give A B, or A1 B1 A2 B2 …", arguments.models.len());
        return Err(Usage(text).into());
    }
    let device = device::open(&arguments.shared.device.device)?;
    let pictures = &arguments.pictures;
    let elsewhere = Elsewhere { validation: pictures.validation.as_deref(), test: pictures.test.as_deref() };
    let splits = elsewhere.splits(&pictures.data, pictures.reading.reading())?.with_labels(&pictures.task)?;
    let mut contenders = Vec::new();
    let mut outcomes: Vec<Vec<Outcome>> = Vec::new();
    for (path, name) in arguments.models.iter().zip(names(&arguments.models)) {
        let contender = Contender::load(path, name, &arguments.shared, &device)?;
        let settings = contender.settings(&pictures.task, arguments.shared.seed);
        let evaluation = Evaluation::new(&contender.model, &splits, settings)?;
        outcomes.push(classify(&evaluation, arguments)?);
        contenders.push(contender);
    }
    different(&contenders)?;
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    for task in 0..outcomes[0].len() {
        let right = |model: usize| outcomes[model][task].predictions.hits(1);
        let runs: Vec<_> = (0..outcomes.len()).step_by(2).map(|a| (right(a), right(a + 1))).collect();
        let found = paired(&runs, arguments.shared.seed)?;
        let outcome = &outcomes[0][task];
        bars.push(Bar {
            label: outcome.task.name.clone(),
            value: found.difference.value,
            interval: Some(found.over_runs.unwrap_or(found.difference.interval)),
            beside: None,
        });
        rows.extend(told(&found, outcome, &splits.name, &contenders));
    }
    let title = format!("{} and {}", contenders[0].name, contenders[1].name);
    let figure = Figure::Bars(Bars {
        title: "B − A in top-1 accuracy, with its 95 % interval".into(),
        name: "difference".into(),
        beside: None,
        bars,
    });
    let sections = vec![Section::new("Differences", vec![figure])];
    let summary = "Of one pair, the 95 % interval of the difference is a paired bootstrap interval over test pictures; of several \
                   pairs, it is Student's over them.";
    let drawn = drawn(&outcomes[0]);
    let results = Comparison { title, summary, rows, sections, drawn }.keep(&arguments.shared, &contenders)?;
    if arguments.shared.json {
        output::json(&results)?;
    } else {
        output::result(&plain(&results.rows, true))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn classify(evaluation: &Evaluation, arguments: &Compare) -> anyhow::Result<Vec<Outcome>> {
    match arguments.by {
        Compared::Knn => evaluation.knn(&KnnConfig::default()),
        Compared::Logistic => {
            let penalties = penalties(arguments.penalties as usize);
            evaluation.logistic(&LogisticConfig { penalties, ..Default::default() })
        }
    }
}

/// Refuses a pair that is given twice: it would count as two seeds.
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

/// A, B, and their difference on one task.
fn told(found: &Paired, outcome: &Outcome, data: &str, contenders: &[Contender]) -> Vec<ResultRow> {
    let runs = contenders.len() / 2;
    let row = |model: String, metric: &str, value: f64| ResultRow {
        model,
        protocol: outcome.protocol.clone(),
        data: data.into(),
        task: outcome.task.name.clone(),
        metric: metric.into(),
        value,
        detail: outcome.task.tested_on(),
        ..Default::default()
    };
    let named = |first: usize, letter: &str| match runs {
        1 => contenders[first].name.clone(),
        _ => format!("{letter}: {} and {} more", contenders[first].name, runs - 1),
    };
    let counts = format!("only A right {}, only B right {}", found.only_a, found.only_b);
    let detail = match (found.p_value, found.over_runs) {
        (Some(p), _) => {
            let p = if p < 1e-3 { "p < 0.001".into() } else { format!("p = {p:.3}") };
            format!("paired over pictures; {counts}; McNemar's exact test {p}")
        }
        (None, Some(_)) => {
            let each: Vec<String> = found.each.iter().map(|d| format!("{:+.1}", 100.0 * d)).collect();
            let (low, high) = found.difference.interval;
            format!(
                "over {runs} pairs (Student's t), each {} points; {counts}; for these runs alone, paired over pictures, {:.1} – {:.1}",
                each.join(", "),
                100.0 * low,
                100.0 * high
            )
        }
        _ => counts,
    };
    let difference = row("B − A".into(), "difference of top-1 accuracy", 0.0).with(found.difference);
    vec![
        row(named(0, "A"), "top-1 accuracy", found.a),
        row(named(1, "B"), "top-1 accuracy", found.b),
        ResultRow { detail, interval: found.over_runs.or(difference.interval), ..difference },
    ]
}
