//! Equivariance, retrieval and parameter probes of a small trained model, against chance.
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{SIDE, colors, model, trained};
use equimod_core::Model;
use equimod_data::augment::{ColorJitter, HorizontalFlip, Solarize};
use equimod_data::resample::Filter;
use equimod_data::{AugmentationConfig, CleanView, Policy, ViewPolicy};
use equimod_eval::equivariance::{measure, measure_each};
use equimod_eval::parameter_probe::{ProbeConfig, ProbeKind, collect, policy_of};
use equimod_eval::predictor_retrieval::{PredictorRetrievalConfig, retrieve};

/// Strong jitter, a flip, and a solarization that never occurs in view 1.
fn colorful() -> Policy {
    let view = |solarized: f64| {
        ViewPolicy(vec![
            AugmentationConfig::HorizontalFlip(HorizontalFlip { probability: 0.5 }),
            AugmentationConfig::ColorJitter(ColorJitter {
                probability: 0.8,
                brightness: 0.8,
                contrast: 0.0,
                saturation: 0.8,
                hue: 0.0,
            }),
            AugmentationConfig::Solarize(Solarize { probability: solarized, threshold: 128 }),
        ])
    };
    let clean = CleanView { resize: SIDE, crop: SIDE, filter: Filter::Bilinear };
    Policy { name: "colorful".into(), views: vec![view(0.0), view(0.3)], clean }
}

fn heads(more: &str) -> String {
    format!(
        r#"{{"equimod": {{"projection_head": "16-8", "parameter_head": "16 bn", "predictor": "residual 32-8"{more}}}}}"#
    )
}

const STEPS: u64 = 150;

/// Compared with wrong parameters and with chance.
fn assert_predicts(model: &Model) {
    let images = colors(30, 5000, false);
    let overall = &measure(model, images.as_ref(), 30, 1).unwrap()[0];
    assert_eq!((overall.rows.len(), overall.images), (60, 30));
    assert!(overall.measured.absolute > overall.shuffled.absolute + 0.1, "{overall:?}");
    let config = PredictorRetrievalConfig { images: 12, views: 20, seed: 2 };
    let found = &retrieve(model, images.as_ref(), &config).unwrap()[0];
    assert_eq!((found.ranks.len(), found.views), (240, 20));
    assert!(found.ranks.iter().all(|rank| (1.0..=20.0).contains(rank)));
    assert!(found.mean_reciprocal_rank() > 1.3 * found.chance_of_mean_reciprocal_rank(), "{found:?}");
    assert!(found.hit_share(5) > 1.3 * found.chance_of_hit(5), "{}", found.hit_share(5));
}

/// `rows`: of the flip, the jitter, the solarization.
fn assert_measured_alone(model: &Model, rows: [usize; 3]) {
    let images = colors(20, 5000, false);
    let found = measure_each(model, images.as_ref(), 20, 1).unwrap();
    let names: Vec<&str> = found.iter().map(|found| found.augmentation.as_str()).collect();
    assert_eq!(names, ["horizontal-flip", "color-jitter", "solarize"]);
    assert_eq!(found.iter().map(|found| found.modules[0].rows.len()).collect::<Vec<_>>(), rows);
    let jitter = &found[1].modules[0];
    assert!(jitter.measured.absolute > jitter.shuffled.absolute, "{jitter:?}");
    assert!(found.iter().all(|found| found.modules[0].measured.relative.is_finite()));
    assert_eq!(found, measure_each(model, images.as_ref(), 20, 1).unwrap());
}

#[test]
fn a_trained_predictor_predicts_views_from_the_original_image() {
    let model = trained(colorful(), &heads(""), STEPS);
    assert_predicts(&model);
    // Twenty images for each view that the augmentation can change.
    assert_measured_alone(&model, [40, 40, 20]);
}

#[test]
fn a_trained_predictor_predicts_views_from_each_other() {
    let model = trained(colorful(), &heads(r#", "start": "view""#), STEPS);
    assert_predicts(&model);
    // The same between the original image and the view, in both directions.
    assert_measured_alone(&model, [80, 80, 40]);
}

#[test]
fn a_predictor_that_was_not_trained_is_near_chance() {
    let model = model(colorful(), &heads(""));
    let config = PredictorRetrievalConfig { images: 12, views: 20, seed: 2 };
    let found = &retrieve(&model, colors(12, 0, false).as_ref(), &config).unwrap()[0];
    assert!(found.mean_reciprocal_rank() < 1.5 * found.chance_of_mean_reciprocal_rank(), "{found:?}");
    assert_eq!(found, &retrieve(&model, colors(12, 0, false).as_ref(), &config).unwrap()[0]);
    let plain = common::model(colorful(), "{}");
    assert!(
        retrieve(&plain, colors(12, 0, false).as_ref(), &config).unwrap_err().to_string().contains("no equivariance")
    );
}

#[test]
fn probes_hold_every_value_that_changes_with_its_augmentation_and_unit() {
    let model = model(Policy::built_in("simclr-cifar10", SIDE).unwrap(), "{}");
    let config = ProbeConfig { images: 50, ..ProbeConfig::default() };
    let images = colors(60, 0, false);
    let of = |policy, kind| collect(&model, policy, images.as_ref(), kind, &config).unwrap();
    let parts = of(policy_of(&model).unwrap(), ProbeKind::Absolute);
    assert!(parts.constant.is_empty());
    let width = model.backbone().features();
    for (part, rows) in [(&parts.train, 30), (&parts.validation, 10), (&parts.test, 10)] {
        assert_eq!((part.features.rows(), part.features.columns()), (rows, width));
        assert!(part.targets.len() == 15 && part.targets.iter().all(|column| column.len() == rows));
    }
    assert_eq!(parts.train.names[5], "color-jitter: jitter_applied (0 or 1)");
    assert_eq!(parts.train.names[0], "random-resized-crop: crop_center_y (share of the height)");
    let flags: Vec<usize> = (0..15).filter(|&column| parts.train.binary[column]).collect();
    assert_eq!(flags, [4, 5, 14]);
    assert!(flags.iter().all(|&column| parts.train.targets[column].iter().all(|v| *v == 0.0 || *v == 1.0)));
    assert_eq!(parts, of(policy_of(&model).unwrap(), ProbeKind::Absolute));
}

#[test]
fn pairs_of_views_hold_both_features_and_differences() {
    let model = model(Policy::built_in("simclr-cifar10", SIDE).unwrap(), "{}");
    let images = colors(60, 0, false);
    let config = ProbeConfig { images: 60, ..ProbeConfig::default() };
    let parts = collect(&model, colorful(), images.as_ref(), ProbeKind::Relative, &config).unwrap();
    assert_eq!(parts.train.features.columns(), 2 * model.backbone().features());
    // Neither contrast nor hue is jittered.
    let constant =
        ["color-jitter: contrast, difference (factor)", "color-jitter: hue, difference (share of the circle)"];
    assert_eq!(parts.constant, constant);
    assert!(parts.train.binary.iter().all(|binary| !binary));
    let solarize = parts.train.names.iter().position(|name| name.starts_with("solarize")).unwrap();
    assert!(parts.train.targets[solarize].iter().all(|v| *v == 0.0 || *v == 1.0), "view 1 is never solarized");
    let few = ProbeConfig { images: 2, ..config };
    assert!(collect(&model, colorful(), images.as_ref(), ProbeKind::Relative, &few).is_err());
}
