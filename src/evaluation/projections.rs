//! Features in the plane.

use equimod_eval::Features;
use equimod_eval::projection::{TsneConfig, pca, t_sne};

use crate::cli::MapKind;
use crate::output;

/// Pictures of a map at most: of more, so many evenly spaced ones.
const MOST: usize = 3000;
/// Fewest pictures of a map.
const LEAST: usize = 12;

/// The rows that a map of `rows` pictures shows.
pub fn chosen(rows: usize) -> Vec<usize> {
    let count = rows.min(MOST);
    (0..count).map(|i| i * rows / count).collect()
}

/// A map's name and its points, one a row.
type Named = (String, Vec<(f64, f64)>);

/// Each map that is wanted.
pub fn of(features: &Features, kind: MapKind) -> anyhow::Result<Vec<Named>> {
    let mut maps = Vec::new();
    if kind == MapKind::None || features.rows() < LEAST || features.columns() < 2 {
        return Ok(maps);
    }
    let components = pca(features, 2)?;
    let explained = 100.0 * components.explained.iter().sum::<f64>();
    let points = components.coordinates.chunks_exact(2).map(|point| (point[0], point[1])).collect();
    maps.push((format!("principal components ({explained:.0} % of the variance)"), points));
    if kind == MapKind::Tsne {
        output::note(&format!("t-SNE of {} pictures", features.rows()));
        let most = ((features.rows() - 1) / 3) as f32;
        let config = TsneConfig { perplexity: TsneConfig::default().perplexity.min(most), ..Default::default() };
        let map = t_sne(features, &config)?;
        maps.push((
            format!("t-SNE, perplexity {:.0},", config.perplexity),
            map.chunks_exact(2).map(|p| (f64::from(p[0]), f64::from(p[1]))).collect(),
        ));
    }
    Ok(maps)
}
