//! Whether what was written is what was meant: loaded again, and compared on fixed pictures.

use std::path::Path;

use candle_core::Device;
use equimod_core::Model;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use serde::Serialize;

/// Pictures that features are compared on.
const PICTURES: usize = 4;

/// What came of it.
#[derive(Debug, Serialize)]
pub struct Verified {
    /// Tensors that were read and fit.
    pub matched: usize,
    /// Names that the network has and the file lacks.
    pub missing: Vec<String>,
    /// Names that the file has and the network lacks.
    pub unexpected: Vec<String>,
    /// Pictures that were compared.
    pub pictures: usize,
    /// The largest difference of a feature.
    pub largest_difference: f32,
}

impl Verified {
    /// One line for people.
    pub fn summary(&self) -> String {
        format!(
            "{} keys matched, {} missing, {} unexpected; features of {} fixed pictures: largest difference {:e}",
            self.matched,
            self.missing.len(),
            self.unexpected.len(),
            self.pictures,
            self.largest_difference
        )
    }
}

/// Whether an export loads.
pub fn loads(folder: &Path) -> anyhow::Result<()> {
    Model::load(folder, &Device::Cpu)?;
    Ok(())
}

/// Refuses weights that are no numbers, before anything is written.
pub fn ensure_finite(model: &Model) -> anyhow::Result<()> {
    let names = model.not_finite()?;
    anyhow::ensure!(
        names.is_empty(),
        "{} holds values that are no finite numbers in {}; use other weights",
        model.path.display(),
        names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ")
    );
    Ok(())
}

/// Loads what was written at `path`, and compares its features with those of `model`.
///
/// # Errors
///
/// When it does not load, or gives other features.
pub fn verify(model: &Model, path: &Path) -> anyhow::Result<Verified> {
    let written = Model::load(path, &Device::Cpu)?;
    let size = model.preprocessing.size;
    let mut pixels = vec![0; PICTURES * size * size * 3];
    StdRng::seed_from_u64(0).fill_bytes(&mut pixels);
    let features = |model: &Model| -> anyhow::Result<Vec<f32>> {
        let pooled = model.features(&pixels, (PICTURES, size, size))?.pooled;
        Ok(pooled.flatten_all()?.to_device(&Device::Cpu)?.to_vec1()?)
    };
    let (before, after) = (features(model)?, features(&written)?);
    let differences = before.iter().zip(&after).map(|(a, b)| (a - b).abs());
    let largest_difference = differences.fold(0.0, f32::max);
    let file = path.display();
    // The same machine and the same code: the same bits.
    anyhow::ensure!(
        before.len() == after.len() && largest_difference == 0.0,
        "{file} gives other features than what was exported (they differ by up to {largest_difference:e}); please report it"
    );
    let report = &written.report;
    Ok(Verified {
        matched: report.matched.len(),
        missing: report.missing.clone(),
        unexpected: report.unexpected.clone(),
        pictures: PICTURES,
        largest_difference,
    })
}
