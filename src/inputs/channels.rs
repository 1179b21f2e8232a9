//! Channel statistics, transparency and formats of a sample of images.

use std::collections::BTreeMap;

use equimod_data::{Background, Dataset, Image};
use rayon::prelude::*;

/// Sums over pixels, exact in integers: the same for any order and number of threads.
#[derive(Clone, Default)]
pub struct Channels {
    /// Number of images that decode.
    pub images: u64,
    /// Number of images with transparent pixels.
    pub transparent: u64,
    /// Number of those of which all pixels have nearly one color, as they are read.
    pub blank: u64,
    /// Number of images by format, if they are stored encoded.
    pub formats: BTreeMap<&'static str, u64>,
    pixels: u128,
    sums: [u128; 3],
    squares: [u128; 3],
}

impl Channels {
    fn add(mut self, other: Self) -> Self {
        self.images += other.images;
        self.transparent += other.transparent;
        self.blank += other.blank;
        self.pixels += other.pixels;
        for (format, images) in other.formats {
            *self.formats.entry(format).or_default() += images;
        }
        for c in 0..3 {
            self.sums[c] += other.sums[c];
            self.squares[c] += other.squares[c];
        }
        self
    }

    /// Mean of each channel, of values in [0, 1].
    pub fn mean(&self) -> [f64; 3] {
        self.sums.map(|sum| sum as f64 / self.pixels as f64 / 255.0)
    }

    /// Standard deviation of each channel.
    pub fn std(&self) -> [f64; 3] {
        let mean = self.mean();
        std::array::from_fn(|c| {
            let square = self.squares[c] as f64 / self.pixels as f64 / (255.0 * 255.0);
            (square - mean[c] * mean[c]).max(0.0).sqrt()
        })
    }
}

/// Standard deviation of each channel below which an image is blank.
const BLANK: f64 = 0.002;

/// Channel statistics over up to `most` images (0: all), evenly spaced, without images that do not decode.
///
/// # Errors
///
/// If the data set cannot be read, or none of the images decodes.
pub fn channels(dataset: &dyn Dataset, most: usize) -> anyhow::Result<Channels> {
    let count = if most == 0 { dataset.len() } else { dataset.len().min(most) };
    let of = |k: usize| -> equimod_data::Result<Channels> {
        let image = match dataset.image(k * dataset.len() / count) {
            Err(equimod_data::Error::Image { .. }) => return Ok(Channels::default()),
            image => image?,
        };
        let examined = dataset.encoded(k * dataset.len() / count)?.and_then(|bytes| Image::examine(&bytes));
        let transparent = u64::from(examined.as_ref().is_some_and(|examined| examined.transparency.is_some()));
        let formats = examined.into_iter().map(|examined| (examined.format, 1)).collect();
        let pixels = image.size().area() as u128;
        let mut sums = Channels { images: 1, transparent, formats, pixels, ..Channels::default() };
        for pixel in image.pixels().as_chunks::<3>().0 {
            for (c, &value) in pixel.iter().enumerate() {
                sums.sums[c] += u128::from(value);
                sums.squares[c] += u128::from(value) * u128::from(value);
            }
        }
        sums.blank = u64::from(transparent > 0 && sums.std().into_iter().all(|std| std < BLANK));
        Ok(sums)
    };
    let all = (0..count).into_par_iter().map(of).try_reduce(Channels::default, |a, b| Ok(a.add(b)))?;
    if all.images == 0 {
        let reason = "none of its images decode; see `equimod data verify`".to_owned();
        return Err(equimod_data::Error::DataSet { name: dataset.name().into(), reason }.into());
    }
    Ok(all)
}

/// Number of images that are looked at for transparency.
const LOOKED_AT: usize = 32;

/// A warning of images that are read without a background and have transparent pixels, with what to `give` for one.
pub fn ignored_transparency(dataset: &dyn Dataset, background: Background, give: &str) -> Option<String> {
    let seen = transparent(dataset).filter(|_| background.0.is_none())?;
    Some(format!("{seen}; their transparency is ignored, so that these usually become black{give}"))
}

/// A warning of images with transparent pixels of which some are blank in front of their background.
pub fn blank(dataset: &dyn Dataset, background: Background) -> Option<String> {
    let seen = channels(dataset, LOOKED_AT).ok().filter(|seen| seen.blank > 0)?;
    let on = if background.0.is_none() { String::new() } else { format!(" on {background}") };
    let Channels { blank, images, .. } = seen;
    Some(format!("{blank} of {images} sampled images are blank{on}: their shapes are in the alpha alone"))
}

/// How many images of a sample have transparent pixels, in words; `None` if none has, or one cannot be read.
pub fn transparent(dataset: &dyn Dataset) -> Option<String> {
    let count = channels(dataset, LOOKED_AT).ok().map(|seen| seen.transparent).filter(|&count| count > 0)?;
    Some(format!("{count} of {} sampled images have transparent pixels", dataset.len().min(LOOKED_AT)))
}
