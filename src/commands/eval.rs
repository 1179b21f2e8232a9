//! `equimod eval`.

use std::path::PathBuf;
use std::process::ExitCode;

use equimod_core::Model;
use equimod_core::checkpoint::write_atomic;
use equimod_eval::ResultRow;
use equimod_eval::knn::KnnConfig;
use equimod_eval::logistic::{LogisticConfig, penalties};
use equimod_eval::results::{markdown, plain};

use crate::cli::{Eval, Protocol};
use crate::evaluation::{Evaluation, beside, equivariance};
use crate::sources::{Splits, splits};
use crate::{device, output};

/// Evaluates a model by one protocol.
pub fn run(arguments: &Eval) -> anyhow::Result<ExitCode> {
    let device = device::open(&arguments.device.device)?;
    let model = Model::load(&arguments.model, &device)?;
    model.skipped.iter().for_each(|reason| output::note(&format!("passed over: {reason}")));
    let splits = splits(&arguments.data, arguments.test.as_deref(), arguments.reading.reading())?;
    let mut rows = rows(arguments, &model, &splits)?;
    if arguments.untrained {
        let untrained = self::rows(arguments, &model.untrained(&device)?, &splits)?;
        rows = beside(rows, &untrained);
    }
    if arguments.model.is_dir() && arguments.model.join("run.json").is_file() {
        keep(arguments, &rows)?;
    }
    if arguments.json {
        output::json(&rows)?;
    } else {
        output::result(&plain(&rows, true))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn rows(arguments: &Eval, model: &Model, splits: &Splits) -> anyhow::Result<Vec<ResultRow>> {
    if arguments.protocol == Protocol::Equivariance {
        let dataset = splits.test.as_ref().unwrap_or(&splits.train);
        return equivariance(model, &splits.name, dataset.as_ref(), arguments.pictures as usize, arguments.seed);
    }
    let cache = cache(arguments);
    let evaluation = Evaluation::new(model, splits, &arguments.task, arguments.seed, cache.as_deref())?;
    match arguments.protocol {
        Protocol::Knn => evaluation.knn(&KnnConfig { k: arguments.k as usize, temperature: arguments.temperature }),
        _ => evaluation
            .logistic(&LogisticConfig { penalties: penalties(arguments.penalties as usize), ..Default::default() }),
    }
}

fn cache(arguments: &Eval) -> Option<PathBuf> {
    let run = arguments.model.join("run.json").is_file().then(|| arguments.model.join("eval/features"));
    arguments.cache.clone().or(run)
}

/// Writes the rows into the run directory.
fn keep(arguments: &Eval, rows: &[ResultRow]) -> anyhow::Result<()> {
    let protocol = format!("{:?}", arguments.protocol).to_lowercase();
    let data: String = arguments.data.chars().map(|c| if c.is_alphanumeric() { c } else { '-' }).collect();
    let folder = arguments.model.join("eval").join(format!("{protocol}-{}", data.trim_matches('-')));
    std::fs::create_dir_all(&folder)?;
    write_atomic(&folder.join("results.json"), &serde_json::to_vec_pretty(rows)?)?;
    write_atomic(&folder.join("results.md"), markdown(rows).as_bytes())?;
    Ok(())
}
