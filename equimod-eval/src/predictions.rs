//! Predictions of a classifier on test images, and their metrics.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::refuse;
use crate::metrics::mean_per_class;

/// Probabilities of the classes for each test image, with the true class.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    probabilities: Vec<f64>,
    /// Predicted class of each image.
    first: Vec<u32>,
    /// Number of classes ranked before the true one of each image; `None` if the true class got no score.
    ranks: Vec<Option<u32>>,
    labels: Vec<u32>,
    indices: Vec<usize>,
    classes: usize,
}

/// Images whose confidence lies in one interval, a bin of a reliability diagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Number of images.
    pub count: usize,
    /// Mean confidence.
    pub confidence: f64,
    /// Accuracy.
    pub accuracy: f64,
}

impl Predictions {
    /// Softmax of logits `[images, classes]`, row-major. `indices` are those of the images in their data set.
    ///
    /// # Errors
    /// If the shapes do not match, or a logit is not finite.
    pub fn from_logits(logits: Vec<f64>, labels: Vec<u32>, indices: Vec<usize>, classes: usize) -> Result<Self> {
        if let Some(row) = logits.chunks_exact(classes.max(1)).position(|row| row.iter().any(|v| !v.is_finite())) {
            return refuse(format!(
                "the logits of image {row} are not finite; check the weights or lower the learning rate"
            ));
        }
        Self::from_log_scores(logits, labels, indices, classes)
    }

    /// Softmax of logarithms of scores `[images, classes]`, row-major. A class whose score is 0 has −∞; it is never
    /// predicted and has no rank.
    ///
    /// # Errors
    /// If the shapes do not match, or no class of an image has a finite value.
    pub fn from_log_scores(scores: Vec<f64>, labels: Vec<u32>, indices: Vec<usize>, classes: usize) -> Result<Self> {
        if classes == 0 || scores.len() != labels.len() * classes || indices.len() != labels.len() {
            return refuse(format!("{} scores do not fit {} images of {classes} classes", scores.len(), labels.len()));
        }
        if let Some(label) = labels.iter().find(|label| **label as usize >= classes) {
            return refuse(format!("there are {classes} classes, and an image of class {label}"));
        }
        let mut probabilities = scores;
        let (mut first, mut ranks) = (Vec::with_capacity(labels.len()), Vec::with_capacity(labels.len()));
        for (row, &label) in probabilities.chunks_exact_mut(classes).zip(&labels) {
            let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            if !highest.is_finite() || row.iter().any(|v| v.is_nan()) {
                return refuse("the scores of some images are not finite numbers; check the features");
            }
            // Before the softmax, in which small scores underflow to the same value.
            first.push(row.iter().position(|v| *v == highest).unwrap_or(0) as u32);
            ranks.push(rank(row, label as usize));
            row.iter_mut().for_each(|v| *v = (*v - highest).exp());
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|v| *v /= sum);
        }
        Ok(Self { probabilities, first, ranks, labels, indices, classes })
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// True class of each image.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// Index of each image in its data set.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// Probabilities of the classes of one image, `[classes]`.
    pub fn row(&self, index: usize) -> &[f64] {
        &self.probabilities[index * self.classes..][..self.classes]
    }

    /// Predicted class of each image: the most likely one, of equally likely ones the lowest.
    pub fn first(&self) -> &[u32] {
        &self.first
    }

    /// 1 for each image whose class is among its `k` most likely ones, else 0. Of equally likely classes the lower
    /// come first; classes without a score do not count.
    pub fn hits(&self, k: usize) -> Vec<f64> {
        let hit = |rank: &Option<u32>| f64::from(u8::from(rank.is_some_and(|rank| (rank as usize) < k)));
        self.ranks.iter().map(hit).collect()
    }

    /// Mean over the classes with images of their accuracy.
    pub fn mean_per_class(&self) -> f64 {
        mean_per_class(&self.hits(1), &self.labels, self.classes)
    }

    /// Confidence and accuracy in `bins` intervals of equal width from 0 to 1; the upper end belongs to an interval.
    pub fn reliability(&self, bins: usize) -> Vec<Bin> {
        let mut all = vec![Bin::default(); bins.max(1)];
        for ((row, hit), first) in self.probabilities.chunks_exact(self.classes).zip(self.hits(1)).zip(&self.first) {
            let confidence = row[*first as usize];
            let bin = ((confidence * all.len() as f64).ceil() as usize).clamp(1, all.len()) - 1;
            all[bin].count += 1;
            all[bin].confidence += confidence;
            all[bin].accuracy += hit;
        }
        for bin in all.iter_mut().filter(|bin| bin.count > 0) {
            bin.confidence /= bin.count as f64;
            bin.accuracy /= bin.count as f64;
        }
        all
    }

    /// Expected calibration error (Guo et al., arXiv 1706.04599, equation 3): `Σ count/n · |accuracy − confidence|`
    /// over 15 intervals.
    pub fn calibration_error(&self) -> f64 {
        let gap = |bin: &Bin| bin.count as f64 * (bin.accuracy - bin.confidence).abs();
        self.reliability(15).iter().map(gap).sum::<f64>() / self.len().max(1) as f64
    }

    /// Confusion matrix `[classes, classes]`: true classes in rows, predicted classes in columns.
    pub fn confusion(&self) -> Vec<Vec<usize>> {
        let mut counts = vec![vec![0; self.classes]; self.classes];
        for (predicted, &label) in self.first.iter().zip(&self.labels) {
            counts[label as usize][*predicted as usize] += 1;
        }
        counts
    }
}

/// Number of classes ranked before `label`: those with a higher score, and lower ones with the same score. `None` for
/// a score of −∞.
fn rank(scores: &[f64], label: usize) -> Option<u32> {
    let own = scores[label];
    let before = |(class, score): &(usize, &f64)| **score > own || (**score == own && *class < label);
    (own > f64::NEG_INFINITY).then(|| scores.iter().enumerate().filter(before).count() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four() -> Predictions {
        let scores = [0.9f64, 0.1, 0.8, 0.2, 0.3, 0.7, 0.6, 0.4].map(f64::ln).to_vec();
        Predictions::from_log_scores(scores, vec![0, 1, 1, 0], vec![10, 11, 12, 13], 2).unwrap()
    }

    #[test]
    fn calibration_is_the_weighted_gap_of_confidence_and_accuracy() {
        let predictions = four();
        assert_eq!(predictions.hits(1), [1.0, 0.0, 1.0, 1.0]);
        // Every image has an interval of its own: gaps 0.1, 0.8, 0.3 and 0.4.
        assert!((predictions.calibration_error() - 1.6 / 4.0).abs() < 1e-12, "{}", predictions.calibration_error());
        let all = predictions.reliability(1)[0];
        assert!(all.count == 4 && all.accuracy == 0.75 && (all.confidence - 0.75).abs() < 1e-12);
    }

    #[test]
    fn confusion_counts_true_classes_in_rows() {
        assert_eq!(four().confusion(), [[2, 0], [1, 1]]);
        assert_eq!(four().mean_per_class(), 0.75);
    }

    #[test]
    fn softmax_does_not_overflow_and_no_number_is_refused() {
        let logits = vec![1000.0, 999.0];
        let predictions = Predictions::from_logits(logits, vec![0], vec![0], 2).unwrap();
        assert!((predictions.row(0)[0] - 1.0 / (1.0 + (-1f64).exp())).abs() < 1e-12);
        assert!(Predictions::from_logits(vec![f64::NAN, 0.0], vec![0], vec![0], 2).is_err());
        assert!(Predictions::from_logits(vec![0.0; 3], vec![0], vec![0], 2).is_err());
        assert!(Predictions::from_logits(vec![0.0; 2], vec![2], vec![0], 2).is_err());
    }

    #[test]
    fn ranks_are_those_of_the_logits_where_probabilities_underflow() {
        // As probabilities, the last three are 0.
        let logits = vec![0.0, -900.0, -1000.0, -800.0];
        let of = |label: u32| Predictions::from_logits(logits.clone(), vec![label], vec![0], 4).unwrap();
        assert_eq!([3, 1, 2].map(|label| of(label).row(0)[label as usize]), [0.0; 3]);
        assert_eq!([0, 3, 1, 2].map(|label| (1..5).find(|&k| of(label).hits(k) == [1.0])), [1, 2, 3, 4].map(Some));
    }

    #[test]
    fn a_class_without_a_score_is_at_no_rank() {
        let scores = vec![f64::NEG_INFINITY, 0.0, f64::NEG_INFINITY, -1.0];
        let of = |label: u32| Predictions::from_log_scores(scores.clone(), vec![label], vec![0], 4).unwrap();
        assert_eq!([0, 1, 2, 3].map(|label| of(label).hits(4)[0]), [0.0, 1.0, 0.0, 1.0]);
        assert!(Predictions::from_log_scores(vec![f64::NEG_INFINITY; 2], vec![0], vec![0], 2).is_err());
    }
}
