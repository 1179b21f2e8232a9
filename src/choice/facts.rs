//! Facts about images and machine, from which settings are chosen.

use std::collections::BTreeMap;
use std::thread::available_parallelism;

use candle_core::{Device, DeviceLocation};
use equimod_data::source::ReadOptions;
use equimod_data::{Background, Dataset};

use crate::inputs::channels::{Channels, channels};
use crate::inputs::sources::training;
use crate::process::device::describe;
use crate::process::memory::Memory;
use crate::reference::plain_name;

/// Largest number of images whose headers are read.
const HEADERS: usize = 400;
/// Largest and smallest number of images that are decoded, and the number of pixels that they may have together.
const MOST_DECODED: usize = 256;
const LEAST_DECODED: usize = 16;
const PIXELS: usize = 200_000_000;
/// Smallest number of images for which there is a choice.
const FEWEST: usize = 8;
/// Largest share of the decoded images that may fail.
const MOST_FAILED: f64 = 0.1;

/// Facts about images and machine.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Training images.
    pub images: Images,
    /// Machine.
    pub machine: Machine,
}

/// Facts about training images, from a sample that is evenly spaced.
#[derive(Clone, Debug)]
pub struct Images {
    /// Data source.
    pub source: String,
    /// Number of images.
    pub count: usize,
    /// Number of images whose sizes were read.
    pub sized: usize,
    /// Smallest, median and largest short side in pixels.
    pub short_sides: [usize; 3],
    /// Number of images that were decoded or failed to.
    pub decoded: usize,
    /// Number of those that failed.
    pub failed: usize,
    /// Number of those with transparent pixels.
    pub transparent: usize,
    /// Number of those by format, if they are stored encoded.
    pub formats: BTreeMap<&'static str, u64>,
    /// Color behind transparent pixels, if there are any.
    pub background: Option<Behind>,
    /// Mean of red, green and blue in [0, 1], in front of that color.
    pub mean: [f64; 3],
    /// Standard deviation of red, green and blue.
    pub std: [f64; 3],
    /// Name and number of classes of each kind of labels.
    pub labels: Vec<(String, usize)>,
}

/// The color behind transparent pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Behind {
    /// The color.
    pub color: Background,
    /// Whether it is that of a setting.
    pub is_given: bool,
    /// Number of decoded images that are blank in front of it, and in front of white.
    pub blank: [u64; 2],
}

/// Colors behind transparent pixels, of which the first with the fewest blank images is chosen.
const COLORS: [Background; 3] = [Background(Some([255; 3])), Background(Some([0; 3])), Background(Some([128; 3]))];

/// Facts about the machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Cores that the process may use. The number of threads does not count, since it must not change results.
    pub cores: usize,
    /// Name of the GPU, if training is on one.
    pub gpu: Option<String>,
    /// Memory of all GPUs or of the machine in bytes, if it is known.
    pub memory: Option<u64>,
    /// Number of ranks.
    pub ranks: usize,
}

impl Facts {
    /// Facts about the images of `source`, in front of a `background` if one is given, and about this machine, with one rank
    /// on each device.
    ///
    /// # Errors
    ///
    /// If the images cannot be read, are too few, or too many of them do not decode.
    pub fn of(source: &str, background: Option<Background>, devices: &[Device]) -> anyhow::Result<Self> {
        Ok(Self { images: Images::of(source, background)?, machine: Machine::of(devices) })
    }
}

impl Images {
    fn of(source: &str, given: Option<Background>) -> anyhow::Result<Self> {
        let (dataset, _) = training(source, ReadOptions::default())?;
        let count = dataset.len();
        if count < FEWEST {
            let images = if count == 1 { "image" } else { "images" };
            let text = format!("it holds {count} {images}, and pretraining needs at least {FEWEST}, better thousands");
            return Err(unfit(source, text));
        }
        let sizes = dataset.sample_sizes(HEADERS)?;
        let mut short_sides: Vec<usize> = sizes.iter().map(|size| size.height.min(size.width)).collect();
        short_sides.sort_unstable();
        let area = sizes.iter().map(|size| size.area()).sum::<usize>() / sizes.len().max(1);
        let decoded = (PIXELS / area.max(1)).clamp(LEAST_DECODED, MOST_DECODED).min(count);
        let Seen { channels, failed, transparent, background } = Seen::of(dataset.as_ref(), source, given, decoded)?;
        let side = |at: usize| short_sides.get(at).copied().unwrap_or(0);
        let last = short_sides.len().saturating_sub(1);
        Ok(Self {
            source: plain_name(source).into(),
            count,
            sized: sizes.len(),
            short_sides: [side(0), side(sizes.len() / 2), side(last)],
            decoded,
            failed,
            transparent,
            background,
            mean: channels.mean(),
            std: channels.std(),
            formats: channels.formats,
            labels: labels(dataset.as_ref()),
        })
    }
}

/// Images that were decoded.
struct Seen {
    channels: Channels,
    failed: usize,
    transparent: usize,
    background: Option<Behind>,
}

impl Seen {
    /// Decodes `number` images; if some have transparent pixels, in front of the `given` color, else of white or, if fewer are
    /// blank on it, of black or gray.
    fn of(dataset: &dyn Dataset, source: &str, given: Option<Background>, number: usize) -> anyhow::Result<Self> {
        let seen = channels(dataset, number)?;
        let (failed, transparent) = (number - seen.images as usize, seen.transparent as usize);
        if failed as f64 > MOST_FAILED * number as f64 {
            let text = format!(
                "{failed} of {number} images that were looked at do not decode; `equimod data verify {source}` lists \
                 them: repair or remove them"
            );
            return Err(unfit(source, text));
        }
        if transparent == 0 {
            return Ok(Self { channels: seen, failed, transparent, background: None });
        }
        let in_front_of = |background: Background| -> anyhow::Result<Channels> {
            let options = ReadOptions { background, ..ReadOptions::default() };
            channels(training(source, options)?.0.as_ref(), number)
        };
        let mut color = given.unwrap_or(COLORS[0]);
        let mut best = in_front_of(color)?;
        let first = best.blank;
        for other in COLORS.into_iter().skip(1) {
            if given.is_some() || best.blank == 0 {
                break;
            }
            let seen = in_front_of(other)?;
            if seen.blank < best.blank {
                (color, best) = (other, seen);
            }
        }
        let behind = Behind { color, is_given: given.is_some(), blank: [best.blank, first] };
        Ok(Self { channels: best, failed, transparent, background: Some(behind) })
    }
}

fn unfit(source: &str, reason: String) -> anyhow::Error {
    equimod_data::Error::DataSet { name: source.into(), reason }.into()
}

/// Name and number of classes of each kind of labels.
fn labels(dataset: &dyn Dataset) -> Vec<(String, usize)> {
    dataset.tasks().iter().map(|task| (task.name.clone(), task.classes.len())).collect()
}

impl Machine {
    fn of(devices: &[Device]) -> Self {
        let first = devices.first().unwrap_or(&Device::Cpu);
        let gpu = (!first.is_cpu()).then(|| describe(first));
        let memory = match first.location() {
            DeviceLocation::Cpu => {
                // What is free changes from minute to minute, and with it the choice would.
                let Memory { memory_bytes, memory_limit_bytes, .. } = Memory::measured();
                memory_limit_bytes.or(memory_bytes)
            }
            #[cfg(feature = "cuda")]
            DeviceLocation::Cuda { gpu_id } => {
                let card = crate::process::cuda::card(gpu_id).ok();
                card.map(|card| card.memory * devices.len() as u64)
            }
            _ => None,
        };
        let cores = available_parallelism().map_or(1, Into::into);
        Self { cores, gpu, memory, ranks: devices.len().max(1) }
    }
}
