//! `eval compare`.

use std::process::ExitCode;

use equimod_eval::ResultRow;
use equimod_eval::compare::{Paired, paired};
use equimod_eval::knn::KnnConfig;
use equimod_eval::logistic::{LogisticConfig, penalties};
use equimod_eval::report::{Bar, Bars, Figure, Section};
use equimod_eval::results::plain;

use super::models::{Contender, keep, names};
use crate::cli::{Compare, Compared};
use crate::evaluation::{Evaluation, Outcome};
use crate::exit::Usage;
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
    let splits = elsewhere.splits(&pictures.data, pictures.reading.reading())?;
    let mut contenders = Vec::new();
    let mut outcomes: Vec<Vec<Outcome>> = Vec::new();
    for (path, name) in arguments.models.iter().zip(names(&arguments.models)) {
        let contender = Contender::load(path, name, &arguments.shared, &device)?;
        let settings = contender.settings(&pictures.task, arguments.shared.seed);
        let evaluation = Evaluation::new(&contender.model, &splits, settings)?;
        outcomes.push(classify(&evaluation, arguments)?);
        contenders.push(contender);
    }
    let (mut rows, mut bars) = (Vec::new(), Vec::new());
    for task in 0..outcomes[0].len() {
        let right = |model: usize| outcomes[model][task].predictions.hits(1);
        let runs: Vec<_> = (0..outcomes.len()).step_by(2).map(|a| (right(a), right(a + 1))).collect();
        let found = paired(&runs, arguments.shared.seed)?;
        let outcome = &outcomes[0][task];
        bars.push(Bar {
            label: outcome.task.name.clone(),
            value: found.difference.value,
            interval: Some(found.difference.interval),
            beside: None,
        });
        rows.extend(told(&found, outcome, &splits.name, &contenders));
    }
    let title = format!("{} and {}", contenders[0].name, contenders[1].name);
    let figure = Figure::Bars(Bars {
        title: "B − A in top-1 accuracy, with the paired 95 % interval".into(),
        name: "difference".into(),
        beside: None,
        bars,
    });
    let sections = vec![Section::new("Differences", vec![figure])];
    let results = keep(&arguments.shared, title, &contenders, rows, sections)?;
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
        (Some(p), _) => format!("paired over pictures; {counts}; McNemar's exact test p = {p:.3}"),
        (None, Some((low, high))) => {
            let each: Vec<String> = found.each.iter().map(|d| format!("{:+.1}", 100.0 * d)).collect();
            format!(
                "paired over pictures; {counts}; each pair {} %; over {runs} pairs (Student's t) {:.1} % – {:.1} %",
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
        ResultRow { detail, ..difference },
    ]
}
