//! Measures of features and predictions that need no labels.

use equimod_core::Model;
use equimod_core::equivariance::EquivarianceRow;
use equimod_data::Dataset;
use equimod_eval::equivariance::{ModuleEquivariance, measure, measure_each};
use equimod_eval::health::{alignment, deviations, effective_rank, spread, uniformity};
use equimod_eval::metrics::bootstrap_mean;
use equimod_eval::parameter_probe::{ProbeConfig, ProbeData, ProbeKind, collect, policy_of};
use equimod_eval::predictor_retrieval::{PredictorRetrievalConfig, retrieve};
use equimod_eval::ridge::{Targets, probe};
use equimod_eval::view_pairs::view_pairs;
use equimod_eval::{Features, ResultRow};

/// Pictures to measure on, and how many.
#[derive(Clone, Copy)]
pub struct Pictures<'a> {
    /// What they are called in results.
    pub name: &'a str,
    /// The pictures.
    pub dataset: &'a dyn Dataset,
    /// At most so many.
    pub most: usize,
    /// Decides which, and their views.
    pub seed: u64,
}

impl Pictures<'_> {
    fn row(&self, protocol: &str, task: &str, metric: &str, value: f64) -> ResultRow {
        ResultRow {
            protocol: protocol.into(),
            data: self.name.into(),
            task: task.into(),
            metric: metric.into(),
            value,
            ..Default::default()
        }
    }
}

/// The measures of equivariance of each module, and their control.
pub fn equivariance(model: &Model, pictures: &Pictures) -> anyhow::Result<Vec<ResultRow>> {
    let measured = measure(model, pictures.dataset, pictures.most, pictures.seed)?;
    Ok(measured.iter().flat_map(|found| of_module(found, &found.module, pictures)).collect())
}

/// The same by each augmentation alone.
pub fn equivariance_each(model: &Model, pictures: &Pictures) -> anyhow::Result<Vec<ResultRow>> {
    let mut rows = Vec::new();
    for one in measure_each(model, pictures.dataset, pictures.most, pictures.seed)? {
        for found in &one.modules {
            let task = format!("{}, {} alone", found.module, one.augmentation);
            rows.extend(of_module(found, &task, pictures));
        }
    }
    Ok(rows)
}

/// The names of the measures that figures show.
pub const ABSOLUTE: &str = "absolute equivariance";
pub const SHUFFLED: &str = "absolute equivariance, shuffled parameters";

fn of_module(found: &ModuleEquivariance, task: &str, pictures: &Pictures) -> Vec<ResultRow> {
    // The views of a picture are not independent: pictures are resampled, each with all its views.
    let views = (found.rows.len() / found.pictures.max(1)).max(1);
    let mean = |rows: &[EquivarianceRow]| rows.iter().map(|row| row.absolute()).sum::<f64>() / rows.len() as f64;
    let absolute: Vec<f64> = found.rows.chunks(views).map(mean).collect();
    let interval = bootstrap_mean(&absolute, pictures.seed).interval;
    let numbers = [
        (ABSOLUTE, found.measured.absolute, Some(interval)),
        (SHUFFLED, found.shuffled.absolute, None),
        ("relative equivariance", found.measured.relative, None),
        ("relative equivariance, ratio of means", found.measured.ratio_of_means, None),
    ];
    let detail = format!("{} pictures, {} views", found.pictures, found.rows.len());
    let row = |(metric, value, interval): (&str, f64, _)| ResultRow {
        interval,
        detail: detail.clone(),
        ..pictures.row("equivariance", task, metric, value)
    };
    numbers.map(row).to_vec()
}

/// How well each augmentation parameter can be read from the features: R², and accuracy of flags.
pub fn parameters(model: &Model, pictures: &Pictures) -> anyhow::Result<Vec<ResultRow>> {
    let config = ProbeConfig { pictures: pictures.most, seed: pictures.seed, ..Default::default() };
    let mut rows = Vec::new();
    for (kind, name) in [(ProbeKind::Absolute, "absolute"), (ProbeKind::Relative, "relative")] {
        let policy = policy_of(model)?;
        if kind == ProbeKind::Relative && policy.views.len() < 2 {
            continue;
        }
        let parts = collect(model, policy, pictures.dataset, kind, &config)?;
        let targets = [targets(&parts.train)?, targets(&parts.validation)?, targets(&parts.test)?];
        let found = probe(
            (&parts.train.features, &targets[0]),
            (&parts.validation.features, &targets[1]),
            (&parts.test.features, &targets[2]),
        )?;
        let counts = [&parts.train, &parts.validation, &parts.test].map(|part| part.features.rows());
        let detail = format!("{} training pictures, {} for validation, {} held out", counts[0], counts[1], counts[2]);
        let protocol = format!("params, {name}");
        let row = |task: &str, metric: &str, value: f64| ResultRow {
            detail: detail.clone(),
            ..pictures.row(&protocol, task, metric, value)
        };
        for score in &found.targets {
            let chosen = Some(format!("ridge {:.1e} × pictures, the best of 19 on validation", score.ridge));
            rows.push(ResultRow { chosen: chosen.clone(), chance: Some(0.0), ..row(&score.name, R2, score.r2) });
            if let Some(accuracy) = score.accuracy {
                let chance = usual(&parts.test, &score.name);
                rows.push(ResultRow { chosen, chance, ..row(&score.name, "accuracy of the flag", accuracy) });
            }
        }
        rows.push(ResultRow { chance: Some(0.0), ..row("all parameters", "pooled R²", found.pooled) });
    }
    Ok(rows)
}

/// The measure of parameter probes.
pub const R2: &str = "R²";

/// The columns of a part as rows. The order of the jitters is left out: it is a code, and no more or less than another.
fn targets(data: &ProbeData) -> anyhow::Result<Targets> {
    let rows = data.features.rows();
    let numbers = || data.names.iter().zip(&data.targets).filter(|(name, _)| !name.contains("jitter_order"));
    let values = (0..rows).flat_map(|row| numbers().map(move |(_, column)| column[row])).collect();
    Ok(Targets::new(numbers().map(|(name, _)| name.clone()).collect(), values)?)
}

/// The share of the more frequent value of a flag: what guessing it would give.
fn usual(data: &ProbeData, name: &str) -> Option<f64> {
    let column = &data.targets[data.names.iter().position(|known| known == name)?];
    let on = column.iter().filter(|value| **value > 0.5).count() as f64 / column.len().max(1) as f64;
    Some(on.max(1.0 - on))
}

/// Ranks down to which a view counts as found.
const RANKS: [usize; 4] = [1, 2, 5, 10];

/// How well predictions find their view among the views of a picture.
pub fn predictor_retrieval(model: &Model, pictures: &Pictures, views: usize) -> anyhow::Result<Vec<ResultRow>> {
    let config = PredictorRetrievalConfig { pictures: pictures.most, views, seed: pictures.seed };
    let mut rows = Vec::new();
    for found in retrieve(model, pictures.dataset, &config)? {
        let detail = format!("each of {views} views among them, {} queries", found.ranks.len());
        // The views of a picture are not independent: pictures are resampled, each with all its views.
        let row = |metric: &str, values: &[f64], chance: f64| {
            let row = pictures.row("retrieval by the predictor", &found.module, metric, 0.0);
            let means: Vec<f64> = values.chunks(views).map(|of| of.iter().sum::<f64>() / of.len() as f64).collect();
            let chance = Some(chance);
            ResultRow { chance, detail: detail.clone(), ..row.with(bootstrap_mean(&means, pictures.seed)) }
        };
        rows.push(row("MRR", &found.reciprocal_ranks(), found.chance_of_mean_reciprocal_rank()));
        for k in RANKS {
            rows.push(row(&format!("H@{k}"), &found.hits(k), found.chance_of_hit(k)));
        }
    }
    Ok(rows)
}

/// Spread, rank, alignment and uniformity of `features`, and the deviation of each, falling.
pub fn health(model: &Model, features: &Features, pictures: &Pictures) -> anyhow::Result<(Vec<ResultRow>, Vec<f64>)> {
    let mut each = deviations(features);
    each.sort_by(|a, b| b.total_cmp(a));
    let views = view_pairs(model, &policy_of(model)?, pictures.dataset, pictures.most, pictures.seed)?;
    let (rows, columns) = (features.rows(), features.columns());
    let clean = format!("{rows} pictures, {columns} features");
    let two = format!("two views of {} pictures", views[0].rows());
    let row = |metric: &str, value: f64, detail: &str| ResultRow {
        detail: detail.into(),
        ..pictures.row("health", "features", metric, value)
    };
    let mean = each.iter().sum::<f64>() / each.len().max(1) as f64;
    let found = vec![
        row("standard deviation, mean over dimensions", mean, &clean),
        row("standard deviation of unit features × √D (1: even, 0: collapsed)", spread(features), &clean),
        row("effective rank (RankMe)", effective_rank(features), &clean),
        row("alignment (0: views agree)", alignment(&views[0], &views[1])?, &two),
        row("uniformity (lower: more even)", uniformity(features)?, &clean),
    ];
    Ok((found, each))
}
