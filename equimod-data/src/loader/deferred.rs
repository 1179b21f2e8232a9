//! Images of a batch that a device makes from the originals.

use crate::image::{Image, Size};
use crate::plan::ViewPlan;
use crate::resample::Weights;
use crate::{Error, Result};

use super::pixels::Pixels;

/// Originals of a batch, and plans of the images that are made from them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deferred {
    /// Bytes of the originals, one after the other, each row by row in the order red, green, blue.
    pub bytes: Vec<u8>,
    /// Place of the first byte and size of each original.
    pub originals: Vec<(usize, Size)>,
    /// Plans of the clean images, if requested.
    pub clean: Option<PlannedViews>,
    /// Plans of the augmented images, one entry per view.
    pub views: Vec<PlannedViews>,
    /// Plans of the small views, if requested.
    pub small: Option<PlannedViews>,
}

/// Planned images of one size.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedViews {
    /// Size of each image, in pixels.
    pub size: Size,
    /// The images, in order.
    pub views: Vec<PlannedView>,
}

/// A planned image.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedView {
    /// Index of its original.
    pub original: usize,
    /// How it is made.
    pub plan: ViewPlan,
    /// Resampling weights of its columns, along the rows of the plan's part.
    pub columns: Weights,
    /// Resampling weights of its rows, along the columns of the plan's part.
    pub rows: Weights,
}

impl PlannedViews {
    pub(super) fn empty(size: Size) -> Self {
        Self { size, views: Vec::new() }
    }

    /// Adds a view of the original with index `original`.
    pub(super) fn push(&mut self, original: usize, plan: ViewPlan) -> Result<()> {
        if plan.output_size() != self.size {
            return Err(Pixels::of_another_size(plan.output_size(), self.size));
        }
        let (columns, rows) = plan.weights();
        self.views.push(PlannedView { original, plan, columns, rows });
        Ok(())
    }
}

impl Deferred {
    fn planned(&self) -> impl Iterator<Item = &PlannedViews> {
        self.views.iter().chain(&self.clean).chain(&self.small)
    }

    fn planned_mut(&mut self) -> impl Iterator<Item = &mut PlannedViews> {
        self.views.iter_mut().chain(&mut self.clean).chain(&mut self.small)
    }

    /// Adds an original and returns its index.
    pub(super) fn push(&mut self, image: &Image) -> usize {
        self.originals.push((self.bytes.len(), image.size()));
        self.bytes.extend_from_slice(image.pixels());
        self.originals.len() - 1
    }

    /// Removes all images but keeps the buffers.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.originals.clear();
        self.planned_mut().for_each(|planned| planned.views.clear());
    }

    /// Appends the images of another piece.
    pub(super) fn append(&mut self, more: &Self) {
        let (start, first) = (self.bytes.len(), self.originals.len());
        self.bytes.extend_from_slice(&more.bytes);
        self.originals.extend(more.originals.iter().map(|&(place, size)| (start + place, size)));
        for (planned, more) in self.planned_mut().zip(more.planned()) {
            let moved = |view: &PlannedView| PlannedView { original: first + view.original, ..view.clone() };
            planned.views.extend(more.views.iter().map(moved));
        }
    }

    /// Original image with index `index`.
    fn original(&self, index: usize) -> Result<Image> {
        let missing = || Error::Config(format!("a planned view needs original {index}, which the batch does not have"));
        let &(place, size) = self.originals.get(index).ok_or_else(missing)?;
        let bytes = self.bytes.get(place..place + size.area() * 3).ok_or_else(missing)?;
        Image::new(size, bytes.to_vec())
    }

    /// Makes planned images on the CPU.
    pub(super) fn make(&self, planned: &PlannedViews) -> Result<Pixels> {
        let mut pixels = Pixels::empty(planned.size, planned.views.len());
        for view in &planned.views {
            pixels.push(&view.plan.make(&self.original(view.original)?))?;
        }
        Ok(pixels)
    }
}
