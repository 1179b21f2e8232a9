//! What a classifier says of test pictures, and what that is worth.

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::error::refuse;
use crate::metrics::{hits, mean_per_class, rank};

/// A probability of each class for each test picture, beside the truth.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    probabilities: Vec<f64>,
    labels: Vec<u32>,
    pictures: Vec<usize>,
    classes: usize,
}

/// Pictures whose confidence lies in one interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Their number.
    pub count: usize,
    /// Their mean confidence.
    pub confidence: f64,
    /// The share of them that is right.
    pub accuracy: f64,
}

impl Predictions {
    /// From scores that are not negative (`labels.len() × classes`, row-major): each row is divided by its sum; a row of zeros
    /// says that every class is as likely. `pictures` are the places of the rows in their data set.
    pub fn from_scores(scores: Vec<f64>, labels: Vec<u32>, pictures: Vec<usize>, classes: usize) -> Result<Self> {
        if classes == 0 || scores.len() != labels.len() * classes || pictures.len() != labels.len() {
            return refuse(format!(
                "{} scores do not fit {} pictures of {classes} classes",
                scores.len(),
                labels.len()
            ));
        }
        if scores.iter().any(|score| !score.is_finite() || *score < 0.0) {
            return refuse("the scores of some pictures are not finite numbers above 0; check the features");
        }
        let mut probabilities = scores;
        for row in probabilities.chunks_exact_mut(classes) {
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|p| *p = if sum > 0.0 { *p / sum } else { 1.0 / classes as f64 });
        }
        Ok(Self { probabilities, labels, pictures, classes })
    }

    /// From logits: softmax of each row.
    pub fn from_logits(mut logits: Vec<f64>, labels: Vec<u32>, pictures: Vec<usize>, classes: usize) -> Result<Self> {
        if let Some(row) = logits.chunks_exact(classes.max(1)).position(|row| row.iter().any(|v| !v.is_finite())) {
            return refuse(format!("the logits of picture {row} are not finite; check the weights or lower the rate"));
        }
        for row in logits.chunks_exact_mut(classes.max(1)) {
            let highest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            row.iter_mut().for_each(|v| *v = (*v - highest).exp());
        }
        Self::from_scores(logits, labels, pictures, classes)
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// The true class of each picture.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The places of the pictures in their data set.
    pub fn pictures(&self) -> &[usize] {
        &self.pictures
    }

    /// The probabilities of one picture's classes.
    pub fn row(&self, index: usize) -> &[f64] {
        &self.probabilities[index * self.classes..][..self.classes]
    }

    /// The classes of each picture, most likely first.
    pub fn ranked(&self) -> Vec<Vec<u32>> {
        self.probabilities.chunks_exact(self.classes).map(rank).collect()
    }

    /// The most likely class of each picture; of equal ones the lowest.
    pub fn first(&self) -> Vec<u32> {
        let highest = |row: &[f64]| (0..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best }) as u32;
        self.probabilities.chunks_exact(self.classes).map(highest).collect()
    }

    /// 1 for each picture whose class is among its `k` most likely ones, else 0.
    pub fn hits(&self, k: usize) -> Vec<f64> {
        if k == 1 {
            return self.first().iter().zip(&self.labels).map(|(a, b)| f64::from(u8::from(a == b))).collect();
        }
        hits(&self.ranked(), &self.labels, k)
    }

    /// The mean over the classes that are present of the share of their pictures that are right.
    pub fn mean_per_class(&self) -> f64 {
        mean_per_class(&self.hits(1), &self.labels, self.classes)
    }

    /// Confidence beside accuracy in `bins` intervals of equal width, from 0 to 1; the upper end belongs to an interval.
    pub fn reliability(&self, bins: usize) -> Vec<Bin> {
        let mut found = vec![Bin::default(); bins.max(1)];
        for ((row, right), first) in self.probabilities.chunks_exact(self.classes).zip(self.hits(1)).zip(self.first()) {
            let confidence = row[first as usize];
            let place = ((confidence * found.len() as f64).ceil() as usize).clamp(1, found.len()) - 1;
            found[place].count += 1;
            found[place].confidence += confidence;
            found[place].accuracy += right;
        }
        for bin in found.iter_mut().filter(|bin| bin.count > 0) {
            bin.confidence /= bin.count as f64;
            bin.accuracy /= bin.count as f64;
        }
        found
    }

    /// Expected calibration error (Guo et al., arXiv 1706.04599, equation 3): `Σ count/n · |accuracy − confidence|` over
    /// 15 intervals.
    pub fn calibration_error(&self) -> f64 {
        let gap = |bin: &Bin| bin.count as f64 * (bin.accuracy - bin.confidence).abs();
        self.reliability(15).iter().map(gap).sum::<f64>() / self.len().max(1) as f64
    }

    /// `classes × classes` counts: rows are true classes, columns what was said.
    pub fn confusion(&self) -> Vec<Vec<usize>> {
        let mut counts = vec![vec![0; self.classes]; self.classes];
        for (said, &label) in self.first().iter().zip(&self.labels) {
            counts[label as usize][*said as usize] += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn four() -> Predictions {
        let scores = vec![0.9, 0.1, 0.8, 0.2, 0.3, 0.7, 0.6, 0.4];
        Predictions::from_scores(scores, vec![0, 1, 1, 0], vec![10, 11, 12, 13], 2).unwrap()
    }

    #[test]
    fn calibration_is_the_weighted_gap_of_confidence_and_accuracy() {
        let predictions = four();
        assert_eq!(predictions.hits(1), [1.0, 0.0, 1.0, 1.0]);
        // Every picture has an interval of its own: gaps 0.1, 0.8, 0.3 and 0.4.
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
        assert!(Predictions::from_scores(vec![0.0; 3], vec![0], vec![0], 2).is_err());
    }
}
