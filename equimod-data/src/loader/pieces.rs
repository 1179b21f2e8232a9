//! Batches, and pieces of them.

use super::skipped::Skipped;
use crate::image::{Image, Size};
use crate::{Error, Result};

/// Pictures of one size: `count` × height × width × 3 bytes, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Number of pictures.
    pub count: usize,
    /// Of each.
    pub size: Size,
    /// Row by row, red, green, blue.
    pub bytes: Vec<u8>,
}

impl Pixels {
    pub(super) fn empty(size: Size, capacity: usize) -> Self {
        Self { count: 0, size, bytes: Vec::with_capacity(capacity * size.area() * 3) }
    }

    pub(super) fn push(&mut self, image: &Image) -> Result<()> {
        if image.size() != self.size {
            let text =
                format!("a view came out as {}, not {}; let the policy end in one size", image.size(), self.size);
            return Err(Error::Config(text));
        }
        self.bytes.extend_from_slice(image.pixels());
        self.count += 1;
        Ok(())
    }
}

/// One batch, or this process's share of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// From 0.
    pub epoch: u64,
    /// Batch of the epoch, from 0.
    pub index: usize,
    /// The pictures without augmentation, if asked for.
    pub clean: Option<Pixels>,
    /// One entry a view.
    pub views: Vec<Pixels>,
    /// Normalised parameter vectors, `count × width` values: one entry a view, or one for the pair of views; none if not
    /// asked for.
    pub params: Vec<Vec<f32>>,
    /// One more view, if asked for.
    pub small: Option<Pixels>,
    /// If asked for, normalised vectors from view 1 to view 2 and from view 2 to view 1, `count × width` values each.
    pub pairs: Vec<Vec<f32>>,
    /// Which pictures of the data set.
    pub indices: Vec<usize>,
    /// Pictures that did not decode and were replaced, in the order of their places.
    pub skipped: Vec<Skipped>,
}

impl Batch {
    /// Takes the pictures out and leaves the buffers.
    pub(super) fn clear(&mut self) {
        for pixels in self.views.iter_mut().chain(&mut self.clean).chain(&mut self.small) {
            pixels.bytes.clear();
            pixels.count = 0;
        }
        self.params.iter_mut().chain(&mut self.pairs).for_each(Vec::clear);
        self.indices.clear();
        self.skipped.clear();
    }
}

/// Pieces one after the other, in the buffers of `spare` if there is one.
pub(super) fn join(pieces: &[Batch], spare: Option<Batch>) -> Result<Batch> {
    let Some(first) = pieces.first() else { return Err(Error::Config("a batch came without pictures".into())) };
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
        batch.indices.extend_from_slice(&piece.indices);
        batch.skipped.extend_from_slice(&piece.skipped);
    }
    Ok(batch)
}
