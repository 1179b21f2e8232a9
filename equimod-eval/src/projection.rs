//! Low-dimensional maps of features: principal components and t-SNE.

use bhtsne::{Neighbor, tSNE};
use rayon::ThreadPoolBuilder;

use crate::Result;
use crate::error::refuse;
use crate::features::Features;
use crate::knn::nearest;
use crate::matrix::{Matrix, Real, eigen, gram, matmul};

/// Coordinates of rows on their first principal components.
#[derive(Clone, Debug, PartialEq)]
pub struct Components {
    /// Coordinates `[rows, count]`, row-major.
    pub coordinates: Vec<f64>,
    /// Share of the variance that each component explains.
    pub explained: Vec<f64>,
}

/// Coordinates on the first `count` principal components; the largest weight of each component is positive.
///
/// # Errors
/// If there are fewer than two rows, or fewer than `count` features.
pub fn pca(features: &Features, count: usize) -> Result<Components> {
    let (rows, columns) = (features.rows(), features.columns());
    if count == 0 || count > columns || rows < 2 {
        return refuse(format!("{rows} rows of {columns} features have no {count} principal components"));
    }
    let centered = features.centered();
    let inputs = f64::of(centered.values());
    let (values, vectors) = eigen(gram(&inputs, columns), columns);
    let mut coordinates = vec![0.0; rows * count];
    let axes = Matrix::rows(&vectors, columns).transposed();
    matmul((rows, columns, count), Matrix::rows(&inputs, columns), axes, (&mut coordinates, count), false);
    let total = values.iter().map(|v| v.max(0.0)).sum::<f64>().max(f64::MIN_POSITIVE);
    Ok(Components { coordinates, explained: values[..count].iter().map(|v| v.max(0.0) / total).collect() })
}

/// Settings of [`t_sne`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TsneConfig {
    /// Effective number of neighbors of a row. Default: 30.
    pub perplexity: f32,
    /// Steps of gradient descent. Default: 1000.
    pub steps: usize,
}

impl Default for TsneConfig {
    fn default() -> Self {
        Self { perplexity: 30.0, steps: 1000 }
    }
}

/// Maximum number of rows of a t-SNE map, which take minutes on one core.
pub const MOST_ROWS: usize = 20_000;

/// t-SNE map `[rows, 2]` of unit-norm rows (van der Maaten, Accelerating t-SNE using tree-based algorithms, 2014, θ =
/// 0.5).
///
/// There is no seed, because nothing is random: it starts from the first two principal components (Kobak & Berens,
/// doi 10.1038/s41467-019-13056-x) with a standard deviation of 1e-4 of the first, and uses exact neighbors. Sums of
/// the `bhtsne` crate depend on the order of its threads, so it runs on one.
///
/// # Errors
/// If there are fewer than 8 or more than [`MOST_ROWS`] rows, or if the perplexity does not fit their number.
pub fn t_sne(features: &Features, config: &TsneConfig) -> Result<Vec<f32>> {
    let rows = features.rows();
    if !(8..=MOST_ROWS).contains(&rows) {
        return refuse(format!("a t-SNE map takes 8 to {MOST_ROWS} images, not {rows}; select some"));
    }
    let most = ((rows - 1) / 3) as f32;
    if !(1.0..=most).contains(&config.perplexity) || features.columns() < 2 {
        return refuse(format!(
            "the perplexity is {}; {rows} images allow 1 to {most}, with at least two features",
            config.perplexity
        ));
    }
    let unit = features.normalized();
    let start = start(&unit)?;
    let neighbors = neighbors(&unit, (3.0 * config.perplexity) as usize)?;
    let samples: Vec<&[f32]> = unit.values().chunks_exact(unit.columns()).collect();
    let Ok(pool) = ThreadPoolBuilder::new().num_threads(1).build() else {
        return refuse("no thread can be started for the t-SNE map; end other programs and try again");
    };
    Ok(pool.install(|| {
        let mut map: tSNE<f32, &[f32], 2> = tSNE::new(&samples);
        map.perplexity(config.perplexity).epochs(config.steps).initial_embedding(start);
        map.barnes_hut_with_neighbors(0.5, &neighbors).embedding()
    }))
}

/// The first two principal components, scaled to a standard deviation of 1e-4.
fn start(features: &Features) -> Result<Vec<f32>> {
    let components = pca(features, 2)?.coordinates;
    let square = components.iter().step_by(2).map(|v| v * v).sum::<f64>() / features.rows() as f64;
    let scale = 1e-4 / square.sqrt().max(1e-30);
    Ok(components.iter().map(|v| (v * scale) as f32).collect())
}

/// The `count` nearest other rows of each row, with their distances.
fn neighbors(unit: &Features, count: usize) -> Result<Vec<Vec<Neighbor<f32>>>> {
    let nearest = nearest(unit, unit, count + 1)?.into_iter().enumerate();
    let others = |(own, row): (usize, Vec<(usize, f64)>)| {
        let others = row.into_iter().filter(|(index, _)| *index != own).take(count);
        others
            .map(|(index, cosine)| Neighbor { index, distance: (2.0 - 2.0 * cosine).max(0.0).sqrt() as f32 })
            .collect()
    };
    Ok(nearest.map(others).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_on_a_line_have_one_component() {
        let values = (0..10).flat_map(|i| [i as f32, 2.0 * i as f32, 1.0]).collect();
        let components = pca(&Features::new(10, 3, values).unwrap(), 2).unwrap();
        assert!((components.explained[0] - 1.0).abs() < 1e-12 && components.explained[1] < 1e-12);
        // Row 9 lies 4.5 steps of length √5 from the mean.
        assert!((components.coordinates[18] - 4.5 * 5f64.sqrt()).abs() < 1e-6);
    }

    fn clusters() -> Features {
        let value = |i: usize| {
            let (row, column) = (i / 6, i % 6);
            (i * 7919 % 1000) as f32 / 5000.0 + f32::from(u8::from(row % 3 == column))
        };
        Features::new(90, 6, (0..540).map(value).collect()).unwrap()
    }

    #[test]
    fn clusters_stay_together_and_the_map_is_the_same_for_any_number_of_threads() {
        let config = TsneConfig { perplexity: 10.0, steps: 500 };
        let map = t_sne(&clusters(), &config).unwrap();
        let pool = ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        assert_eq!(map, pool.install(|| t_sne(&clusters(), &config)).unwrap());
        let points = Features::new(90, 2, map).unwrap();
        let distance =
            |a: usize, b: usize| points.row(a).iter().zip(points.row(b)).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        let nearest = |a: usize| (0..90).filter(|&b| b != a).min_by(|&x, &y| distance(a, x).total_cmp(&distance(a, y)));
        assert!((0..90).all(|a| nearest(a).unwrap() % 3 == a % 3));
        assert!(t_sne(&clusters(), &TsneConfig { perplexity: 40.0, ..config }).is_err());
    }
}
