//! Retrieval by features: recall of an image of the same class, or of the partner in another set.

use crate::Result;
use crate::error::refuse;
use crate::features::{Features, Labeled};
use crate::knn::nearest;

/// Recall@k (Oh Song et al., arXiv 1511.06452): 1 for each query with an image of its class among its `k` nearest
/// other images by cosine, else 0, for each of `ks`. Queries are all images whose class has another image; their rows
/// are returned first.
///
/// # Errors
/// If no class has two images.
pub fn same_class(data: &Labeled, ks: &[usize]) -> Result<(Vec<usize>, Vec<Vec<f64>>)> {
    let mut count = vec![0usize; data.classes];
    data.labels.iter().for_each(|&label| count[label as usize] += 1);
    let queries: Vec<usize> = (0..data.labels.len()).filter(|&i| count[data.labels[i] as usize] > 1).collect();
    if queries.is_empty() {
        return refuse("no class has two test images, so there is nothing to retrieve; choose another task");
    }
    let most = ks.iter().max().map_or(0, |k| k + 1);
    let nearest = nearest(&data.features, &data.features.select(&queries), most)?;
    // The rank, from 0, of the first other image of the same class.
    let rank = |(&query, neighbors): (&usize, &Vec<(usize, f64)>)| {
        let mut others = neighbors.iter().filter(|(row, _)| *row != query);
        others.position(|(row, _)| data.labels[*row] == data.labels[query]).unwrap_or(usize::MAX)
    };
    let ranks: Vec<usize> = queries.iter().zip(&nearest).map(rank).collect();
    let hits = |k: &usize| ranks.iter().map(|rank| f64::from(u8::from(rank < k))).collect();
    Ok((queries, ks.iter().map(hits).collect()))
}

/// The chance level of [`same_class`], in random order: the mean over images of `1 − C(n − m, k) / C(n, k)`, where m
/// of the n other images are of the same class.
pub fn same_class_chance(labels: &[u32], classes: usize, k: usize) -> f64 {
    let mut count = vec![0usize; classes];
    labels.iter().for_each(|&label| count[label as usize] += 1);
    let others = labels.len().saturating_sub(1);
    let miss =
        |same: usize| (0..k.min(others)).map(move |i| (others - same).saturating_sub(i) as f64 / (others - i) as f64);
    let chance = |n: usize| n as f64 * (1.0 - miss(n - 1).product::<f64>());
    let images: usize = count.iter().filter(|n| **n > 1).sum();
    count.into_iter().filter(|n| *n > 1).map(chance).sum::<f64>() / images.max(1) as f64
}

/// 1 for each row of `queries` whose partner, the row of `bank` with the same index, is among its `k` nearest rows,
/// else 0.
///
/// # Errors
/// If both have different numbers of rows or features.
pub fn partner_hits(bank: &Features, queries: &Features, k: usize) -> Result<Vec<f64>> {
    if bank.rows() != queries.rows() {
        return refuse(format!("{} queries cannot be paired with {} rows", queries.rows(), bank.rows()));
    }
    let nearest = nearest(bank, queries, k)?;
    Ok(nearest.iter().enumerate().map(|(i, n)| f64::from(u8::from(n.iter().any(|(row, _)| *row == i)))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_does_not_retrieve_itself() {
        let features = Features::new(5, 2, vec![1.0, 0.0, 0.9, 0.1, 0.0, 1.0, 1.0, 0.05, 0.5, 0.5]).unwrap();
        // Row 0 is nearest to row 3, of another class, then to row 1 of its own; the class of row 4 stands alone.
        let data = Labeled::new(features, vec![0, 0, 1, 1, 2], 3).unwrap();
        let (queries, hits) = same_class(&data, &[1, 2]).unwrap();
        assert_eq!(queries, [0, 1, 2, 3]);
        assert_eq!(hits[0], [0.0, 0.0, 0.0, 0.0]);
        assert_eq!(hits[1], [1.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn chance_is_counted() {
        // Four images in two classes: one of three others is of the same class.
        assert!((same_class_chance(&[0, 0, 1, 1], 2, 1) - 1.0 / 3.0).abs() < 1e-12);
        assert!((same_class_chance(&[0, 0, 1, 1], 2, 3) - 1.0).abs() < 1e-12);
        assert!((same_class_chance(&[0, 0, 1, 1, 2], 3, 2) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn partners_are_found() {
        let a = Features::new(2, 2, vec![1.0, 0.0, 0.0, 1.0]).unwrap();
        let b = Features::new(2, 2, vec![0.9, 0.1, 0.8, 0.2]).unwrap();
        assert_eq!(partner_hits(&a, &b, 1).unwrap(), [1.0, 0.0]);
        assert_eq!(partner_hits(&a, &b, 2).unwrap(), [1.0, 1.0]);
    }
}
