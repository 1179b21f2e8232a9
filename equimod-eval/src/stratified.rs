//! Stratified random splits.

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Splits off about `share` of each class, drawn from `seed`: the indices of the remaining rows and of those split
/// off, both ascending. A class with a single row is not split.
pub fn stratified_split(labels: &[u32], share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let classes = labels.iter().max().map_or(0, |&c| c + 1);
    let mut generator = ChaCha8Rng::seed_from_u64(seed);
    let (mut remaining, mut held_out) = (Vec::new(), Vec::new());
    for class in 0..classes {
        let mut rows: Vec<usize> = (0..labels.len()).filter(|&i| labels[i] == class).collect();
        rows.shuffle(&mut generator);
        let count =
            if rows.len() < 2 { 0 } else { ((rows.len() as f64 * share).round() as usize).clamp(1, rows.len() - 1) };
        held_out.extend(rows.drain(..count));
        remaining.extend(rows);
    }
    remaining.sort_unstable();
    held_out.sort_unstable();
    (remaining, held_out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_stratified_and_repeatable() {
        let labels: Vec<u32> = (0..100).map(|i| if i == 0 { 7 } else { i % 3 }).collect();
        let (train, validation) = stratified_split(&labels, 0.2, 5);
        assert_eq!((train.clone(), validation.clone()), stratified_split(&labels, 0.2, 5));
        assert_eq!(train.len() + validation.len(), 100);
        assert!(train.contains(&0), "a class of one row is not split");
        // Three classes of 33 rows: a fifth of each is 6.6.
        assert_eq!(validation.len(), 21);
    }
}
