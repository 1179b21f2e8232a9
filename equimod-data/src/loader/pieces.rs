//! Batches and their pieces.

use super::deferred::Deferred;
use super::pixels::Pixels;
use super::skipped::Skipped;
use crate::{Error, Result};

/// One batch, or this process's share of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Epoch, from 0.
    pub epoch: u64,
    /// Index of the batch in the epoch, from 0.
    pub index: usize,
    /// Original (un-augmented) images, if requested.
    pub clean: Option<Pixels>,
    /// Augmented images, one entry per view.
    pub views: Vec<Pixels>,
    /// Normalized parameter vectors, `count × width` values per entry: one entry per view, or one for the pair of
    /// views; empty if not requested.
    pub params: Vec<Vec<f32>>,
    /// Images of the additional view, if requested.
    pub small: Option<Pixels>,
    /// Normalized vectors from view 1 to view 2 and from view 2 to view 1, `count × width` values each; empty if not
    /// requested.
    pub pairs: Vec<Vec<f32>>,
    /// Indices of the images in the data set.
    pub indices: Vec<usize>,
    /// Images that did not decode and were replaced, in order.
    pub skipped: Vec<Skipped>,
    /// What `clean`, `views` and `small` are made from, if a device makes them; they have no pixels then.
    pub deferred: Option<Deferred>,
}

impl Batch {
    /// Removes all images but keeps the buffers.
    pub(super) fn clear(&mut self) {
        for pixels in self.views.iter_mut().chain(&mut self.clean).chain(&mut self.small) {
            pixels.bytes.clear();
            pixels.count = 0;
        }
        self.params.iter_mut().chain(&mut self.pairs).for_each(Vec::clear);
        self.indices.clear();
        self.skipped.clear();
        self.deferred.iter_mut().for_each(Deferred::clear);
    }

    /// The batch with all images, of which the deferred ones are made on the CPU.
    ///
    /// # Errors
    ///
    /// If plans do not fit their images.
    pub fn finished(mut self) -> Result<Self> {
        let Some(deferred) = self.deferred.take() else { return Ok(self) };
        let make = |planned| deferred.make(planned);
        self.views = deferred.views.iter().map(make).collect::<Result<_>>()?;
        self.clean = deferred.clean.as_ref().map(make).transpose()?;
        self.small = deferred.small.as_ref().map(make).transpose()?;
        Ok(self)
    }
}

/// Concatenates pieces, in the buffers of `spare` if there is one.
pub(super) fn join(pieces: &[Batch], spare: Option<Batch>) -> Result<Batch> {
    let Some(first) = pieces.first() else { return Err(Error::Config("a batch has no images".into())) };
    let mut batch = spare.unwrap_or_else(|| first.clone());
    (batch.epoch, batch.index) = (first.epoch, first.index);
    batch.clear();
    for piece in pieces {
        let pixels = batch.views.iter_mut().chain(&mut batch.clean).chain(&mut batch.small);
        for (pixels, more) in pixels.zip(piece.views.iter().chain(&piece.clean).chain(&piece.small)) {
            pixels.bytes.extend_from_slice(&more.bytes);
            pixels.count += more.count;
        }
        let params = batch.params.iter_mut().chain(&mut batch.pairs);
        for (params, more) in params.zip(piece.params.iter().chain(&piece.pairs)) {
            params.extend_from_slice(more);
        }
        if let (Some(deferred), Some(more)) = (&mut batch.deferred, &piece.deferred) {
            deferred.append(more);
        }
        batch.indices.extend_from_slice(&piece.indices);
        batch.skipped.extend_from_slice(&piece.skipped);
    }
    Ok(batch)
}
