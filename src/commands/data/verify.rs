//! `equimod data verify`.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::ExitCode;

use equimod_core::checkpoint::{sha256, write_atomic};
use equimod_data::formats::{Kind, of_extension};
use equimod_data::loader::SKIP_SHARE;
use equimod_data::{Background, Dataset, Error, Image, PackedDataset, Transparency};
use rayon::prelude::*;
use serde::Serialize;

use crate::cli::Verify;
use crate::inputs::sources::splits;
use crate::outputs::console;
use crate::process::exit;
use crate::reference::PREFIX;

/// Decodes every image and reports failures, suspicious files, and ignored files.
pub fn run(arguments: &Verify) -> anyhow::Result<ExitCode> {
    let path = Path::new(&arguments.source.source);
    if PackedDataset::is_at(path) {
        PackedDataset::open(path)?.verify()?;
    }
    let dataset = arguments.source.open()?;
    let reading = arguments.source.reading.reading();
    let mut verification = Verification::of(dataset.as_ref(), reading.background)?;
    // Test images on the Hub may not be here.
    if !arguments.source.test && !arguments.source.source.starts_with(PREFIX) {
        verification.in_test = splits(&arguments.source.source, reading)?.test.map(|test| verification.shared(&*test));
    }
    if let Some(out) = &arguments.out {
        write_atomic(out, &serde_json::to_vec_pretty(&verification)?)?;
    }
    if arguments.json {
        console::json(&verification)?;
    } else {
        console::sentences(&verification.text())?;
    }
    let sound = verification.failed.is_empty() && verification.unopened.is_empty();
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(exit::DATA) })
}

/// An image with a remark.
#[derive(Serialize)]
struct Remark {
    index: usize,
    path: String,
    reason: String,
}

/// Result of the verification.
#[derive(Serialize)]
struct Verification {
    name: String,
    images: usize,
    decoded: usize,
    /// Number of decoded images by format, if they are stored encoded.
    formats: BTreeMap<&'static str, usize>,
    failed: Vec<Remark>,
    /// Number of failed images in unsupported formats, by format.
    unread: BTreeMap<&'static str, usize>,
    suspicious: Vec<Remark>,
    misnamed: Vec<Remark>,
    /// Number of images with transparent pixels, and their paths.
    transparent: usize,
    transparent_paths: Vec<String>,
    /// Transparent images that have only one color without their alpha or, with a background, in front of it.
    one_color: Vec<Remark>,
    /// Images with the pixels of an earlier one.
    identical: Vec<Remark>,
    /// Test images with the pixels of a training image, if there are test images.
    in_test: Option<Vec<Remark>>,
    unopened: Vec<Unopened>,
    leftovers: BTreeMap<String, usize>,
    others: BTreeMap<String, usize>,
    fingerprint: String,
    /// Hash of the pixels of all images, in order; it does not depend on their location or storage.
    content: String,
    /// Path of the first image with given pixels.
    #[serde(skip)]
    first: HashMap<String, String>,
    #[serde(skip)]
    background: Background,
    #[serde(skip)]
    passed_over: Vec<String>,
    #[serde(skip)]
    unread_indices: Vec<usize>,
}

#[derive(Serialize)]
struct Unopened {
    path: String,
    reason: String,
}

/// A decoded image.
struct Decoded {
    pixels: String,
    format: Option<&'static str>,
    doubts: String,
    transparency: Option<Transparency>,
    /// Whether all pixels are the same as they are read, in front of the background if there is one.
    is_blank: bool,
}

fn look(dataset: &dyn Dataset, index: usize) -> Result<Decoded, Remark> {
    let remark = |error: Error| match error {
        Error::Image { key, reason } => Remark { index, path: key, reason },
        other => Remark { index, path: dataset.key(index), reason: other.to_string() },
    };
    let image = dataset.image(index).map_err(remark)?;
    let pixels = pixels_hash(&image);
    let examined = dataset.encoded(index).map_err(remark)?.and_then(|bytes| Image::examine(&bytes));
    let doubts = examined.as_ref().map(|examined| examined.doubts.join(", ")).unwrap_or_default();
    let transparency = examined.as_ref().and_then(|examined| examined.transparency);
    let is_blank = image.pixels().as_chunks::<3>().0.windows(2).all(|pair| pair[0] == pair[1]);
    Ok(Decoded { pixels, format: examined.map(|examined| examined.format), doubts, transparency, is_blank })
}

fn pixels_hash(image: &Image) -> String {
    sha256(&[image.size().to_string().as_bytes(), image.pixels()].concat())
}

impl Verification {
    fn of(dataset: &dyn Dataset, background: Background) -> anyhow::Result<Self> {
        let looked: Vec<_> = (0..dataset.len()).into_par_iter().map(|index| look(dataset, index)).collect();
        let unread = dataset.unread();
        let passed_over = dataset.passed_over().cloned().unwrap_or_default();
        let mut verification = Self {
            name: dataset.name().into(),
            images: dataset.len(),
            decoded: 0,
            formats: BTreeMap::new(),
            failed: Vec::new(),
            unread: counted(unread.values().copied()),
            suspicious: Vec::new(),
            misnamed: Vec::new(),
            transparent: 0,
            transparent_paths: Vec::new(),
            one_color: Vec::new(),
            identical: Vec::new(),
            in_test: None,
            first: HashMap::new(),
            unopened: Vec::new(),
            fingerprint: dataset.fingerprint()?,
            content: String::new(),
            background,
            passed_over: passed_over.clauses(),
            unread_indices: unread.into_keys().collect(),
            leftovers: passed_over.leftovers,
            others: passed_over.others,
        };
        let unopened =
            |(path, reason): (std::path::PathBuf, String)| Unopened { path: path.display().to_string(), reason };
        verification.unopened = passed_over.unopened.into_iter().map(unopened).collect();
        let mut pixels = String::new();
        for (index, looked) in looked.into_iter().enumerate() {
            match looked {
                Ok(decoded) => {
                    pixels += &decoded.pixels;
                    verification.add(index, dataset.key(index), decoded);
                }
                Err(remark) => verification.failed.push(remark),
            }
        }
        verification.content = sha256(pixels.as_bytes());
        Ok(verification)
    }

    /// Images of another data set with the pixels of one of these.
    fn shared(&self, test: &dyn Dataset) -> Vec<Remark> {
        let as_here = |index: usize| {
            let first = self.first.get(&pixels_hash(&test.image(index).ok()?))?;
            Some(Remark { index, path: test.key(index), reason: format!("as {first}") })
        };
        (0..test.len()).into_par_iter().filter_map(as_here).collect()
    }

    fn add(&mut self, index: usize, path: String, decoded: Decoded) {
        self.decoded += 1;
        match self.first.entry(decoded.pixels) {
            Entry::Occupied(first) => {
                self.identical.push(Remark { index, path: path.clone(), reason: format!("as {}", first.get()) });
            }
            Entry::Vacant(place) => _ = place.insert(path.clone()),
        }
        let Some(format) = decoded.format else { return };
        *self.formats.entry(format).or_default() += 1;
        if !has_extension_of(&path, format) {
            self.misnamed.push(Remark { index, path: path.clone(), reason: format!("its content is {format}") });
        }
        if decoded.transparency.is_some() {
            self.transparent += 1;
            self.transparent_paths.push(path.clone());
        }
        let reason = match self.background {
            Background(None) if decoded.transparency == Some(Transparency::OneColor) => {
                Some("without its alpha, it has only one color".to_owned())
            }
            Background(Some(_)) if decoded.transparency.is_some() && decoded.is_blank => {
                Some(format!("on {}, it has only one color", self.background))
            }
            _ => None,
        };
        self.one_color.extend(reason.map(|reason| Remark { index, path: path.clone(), reason }));
        if !decoded.doubts.is_empty() {
            self.suspicious.push(Remark { index, path, reason: decoded.doubts });
        }
    }

    /// Text report.
    fn text(&self) -> String {
        let is_unread = |remark: &&Remark| self.unread_indices.binary_search(&remark.index).is_ok();
        let unread: Vec<&Remark> = self.failed.iter().filter(is_unread).collect();
        let failed: Vec<&Remark> = self.failed.iter().filter(|remark| !is_unread(remark)).collect();
        let suspicious: Vec<&Remark> = self.suspicious.iter().collect();
        let misnamed: Vec<&Remark> = self.misnamed.iter().collect();
        let mut text = section("Not decoded", "", &failed);
        text += &section("In formats that are not read", &format!(" ({})", listed(&self.unread)), &unread);
        text += &section("Decoded, but suspicious", "", &suspicious);
        text += &section("Named like another format, and read by the content", "", &misnamed);
        text += &section("Transparent, with one color in all pixels", "", &self.one_color.iter().collect::<Vec<_>>());
        text += &section("With the pixels of an earlier image", "", &self.identical.iter().collect::<Vec<_>>());
        let in_test: Vec<&Remark> = self.in_test.iter().flatten().collect();
        text += &section("Test images with the pixels of a training image", "", &in_test);
        if self.transparent > 0 {
            text += &format!("{}\n", transparent(self.transparent, self.background));
            // Where most images have them, their names say nothing.
            let few = self.transparent_paths.iter().filter(|_| self.transparent <= SHOWN);
            few.for_each(|path| text += &format!("  {path}\n"));
            if self.transparent > SHOWN {
                text += "  (--json or --out has their paths)\n";
            }
            text += "\n";
        }
        if !self.passed_over.is_empty() {
            text += &format!("Ignored: {}\n\n", self.passed_over.join(", "));
        }
        let formats = if self.formats.is_empty() { String::new() } else { format!(" ({})", listed(&self.formats)) };
        text += &format!("{}: {} of {} images decode{formats}\n", self.name, self.decoded, self.images);
        let share = self.failed.len() as f64 / self.images.max(1) as f64;
        if share > SKIP_SHARE {
            text += &format!(
                "{:.1} % fail, and training allows {} %: repair or remove them, or set data.skip_share={:.4}\n",
                100.0 * share,
                100.0 * SKIP_SHARE,
                (share * 1e4).ceil() / 1e4
            );
        }
        text + &format!("fingerprint {}\ncontent {}\n", self.fingerprint, self.content)
    }
}

/// Sentence on images with transparent pixels, which are blended with `background`.
pub fn transparent(images: usize, background: Background) -> String {
    match background {
        Background(None) => format!(
            "{images} images have transparent pixels, which show the color stored behind them unless a background is \
             set: data.background = \"white\" in a recipe, --background white here"
        ),
        color => format!(
            "{images} images have transparent pixels, here on {color}; in a recipe, set data.background = \"{color}\""
        ),
    }
}

/// Number of images in a section of the text report; JSON has all of them.
const SHOWN: usize = 20;

fn section(title: &str, details: &str, remarks: &[&Remark]) -> String {
    if remarks.is_empty() {
        return String::new();
    }
    let mut text = format!("{title}: {}{details}\n", remarks.len());
    remarks.iter().take(SHOWN).for_each(|remark| text += &format!("  {}: {}\n", remark.path, remark.reason));
    if remarks.len() > SHOWN {
        text += &format!("  … and {} more (all with --json or --out)\n", remarks.len() - SHOWN);
    }
    text + "\n"
}

fn counted(formats: impl Iterator<Item = &'static str>) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    formats.for_each(|format| *counts.entry(format).or_default() += 1);
    counts
}

fn listed(counts: &BTreeMap<&'static str, usize>) -> String {
    counts.iter().map(|(format, count)| format!("{count} {format}")).collect::<Vec<_>>().join(", ")
}

/// Whether a path has an extension of the format, or no extension of an image.
fn has_extension_of(path: &str, format: &str) -> bool {
    let extension = Path::new(path).extension().unwrap_or_default().to_string_lossy();
    match of_extension(&extension) {
        Kind::Read(named) => named == format,
        Kind::Unread(_) | Kind::Other => true,
    }
}
