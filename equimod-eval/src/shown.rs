//! The images that reports show.

use equimod_data::Dataset;

/// Number of images: odd, because half-way through the bundled images is the same thing in the other design.
const SHOWN: usize = 5;
/// Number of images that are tried for each before it is left out.
const TRIES: usize = 100;

/// Indices of up to five evenly spaced images; one that does not decode gives way to the next that does.
pub fn shown_images(dataset: &dyn Dataset) -> Vec<usize> {
    let (len, count) = (dataset.len(), SHOWN.min(dataset.len()));
    let decodes = |&sample: &usize| dataset.image(sample).is_ok();
    let from = |place: usize| place * len / count;
    (0..count).filter_map(|place| (from(place)..len.min(from(place) + TRIES)).find(decodes)).collect()
}
