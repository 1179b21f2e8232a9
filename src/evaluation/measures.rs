//! Measures of features and predictions that need no classifier.

use equimod_core::Model;
use equimod_data::Dataset;
use equimod_eval::ResultRow;
use equimod_eval::equivariance::measure;
use equimod_eval::metrics::bootstrap_mean;

/// The measures of equivariance of each module on `dataset`, and their control.
pub fn equivariance(
    model: &Model,
    name: &str,
    dataset: &dyn Dataset,
    pictures: usize,
    seed: u64,
) -> anyhow::Result<Vec<ResultRow>> {
    let mut rows = Vec::new();
    for found in measure(model, dataset, pictures, seed)? {
        let absolute: Vec<f64> = found.rows.iter().map(|row| row.absolute()).collect();
        let interval = bootstrap_mean(&absolute, seed).interval;
        let numbers = [
            ("absolute equivariance", found.measured.absolute, Some(interval)),
            ("absolute equivariance, shuffled parameters", found.shuffled.absolute, None),
            ("relative equivariance", found.measured.relative, None),
            ("relative equivariance, ratio of means", found.measured.ratio_of_means, None),
        ];
        rows.extend(numbers.map(|(metric, value, interval)| ResultRow {
            protocol: "equivariance".into(),
            data: name.into(),
            task: found.module.clone(),
            metric: metric.into(),
            value,
            interval,
            detail: format!("{} pictures, {} views", found.pictures, found.rows.len()),
            ..Default::default()
        }));
    }
    Ok(rows)
}
