//! Features in the plane.

use equimod_eval::Features;
use equimod_eval::projection::{pca, tsne};

use crate::cli::MapKind;
use crate::output;

/// Pictures that t-SNE takes at most; of more, so many evenly spaced ones.
pub const MOST: usize = 5000;

/// The name and the points of each map that is wanted, one point a row.
pub fn of(features: &Features, kind: MapKind, seed: u64) -> anyhow::Result<Vec<(String, Vec<(f64, f64)>)>> {
    let mut maps = Vec::new();
    if kind == MapKind::None || features.rows() < 3 {
        return Ok(maps);
    }
    let pca = pca(features)?;
    maps.push((format!("principal components ({:.0} % of the variance)", 100.0 * pca.explained), pca.points));
    if kind == MapKind::Tsne {
        output::note(&format!("t-SNE of {} pictures", features.rows()));
        maps.push(("t-SNE".into(), tsne(features, seed)?));
    }
    Ok(maps)
}
