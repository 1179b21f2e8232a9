//! Protocols by themselves: `cargo bench -p equimod-eval --bench eval`. With `EQUIMOD_BENCH_FEATURES=FOLDER` the
//! features are written there too (row-major f32, labels u32, little-endian), so that another program can be timed on
//! the same ones.
#![allow(clippy::unwrap_used, missing_docs)]

use divan::Bencher;
use equimod_eval::few_shot::{EpisodeClassifier, EpisodeConfig, episodes, evaluate};
use equimod_eval::lbfgs::LbfgsConfig;
use equimod_eval::logistic::{LogisticConfig, sweep};
use equimod_eval::{Features, Labeled, knn};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use rayon::prelude::*;

fn main() {
    if let Some(folder) = std::env::var_os("EQUIMOD_BENCH_FEATURES") {
        return write(std::path::Path::new(&folder));
    }
    divan::main();
}

const WIDTH: usize = 512;
const CLASSES: usize = 100;
const KINDS: [&str; 2] = ["realistic", "white"];

/// `rows` features: of white noise about class centers, or as a network pools them: noise whose spectrum decays,
/// mixed over the columns, and through a softplus.
fn labeled(kind: &str, rows: usize, seed: u64) -> Labeled {
    let mut fixed = ChaCha8Rng::seed_from_u64(1);
    let mut noise = |count: usize| (0..count).map(|_| fixed.sample(StandardNormal)).collect::<Vec<f32>>();
    let (centers, mixing) = (noise(CLASSES * WIDTH), noise(WIDTH * WIDTH));
    let row = |i: usize| {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(i as u64);
        let center = &centers[i % CLASSES * WIDTH..][..WIDTH];
        let mut own = |c: f32| 0.35 * c + generator.sample::<f32, _>(StandardNormal);
        let latent: Vec<f32> = center.iter().map(|&c| own(c)).collect();
        if kind == "white" { latent } else { pooled(&latent, &mixing) }
    };
    let values = (0..rows).into_par_iter().flat_map_iter(row).collect();
    let labels = (0..rows).map(|i| (i % CLASSES) as u32).collect();
    Labeled::new(Features::new(rows, WIDTH, values).unwrap(), labels, CLASSES).unwrap()
}

fn pooled(latent: &[f32], mixing: &[f32]) -> Vec<f32> {
    let decayed: Vec<f32> = latent.iter().enumerate().map(|(k, v)| v / (1.0 + k as f32).powf(0.75)).collect();
    let mixed = mixing.chunks_exact(WIDTH).map(|row| row.iter().zip(&decayed).map(|(a, b)| a * b).sum::<f32>());
    mixed.map(|v| (v - 0.5).exp().ln_1p()).collect()
}

fn write(folder: &std::path::Path) {
    let sets = [("train", 10_000, 2), ("validation", 2_000, 3), ("bank", 50_000, 4), ("queries", 10_000, 5)];
    for (kind, (name, rows, seed)) in KINDS.iter().flat_map(|kind| sets.map(|set| (kind, set))) {
        let data = labeled(kind, rows, seed);
        let values: Vec<u8> = data.features.values().iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(folder.join(format!("{kind}_{name}.f32")), values).unwrap();
        let labels: Vec<u8> = data.labels.iter().flat_map(|v| v.to_le_bytes()).collect();
        std::fs::write(folder.join(format!("{kind}_{name}.u32")), labels).unwrap();
    }
    let labels: Vec<u32> = (0..10_000).map(|i| i % CLASSES as u32).collect();
    let drawn = episodes(&labels, &EpisodeConfig { shots: 5, ..Default::default() }, 1).unwrap().episodes;
    let rows = drawn.iter().flatten().flatten().flat_map(|&row| (row as u32).to_le_bytes());
    std::fs::write(folder.join("episodes.u32"), rows.collect::<Vec<u8>>()).unwrap();
}

#[divan::bench(args = KINDS, sample_count = 3)]
fn sweep_of_45_l2_strengths(bencher: Bencher, kind: &str) {
    let (train, validation) = (labeled(kind, 10_000, 2), labeled(kind, 2_000, 3));
    // scikit-learn's tolerance and its free bias.
    let lbfgs = LbfgsConfig { tolerance: 1e-4, ..Default::default() };
    let config = LogisticConfig { regularize_bias: false, lbfgs, ..Default::default() };
    bencher.bench_local(|| sweep(&train, &validation, &config).unwrap());
}

#[divan::bench(args = KINDS, sample_count = 3)]
fn nearest_of_50_000(bencher: Bencher, kind: &str) {
    let (bank, queries) = (labeled(kind, 50_000, 4), labeled(kind, 10_000, 5));
    bencher.bench_local(|| knn::nearest(&bank.features, &queries.features, 20).unwrap());
}

const CLASSIFIERS: [EpisodeClassifier; 3] =
    [EpisodeClassifier::Logistic, EpisodeClassifier::OneVersusRest, EpisodeClassifier::Prototype];

#[divan::bench(args = CLASSIFIERS, sample_count = 3)]
fn two_thousand_episodes(bencher: Bencher, classifier: EpisodeClassifier) {
    let data = labeled("realistic", 10_000, 2);
    let drawn = episodes(&data.labels, &EpisodeConfig { shots: 5, ..Default::default() }, 1).unwrap();
    bencher.bench_local(|| evaluate(&data, &drawn, classifier).unwrap());
}
