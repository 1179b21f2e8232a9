//! Nearest neighbors, metrics and logistic regression against the reference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, missing_docs)]

mod golden;

use equimod_eval::few_shot::{self, Episodes};
use equimod_eval::lbfgs::LbfgsConfig;
use equimod_eval::logistic::{Link, LogisticClassifier, fit, fit_linked};
use equimod_eval::metrics::{hits, mean_per_class, rank};
use equimod_eval::{Predictions, knn};
use golden::Golden;

fn relative(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let square: f64 = got.iter().zip(want).map(|(a, b)| (a - b).powi(2)).sum();
    (square / want.iter().map(|b| b * b).sum::<f64>().max(1e-300)).sqrt()
}

fn share(right: &[f64]) -> f64 {
    right.iter().sum::<f64>() / right.len() as f64
}

#[test]
fn golden_weighted_votes() {
    let Some(golden) = Golden::open("knn_metrics.safetensors") else { return };
    let bank = golden.labeled("knn/X_bank", "knn/y_bank");
    let (queries, labels) = (golden.features("knn/X_query"), golden.labels("knn/y_query"));
    let cases: Vec<String> = golden.0.keys().filter_map(|k| k.strip_suffix("/scores").map(str::to_owned)).collect();
    assert!(!cases.is_empty());
    for case in cases {
        let (k, temperature) = case.rsplit('/').next().unwrap().strip_prefix('k').unwrap().split_once("_T").unwrap();
        let config = knn::KnnConfig { k: k.parse().unwrap(), temperature: temperature.parse().unwrap() };
        let votes = knn::vote(&bank, &queries, &config).unwrap();
        let scores: Vec<f64> = votes.iter().flat_map(|v| v.scores.clone()).collect();
        // The reference's similarities are f32: exp(s/T) carries about 1e-7/T.
        assert!(relative(&scores, &golden.values(&format!("{case}/scores"))) < 1e-5, "{case}");
        for (name, got) in [
            (
                "pred_sorted",
                votes.iter().map(|v| v.ranked.iter().map(|&c| f64::from(c)).collect()).collect::<Vec<Vec<f64>>>(),
            ),
            ("neighbours", votes.iter().map(|v| v.neighbors.iter().map(|&c| c as f64).collect()).collect()),
        ] {
            let name = format!("{case}/{name}");
            if golden.0.contains_key(&name) {
                assert_same_order(&got, &golden.rows(&name), &votes, &name);
            }
        }
        let ranked: Vec<Vec<u32>> = votes.iter().map(|v| v.ranked.clone()).collect();
        let want = golden.values(&format!("{case}/top1_top5"));
        let scale = if want.iter().any(|v| *v > 1.0) { 100.0 } else { 1.0 };
        for (k, want) in [1, 5].into_iter().zip(want) {
            // Only classes with a vote count. The reference fills its top 5 with others, in arbitrary order, so that it
            // is compared by its classes with a vote.
            let want = if votes.iter().all(|vote| vote.ranked.len() >= k) {
                want / scale
            } else {
                let (sorted, scores) = (format!("{case}/pred_sorted"), format!("{case}/scores"));
                share(&hits(&voted(&golden.rows(&sorted), &golden.rows(&scores)), &labels, k))
            };
            assert!((share(&hits(&ranked, &labels, k)) - want).abs() < 1e-4, "{case} top-{k}");
        }
    }
}

/// The reference's classes by decreasing score, without those that have no vote.
fn voted(sorted: &[Vec<f64>], scores: &[Vec<f64>]) -> Vec<Vec<u32>> {
    let of_query = |(classes, scores): (&Vec<f64>, &Vec<f64>)| {
        classes.iter().map(|&class| class as u32).filter(|&class| scores[class as usize] > 0.0).collect()
    };
    sorted.iter().zip(scores).map(of_query).collect()
}

/// Asserts equality except for the order of classes without any vote, which the reference does not define.
fn assert_same_order(got: &[Vec<f64>], want: &[Vec<f64>], votes: &[knn::Vote], name: &str) {
    for ((got, want), vote) in got.iter().zip(want).zip(votes) {
        let voted =
            if name.ends_with("pred_sorted") { vote.scores.iter().filter(|s| **s > 0.0).count() } else { got.len() };
        assert_eq!(got[..voted], want[..voted], "{name}");
    }
}

#[test]
fn golden_metrics() {
    let Some(golden) = Golden::open("knn_metrics.safetensors") else { return };
    let (logits, labels) = (golden.rows("metrics/logits"), golden.labels("metrics/labels"));
    let ranked: Vec<Vec<u32>> = logits.iter().map(|row| rank(row)).collect();
    let want = golden.values("metrics/topk_acc_1_3_5");
    let scale = if want.iter().any(|v| *v > 1.0) { 100.0 } else { 1.0 };
    for (k, want) in [1, 3, 5].into_iter().zip(want) {
        assert!((scale * share(&hits(&ranked, &labels, k)) - want).abs() < 1e-4 * scale, "top-{k}");
    }
    let per_class = mean_per_class(&hits(&ranked, &labels, 1), &labels, logits[0].len());
    let want = golden.values("metrics/mean_per_class_acc")[0];
    let scale = if want > 1.0 { 100.0 } else { 1.0 };
    assert!((scale * per_class - want).abs() < 1e-4 * scale);
    let loss = |(row, &label): (&Vec<f64>, &u32)| row.iter().map(|v| v.exp()).sum::<f64>().ln() - row[label as usize];
    let losses: Vec<f64> = logits.iter().zip(&labels).map(loss).collect();
    let predictions = logits.iter().flatten().copied().collect();
    let images = (0..labels.len()).collect();
    let predictions = Predictions::from_logits(predictions, labels.clone(), images, logits[0].len()).unwrap();
    let own = labels.iter().enumerate().map(|(i, &label)| -predictions.row(i)[label as usize].ln());
    let want = golden.values("metrics/cross_entropy_mean")[0];
    assert!((share(&losses) - want).abs() < 1e-5 && (own.sum::<f64>() / losses.len() as f64 - want).abs() < 1e-5);
}

/// Rows without the last column, and the last column.
fn parts(classifier: &LogisticClassifier) -> (Vec<f64>, Vec<f64>) {
    let columns = classifier.weights.len() / classifier.classes;
    let rows = classifier.weights.chunks(columns);
    (rows.clone().flat_map(|r| r[..columns - 1].to_vec()).collect(), rows.map(|r| r[columns - 1]).collect())
}

fn exact() -> LbfgsConfig {
    LbfgsConfig { tolerance: 1e-10, ..Default::default() }
}

/// scikit-learn's objective `C·Σ CE + ½|W|²` with an unregularized bias is C times ours with w = 1/(2C).
#[test]
fn golden_logistic_regression_with_a_free_bias() {
    let Some(golden) = Golden::open("logreg.safetensors") else { return };
    let sets: Vec<String> = golden.0.keys().filter_map(|k| k.strip_suffix("/X_train").map(str::to_owned)).collect();
    assert!(!sets.is_empty());
    for set in sets {
        let get = |name: &str| format!("{set}/{name}");
        let train = golden.labeled(&get("X_train"), &get("y_train"));
        let (test, labels) = (golden.features(&get("X_test")), golden.labels(&get("y_test")));
        let (_, classes, width) = golden.tensor(&get("coef")).dims3().unwrap();
        for (i, c) in golden.values(&get("C")).into_iter().enumerate() {
            let classifier = fit(&train, 0.5 / c, false, &exact()).unwrap();
            let (weights, _) = parts(&classifier);
            let objective = golden.values(&get("objective"))[i];
            assert!((c * classifier.objective / objective - 1.0).abs() < 1e-5, "{set} C {c}: {objective}");
            let want = &golden.values(&get("coef"))[i * classes * width..][..classes * width];
            assert!(relative(&weights, want) < 1e-3, "{set} C {c}: {}", relative(&weights, want));
            let right = hits(&classifier.ranked(&test).unwrap(), &labels, 1);
            let want = golden.values(&get("test_accuracy"))[i];
            assert!((share(&right) - want).abs() <= 1.0 / labels.len() as f64 + 1e-6, "{set} C {c}");
        }
    }
}

/// AugSelf's objective `Σ CE + w·(|W|² + |b|²)` equals ours.
#[test]
fn golden_logistic_regression_with_a_penalised_bias() {
    let Some(golden) = Golden::open("logreg.safetensors") else { return };
    let data = golden.labeled("augself/X", "augself/y");
    let (_, classes, width) = golden.tensor("augself/weight").dims3().unwrap();
    for (i, l2) in golden.values("augself/w").into_iter().enumerate() {
        let classifier = fit(&data, l2, true, &exact()).unwrap();
        let objective = golden.values("augself/objective")[i];
        assert!((classifier.objective / objective - 1.0).abs() < 1e-5, "w {l2}: {objective}");
        let (weights, bias) = parts(&classifier);
        let want = &golden.values("augself/weight")[i * classes * width..][..classes * width];
        assert!(relative(&weights, want) < 1e-3, "w {l2}: {}", relative(&weights, want));
        let want = &golden.values("augself/bias")[i * classes..][..classes];
        assert!(relative(&bias, want) < 1e-3, "w {l2}: {bias:?} {want:?}");
    }
}

/// scikit-learn has one vector for two classes: the second class against the rest.
#[test]
fn golden_logistic_regression_of_two_classes() {
    let Some(golden) = Golden::open("logreg.safetensors") else { return };
    let data = golden.labeled("binary/X", "binary/y");
    let width = data.features.columns();
    for (i, c) in golden.values("binary/C").into_iter().enumerate() {
        let classifier = fit_linked(&data, 0.5 / c, false, Link::OneVersusRest, &exact()).unwrap();
        let (weights, bias) = parts(&classifier);
        let want = &golden.values("binary/coef")[i * width..][..width];
        assert!(relative(&weights[width..], want) < 1e-3, "C {c}: {}", relative(&weights[width..], want));
        let want = golden.values("binary/intercept")[i];
        assert!((bias[1] - want).abs() < 1e-3 * want.abs().max(1e-2), "C {c}: {bias:?} {want}");
    }
}

#[test]
fn golden_few_shot_episodes() {
    let Some(golden) = Golden::open("fewshot.safetensors") else { return };
    let data = golden.labeled("X", "y");
    let cases: Vec<&str> = golden.0.keys().filter_map(|key| key.strip_suffix("/episode_indices")).collect();
    assert!(!cases.is_empty());
    for case in cases {
        let shots = case.split('_').find_map(|part| part.strip_prefix('K')).unwrap().parse().unwrap();
        let drawn: Vec<Vec<Vec<i64>>> = golden.tensor(&format!("{case}/episode_indices")).to_vec3().unwrap();
        let rows = |rows: Vec<i64>| rows.into_iter().map(|row| row as usize).collect();
        let episodes = drawn.into_iter().map(|e| e.into_iter().map(rows).collect()).collect();
        let episodes = Episodes { episodes, shots, left_out: Vec::new() };
        for (classifier, name) in [
            (few_shot::EpisodeClassifier::Logistic, "lbfgs_multinomial"),
            (few_shot::EpisodeClassifier::OneVersusRest, "liblinear_ovr"),
        ] {
            let predictions = golden.rows(&format!("{case}/{name}_pred"));
            let mut differ = 0;
            for (episode, want) in episodes.episodes.iter().zip(&predictions) {
                let got = few_shot::predict_queries(&data.features, episode, shots, classifier).unwrap();
                differ += got.iter().zip(want).filter(|(a, b)| f64::from(**a) != **b).count();
            }
            assert!(differ <= 1, "{case} {name}: {differ} predictions differ");
            let found = few_shot::evaluate(&data, &episodes, classifier).unwrap();
            let want = golden.values(&format!("{case}/{name}_acc"));
            // Change of an episode's accuracy by a single prediction.
            let one = 1.0 / predictions[0].len() as f64;
            let close = |(a, b): (&f64, &f64)| (a - b).abs() <= one + 1e-6;
            assert!(found.accuracies.iter().zip(&want).all(close), "{case} {name}: {:?} {want:?}", found.accuracies);
            if name.starts_with("lbfgs") {
                let want = golden.values(&format!("{case}/mean_and_ci95_lbfgs"));
                let got = [found.mean, found.half_width];
                let moved = one / episodes.episodes.len() as f64 + 1e-6;
                assert!(
                    (got[0] - want[0]).abs() <= moved && (got[1] - want[1]).abs() <= 2.0 * moved,
                    "{case}: {got:?} {want:?}"
                );
            }
        }
    }
}
