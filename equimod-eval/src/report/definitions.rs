//! Definitions of measures, for the place where their values are shown.

use crate::results::{ABSOLUTE, ACCURACY_OF_FLAG, RATIO_OF_MEANS, RELATIVE, ResultRow, SHUFFLED, TOP_1};

/// The definition of one measure, or of measures of the same kind.
struct Definition {
    /// Protocol; empty for any.
    protocol: &'static str,
    /// Part of the metric's name.
    metric: &'static str,
    /// Name in the list.
    name: &'static str,
    /// Meaning, with a reference value.
    text: &'static str,
}

const fn define(protocol: &'static str, metric: &'static str, name: &'static str, text: &'static str) -> Definition {
    Definition { protocol, metric, name, text }
}

/// The first that fits is the definition of a row.
const DEFINITIONS: [Definition; 25] = [
    define("knn", TOP_1, "knn", "share of test images whose class the k nearest training images vote for"),
    define(
        "logistic",
        TOP_1,
        "logistic",
        "share of test images that logistic regression on frozen features gets right; quick: with few of the L2 strengths",
    ),
    define("linear", TOP_1, "linear", "share of test images that a linear layer on frozen features gets right"),
    define("finetune", TOP_1, "finetune", "share of test images that the network gets right after training on labels"),
    define(
        "",
        ACCURACY_OF_FLAG,
        ACCURACY_OF_FLAG,
        "share of views for which ridge regression tells whether an augmentation was applied: chance is always giving the more frequent answer",
    ),
    define("", TOP_1, "top-1 accuracy", "share of test images whose class is predicted"),
    define("", "top-5", "top-5 accuracy", "share of test images whose class is among the five most probable ones"),
    define(
        "",
        "calibration",
        "expected calibration error",
        "mean distance of the accuracy of predictions from their probability; 0 if probabilities can be trusted",
    ),
    define(
        "few-shot, prototype",
        "-shot accuracy",
        "few-shot, prototype",
        "few-shot accuracy of the class whose mean feature is nearest",
    ),
    define(
        "few-shot, one versus rest",
        "-shot accuracy",
        "few-shot, one versus rest",
        "few-shot accuracy of logistic regressions that tell each class from all others",
    ),
    define(
        "",
        "-shot accuracy",
        "few-shot accuracy",
        "share of queries whose class a classifier finds after a few images (shots) of each of a few classes (ways), over many episodes",
    ),
    define(
        "",
        "mean per class",
        "mean per class accuracy",
        "accuracy of each class, averaged: small classes weigh as much",
    ),
    define("", "mean over tasks", "mean over tasks", "accuracy averaged over the data sets of the suite"),
    define(
        "",
        "recall@",
        "recall@k",
        "share of images with one of the same class (or the same thing in the other design) among the k nearest",
    ),
    define("", "H@", "H@k", "share of predictions for which the actual view is among the k nearest views of the image"),
    define(
        "",
        "MRR",
        "MRR",
        "mean of 1 / rank of the actual view among the views of its image, nearest to the prediction first; 1 is perfect",
    ),
    define(
        "",
        SHUFFLED,
        "control: shuffled parameters",
        "absolute equivariance of predictions from wrong parameters, those of another image or, of a flip or grayscale alone, of no change: what they gain without being told the view",
    ),
    define(
        "",
        ABSOLUTE,
        "absolute equivariance",
        "mean of cos(prediction, view) − cos(un-augmented image, view) of embeddings: above 0, the prediction is useful; above its control, the parameters are; 0.2 to 0.3 is typical of short runs on the bundled images",
    ),
    define(
        "",
        RATIO_OF_MEANS,
        "ratio of means",
        "relative equivariance with numerator and denominator averaged first, which few near-zero denominators cannot dominate",
    ),
    define(
        "",
        RELATIVE,
        "relative equivariance",
        "mean of (1 − cos(un-augmented image, view)) / (1 − cos(prediction, view)): above 1, the prediction is nearer",
    ),
    define(
        "",
        "R²",
        "R²",
        "share of a parameter's variance that ridge regression explains from features: 0 is guessing the mean, 1 is perfect",
    ),
    define(
        "",
        "standard deviation",
        "standard deviation",
        "spread of features over images: 0 if all images have the same features (collapse)",
    ),
    define(
        "",
        "effective rank",
        "effective rank",
        "number of directions that features use (RankMe), at most their width",
    ),
    define(
        "",
        "alignment",
        "alignment",
        "mean squared distance of two views of an image, of unit features: 0 if augmentations change nothing",
    ),
    define(
        "",
        "uniformity",
        "uniformity",
        "log of the mean of exp(−2 distance²) over pairs of images: the lower, the more evenly they spread",
    ),
];

/// Remark on the equivariance of a baseline, in which the module's loss has no weight.
const BASELINE: (&str, &str) = (
    "equivariance of the baseline",
    "that of a predictor which the baseline leaves as it began: it shows no effect of this training",
);

/// Remark on images that were held out where there is no test split.
const HELD_OUT: (&str, &str) = (
    "held-out images",
    "a fifth of the training images, kept from classifiers; pretraining on the same source saw them, without labels",
);

/// Names and definitions of the measures in `rows`, each once, in the order of the rows.
pub fn definitions(rows: &[ResultRow]) -> Vec<(&'static str, &'static str)> {
    let mut found: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        let fits = |one: &&Definition| {
            row.metric.contains(one.metric) && (one.protocol.is_empty() || row.protocol == one.protocol)
        };
        let definition = DEFINITIONS.iter().find(fits).map(|one| (one.name, one.text));
        found.extend(definition.filter(|one| !found.contains(one)));
    }
    if rows.iter().any(|row| row.metric == ABSOLUTE && row.baseline.is_some()) {
        found.push(BASELINE);
    }
    if rows.iter().any(|row| row.detail.contains("held-out images")) {
        found.push(HELD_OUT);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_measure_is_defined_once() {
        let row = |protocol: &str, metric: &str| ResultRow {
            protocol: protocol.into(),
            metric: metric.into(),
            ..ResultRow::default()
        };
        let rows = [
            row("knn", TOP_1),
            row("knn", TOP_1),
            row("few-shot", "5-way 1-shot accuracy"),
            row("equivariance", SHUFFLED),
            ResultRow { baseline: Some(-0.5), ..row("equivariance", ABSOLUTE) },
            row("equivariance", RATIO_OF_MEANS),
            row("mine", "something else"),
        ];
        let names: Vec<&str> = definitions(&rows).into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [
                "knn",
                "few-shot accuracy",
                "control: shuffled parameters",
                "absolute equivariance",
                "ratio of means",
                "equivariance of the baseline"
            ]
        );
        assert_eq!(definitions(&[row("few-shot, prototype", "5-way 1-shot accuracy")])[0].0, "few-shot, prototype");
    }
}
