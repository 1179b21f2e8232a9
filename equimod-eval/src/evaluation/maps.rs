//! Two-dimensional maps of features.

use equimod_data::task_name;

use super::Evaluation;
use crate::projection::{TsneConfig, pca, t_sne};
use crate::report::{Figure, Map};
use crate::{Features, Result};

/// A two-dimensional map of the test images' features.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FeatureMap {
    /// No map.
    #[default]
    None,
    /// The first two principal components.
    Pca,
    /// Principal components and t-SNE, which takes longer.
    Tsne,
}

/// Maximum number of images in a map; of more, evenly spaced ones are shown.
const MOST: usize = 3000;
/// Minimum number of images in a map.
const LEAST: usize = 12;
/// Maximum number of classes that a map colors: more cannot be distinguished.
const COLORED: usize = 60;

/// A map's name and its points, one for each row.
type Projection = (String, Vec<(f64, f64)>);

/// The test images' features in the plane, colored by each of their label columns.
pub fn figures(evaluation: &Evaluation) -> Result<Vec<Figure>> {
    if evaluation.map == FeatureMap::None {
        return Ok(Vec::new());
    }
    let (features, dataset) = evaluation.test_features()?;
    let decoded = features.decoded();
    let indices: Vec<usize> = evenly_spaced(decoded.len()).into_iter().map(|row| decoded[row]).collect();
    let mut figures = Vec::new();
    for (name, points) in projections(evaluation, &features.select(&indices))? {
        let tasks = dataset.tasks().iter().enumerate().filter(|(_, task)| task.classes.len() <= COLORED);
        for (number, task) in tasks {
            let mut classes: Vec<(String, Vec<(f64, f64)>)> =
                task.classes.iter().map(|class| (class.clone(), Vec::new())).collect();
            for (&index, point) in indices.iter().zip(&points) {
                if let Some(label) = dataset.label(number, index) {
                    classes[label as usize].1.push(*point);
                }
            }
            classes.retain(|(_, points)| !points.is_empty());
            figures.push(Figure::Map(Map { title: format!("{name} by {}", task_name(&task.name)), classes }));
        }
    }
    Ok(figures)
}

/// Up to [`MOST`] of `rows` rows.
fn evenly_spaced(rows: usize) -> Vec<usize> {
    let count = rows.min(MOST);
    (0..count).map(|i| i * rows / count).collect()
}

fn projections(evaluation: &Evaluation, features: &Features) -> Result<Vec<Projection>> {
    let mut maps = Vec::new();
    if features.rows() < LEAST || features.columns() < 2 {
        return Ok(maps);
    }
    let components = pca(features, 2)?;
    let explained = 100.0 * components.explained.iter().sum::<f64>();
    let points = components.coordinates.chunks_exact(2).map(|point| (point[0], point[1])).collect();
    maps.push((format!("principal components ({explained:.0} % of the variance)"), points));
    if evaluation.map == FeatureMap::Tsne {
        evaluation.observer.log(&format!("t-SNE of {} images", features.rows()));
        let most = ((features.rows() - 1) / 3) as f32;
        let config = TsneConfig { perplexity: TsneConfig::default().perplexity.min(most), ..Default::default() };
        let map = t_sne(features, &config)?;
        let points = map.chunks_exact(2).map(|point| (f64::from(point[0]), f64::from(point[1]))).collect();
        maps.push((format!("t-SNE, perplexity {:.0},", config.perplexity), points));
    }
    Ok(maps)
}
