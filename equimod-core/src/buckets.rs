//! Gradients that are summed over processes while the backward pass still computes others.

use candle_core::Tensor;

use crate::Result;
use crate::collective::{Collective, Exchange, Reduction, check_number};
use crate::params::{GradientSink, Gradients};

/// Size of a bucket in bytes: 25 MiB, the default `bucket_cap_mb` of PyTorch's `DistributedDataParallel`.
pub const BUCKET_BYTES: usize = 25 << 20;

/// Sink that sums gradients over all processes, in buckets of about equal size.
///
/// A bucket's exchange starts as soon as the bucket is full. Every rank inserts the same parameters in the same order,
/// so the buckets are the same on all ranks. With one process, gradients are collected without buckets.
pub struct Buckets<'a> {
    collective: &'a dyn Collective,
    limit: usize,
    /// Names and gradients of the bucket that is being filled.
    names: Vec<String>,
    tensors: Vec<Tensor>,
    bytes: usize,
    /// Names of each started bucket, and its exchange.
    started: Vec<(Vec<String>, Box<dyn Exchange>)>,
    /// Gradients of a single process.
    collected: Gradients,
}

impl<'a> Buckets<'a> {
    /// Buckets of [`BUCKET_BYTES`].
    pub fn new(collective: &'a dyn Collective) -> Self {
        Self::with_limit(collective, BUCKET_BYTES)
    }

    /// Buckets that are full at `limit` bytes.
    pub fn with_limit(collective: &'a dyn Collective, limit: usize) -> Self {
        let (names, tensors, started) = (Vec::new(), Vec::new(), Vec::new());
        Self { collective, limit, names, tensors, bytes: 0, started, collected: Gradients::default() }
    }

    /// Exchanges the last bucket, waits for all, and returns the sums over all processes.
    ///
    /// # Errors
    ///
    /// If communication fails, or a parameter was inserted twice.
    pub fn finish(mut self) -> Result<Gradients> {
        self.start()?;
        let mut gradients = self.collected;
        for (names, exchange) in self.started {
            let sums = exchange.finish()?;
            check_number(&sums, names.len())?;
            for (name, sum) in names.iter().zip(sums) {
                gradients.insert(name, sum)?;
            }
        }
        Ok(gradients)
    }

    /// Starts the exchange of the bucket that is being filled, if it holds gradients.
    fn start(&mut self) -> Result<()> {
        if self.names.is_empty() {
            return Ok(());
        }
        let (names, tensors) = (std::mem::take(&mut self.names), std::mem::take(&mut self.tensors));
        self.bytes = 0;
        self.started.push((names, self.collective.start_all_reduce(tensors, Reduction::Sum)?));
        Ok(())
    }
}

impl GradientSink for Buckets<'_> {
    fn insert(&mut self, name: &str, gradient: Tensor) -> Result<()> {
        if self.collective.size() == 1 {
            return self.collected.insert(name, gradient);
        }
        self.bytes += gradient.elem_count() * gradient.dtype().size_in_bytes();
        self.names.push(name.to_owned());
        self.tensors.push(gradient.detach());
        if self.bytes >= self.limit { self.start() } else { Ok(()) }
    }
}
