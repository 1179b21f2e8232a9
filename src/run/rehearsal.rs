//! A rank without others, to measure what it holds and exchanges.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use candle_core::Tensor;
use equimod_core::{Collective, CollectiveResult, Reduction, SharedCollective};

/// The first of several ranks that all have the same tensors; counts the bytes that it gives to exchanges.
#[derive(Clone)]
pub struct Rehearsal {
    ranks: usize,
    bytes: Arc<AtomicU64>,
}

impl Rehearsal {
    /// The first of `ranks` ranks.
    pub fn new(ranks: usize) -> Self {
        Self { ranks, bytes: Arc::default() }
    }

    /// Shared handle to the first of `ranks` ranks.
    pub fn shared(ranks: usize) -> SharedCollective {
        Arc::new(Self::new(ranks))
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    fn count(&self, tensors: &[Tensor]) {
        if self.ranks > 1 {
            let bytes: usize = tensors.iter().map(|t| t.elem_count() * t.dtype().size_in_bytes()).sum();
            self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }
}

impl Collective for Rehearsal {
    fn rank(&self) -> usize {
        0
    }

    fn size(&self) -> usize {
        self.ranks
    }

    fn is_deterministic(&self) -> bool {
        true
    }

    fn all_reduce(&self, tensors: &[Tensor], reduction: Reduction) -> CollectiveResult<Vec<Tensor>> {
        self.count(tensors);
        let one = |tensor: &Tensor| match reduction {
            Reduction::Sum if tensor.dtype().is_float() => tensor.detach() * self.ranks as f64,
            _ => tensor.detach().copy(),
        };
        Ok(tensors.iter().map(one).collect::<candle_core::Result<_>>()?)
    }

    fn all_gather(&self, tensor: &Tensor) -> CollectiveResult<Tensor> {
        self.count(std::slice::from_ref(tensor));
        Ok(Tensor::cat(&vec![tensor.detach(); self.ranks], 0)?)
    }

    fn broadcast(&self, tensors: &[Tensor], _root: usize) -> CollectiveResult<Vec<Tensor>> {
        self.count(tensors);
        Ok(tensors.to_vec())
    }
}
