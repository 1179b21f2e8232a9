//! Cross-entropy of rows against its definition.

use super::super::contract::Backend;
use super::*;

const COLUMNS: usize = 12;
const ROWS: usize = 4;

fn rules() -> Vec<RowTargets> {
    let of = |positives, decoupled| RowTargets { first: 2, local: 8, offset: 3, positives, decoupled };
    let positives = [Positives::SameRow, Positives::OtherHalf, Positives::OtherHalfWithoutSiblings];
    positives.into_iter().flat_map(|positives| [of(positives, false), of(positives, true)]).collect()
}

/// The loss of a row by its definition.
fn defined(values: &[f64], row: usize, targets: &RowTargets) -> f64 {
    let positive = targets.positive(row);
    let left_out: Vec<usize> = targets.excluded(row).chain(targets.decoupled.then_some(positive)).collect();
    let counts = |column: &usize| !left_out.contains(column);
    let sum: f64 = (0..values.len()).filter(counts).map(|column| values[column].exp()).sum();
    sum.ln() - values[positive]
}

#[test]
fn targets_are_the_pairs_of_nt_xent() {
    let rule =
        RowTargets { first: 0, local: 8, offset: 10, positives: Positives::OtherHalfWithoutSiblings, decoupled: false };
    // Embeddings 0 and 1 are view 1, and 2 and 3 view 2, of two images; 4 to 7 repeat them.
    assert_eq!((rule.positive(1), rule.excluded(1).collect::<Vec<_>>()), (15, vec![11, 13, 17]));
    assert_eq!((rule.positive(6), rule.excluded(6).collect::<Vec<_>>()), (12, vec![16, 14, 10]));
}

#[test]
fn cross_entropies_are_their_definition_and_gradients_its_differences() {
    let s = values(&[ROWS, COLUMNS], 30);
    let narrow_s = narrow(&s);
    for rule in rules() {
        let exact = vector(&s);
        let loss = |values: &[f64]| -> Vec<f64> {
            values.chunks(COLUMNS).enumerate().map(|(row, values)| defined(values, row, &rule)).collect()
        };
        let off = |backend: &dyn Backend, s: &Tensor| {
            let (losses, weights) = backend.cross_entropy_rows(s.copy().unwrap(), &rule).unwrap();
            let largest = |a: Vec<f64>, b: Vec<f64>| a.iter().zip(b).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs()));
            let slopes = (0..exact.len()).map(|i| {
                let moved = |by: f64| {
                    let mut values = exact.clone();
                    values[i] += by;
                    loss(&values)[i / COLUMNS]
                };
                (moved(1e-5) - moved(-1e-5)) / 2e-5
            });
            (largest(vector(&losses), loss(&exact)), largest(vector(&weights), slopes.collect()))
        };
        // Central differences have an error of 1e-9; composed losses are rounded to f32.
        let backends: [(&dyn Backend, &Tensor, f64, f64); 3] = [
            (super::super::of(&s), &s, 1e-14, 1e-9),
            (super::super::of(&narrow_s), &narrow_s, 1e-6, 1e-6),
            (&Composed, &s, 1e-6, 1e-9),
        ];
        for (backend, s, bound, slope_bound) in backends {
            let (loss, slope) = off(backend, s);
            assert!(loss < bound && slope < slope_bound, "{rule:?}: {loss:e} {slope:e}");
        }
    }
}

#[test]
fn a_row_that_is_compared_with_nothing_has_the_loss_of_its_similarity() {
    // One image: both the row itself and its positive are excluded.
    let rule = RowTargets { first: 0, local: 2, offset: 0, positives: Positives::OtherHalf, decoupled: true };
    let s = Tensor::new(&[[1.0f64, 0.25], [0.5, 1.0]], &Device::Cpu).unwrap();
    for backend in [super::super::of(&s), &Composed as &dyn Backend] {
        let (losses, weights) = backend.cross_entropy_rows(s.copy().unwrap(), &rule).unwrap();
        assert_eq!((vector(&losses), vector(&weights)), (vec![-0.25, -0.5], vec![0.0, -1.0, -1.0, 0.0]));
    }
}

#[test]
fn targets_that_do_not_fit_are_refused() {
    let rule = RowTargets { first: 2, local: 5, offset: 0, positives: Positives::SameRow, decoupled: false };
    assert!(cross_entropy_rows(values(&[ROWS, COLUMNS], 1), &rule).is_err());
    let rule = RowTargets { local: 6, offset: 7, ..rule };
    assert!(cross_entropy_rows(values(&[ROWS, COLUMNS], 1), &rule).is_err());
}
