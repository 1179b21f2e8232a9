//! Verification of an export: it is loaded again, and its features are compared on fixed images.

use std::path::Path;

use candle_core::Device;
use equimod_core::Model;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use serde::Serialize;

/// Number of images for comparing features.
const IMAGES: usize = 4;

/// Result of a verification.
#[derive(Debug, Serialize)]
pub struct Verification {
    /// Number of tensors that were loaded.
    pub matched: usize,
    /// Keys of the network that the file lacks.
    pub missing: Vec<String>,
    /// Keys of the file that the network lacks.
    pub unexpected: Vec<String>,
    /// Number of compared images.
    pub images: usize,
    /// Largest absolute difference of a feature.
    pub largest_difference: f32,
}

impl Verification {
    /// Summary in one line.
    pub fn summary(&self) -> String {
        format!(
            "{} keys matched, {} missing, {} unexpected; largest difference of features on {} fixed images: {:e}",
            self.matched,
            self.missing.len(),
            self.unexpected.len(),
            self.images,
            self.largest_difference
        )
    }
}

/// Checks that an export loads.
///
/// # Errors
///
/// If it does not load.
pub fn loads(folder: &Path) -> anyhow::Result<()> {
    Model::load(folder, &Device::Cpu)?;
    Ok(())
}

/// Refuses weights with non-finite values.
///
/// # Errors
///
/// If there are any.
pub fn ensure_finite(model: &Model) -> anyhow::Result<()> {
    let names = model.not_finite()?;
    anyhow::ensure!(
        names.is_empty(),
        "{} has non-finite values in {}; use other weights",
        model.path.display(),
        names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ")
    );
    Ok(())
}

/// Loads the weights written at `path`, and compares their features with those of `model`.
///
/// # Errors
///
/// If they do not load, or give other features.
pub fn verify(model: &Model, path: &Path) -> anyhow::Result<Verification> {
    let written = Model::load(path, &Device::Cpu)?;
    let size = model.preprocessing.size;
    let mut pixels = vec![0; IMAGES * size * size * 3];
    StdRng::seed_from_u64(0).fill_bytes(&mut pixels);
    let features = |model: &Model| -> anyhow::Result<Vec<f32>> {
        let pooled = model.features(&pixels, (IMAGES, size, size))?.pooled;
        Ok(pooled.flatten_all()?.to_device(&Device::Cpu)?.to_vec1()?)
    };
    let (before, after) = (features(model)?, features(&written)?);
    let differences = before.iter().zip(&after).map(|(a, b)| (a - b).abs());
    let largest_difference = differences.fold(0.0, f32::max);
    let file = path.display();
    // The same machine and code give the same bits.
    anyhow::ensure!(
        before.len() == after.len() && largest_difference == 0.0,
        "{file} gives other features than the exported model \
         (difference up to {largest_difference:e}); please report it"
    );
    let report = &written.report;
    Ok(Verification {
        matched: report.matched.len(),
        missing: report.missing.clone(),
        unexpected: report.unexpected.clone(),
        images: IMAGES,
        largest_difference,
    })
}
