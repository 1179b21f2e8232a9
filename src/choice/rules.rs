//! Rules that choose settings from facts.

use equimod_data::loader::SKIP_SHARE;

use equimod_data::Background;

use super::facts::{Behind, Facts, Images, Machine};

/// Sides of views in pixels.
const SIDES: [usize; 5] = [32, 64, 96, 128, 224];
/// Largest side of views on a CPU.
const LARGEST_ON_CPU: usize = 128;
/// Largest side of views for which the CIFAR stem is used.
const LARGEST_FOR_CIFAR_STEM: usize = 64;
/// Number of images from which a GPU trains a ResNet-50.
const MANY_IMAGES: usize = 100_000;
/// Images over all epochs on a GPU, as published on CIFAR-10: 800 epochs of 50 000.
const SHOWN_ON_GPU: f64 = 4e7;
/// Images over all epochs on a CPU, for views that cost as much as 32 pixels with the CIFAR stem.
const SHOWN_ON_CPU: f64 = 1e6;
/// Cost of an image relative to 32 pixels with the CIFAR stem above which the size's reason says it.
const WORTH_SAYING: f64 = 1.5;
/// Memory in bytes of the activations of a view of 32 pixels in a ResNet-18 with CIFAR stem and width 64, rounded up.
const VIEW_BYTES: f64 = 6e6;
/// Views of an image in a step: two, and the original image.
const VIEWS: f64 = 3.0;
/// Smallest standard deviation that divides pixel values, for images of one color.
const LEAST_STD: f64 = 0.01;

/// Reason for a value that was given.
pub const AS_GIVEN: &str = "as given";

/// A value with the reason for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen<T> {
    /// Value of the setting.
    pub value: T,
    /// Reason, with the number that it comes from.
    pub why: String,
}

impl<T> Chosen<T> {
    fn new(value: T, why: impl Into<String>) -> Self {
        Self { value, why: why.into() }
    }
}

/// Settings of the command line on which others depend.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Given {
    /// `augmentation.size`.
    pub size: Option<usize>,
    /// `backbone.width`.
    pub width: Option<usize>,
    /// `data.batch`.
    pub batch: Option<usize>,
    /// `schedule.epochs`.
    pub epochs: Option<u64>,
    /// `schedule.learning_rate`.
    pub learning_rate: Option<f64>,
    /// `data.background`.
    pub background: Option<Background>,
    /// `augmentation.policy`, if it is a name.
    pub policy: Option<String>,
    /// `backbone.architecture`.
    pub architecture: Option<String>,
    /// `backbone.stem`.
    pub stem: Option<String>,
    /// Whether `normalization` is set.
    pub normalization: bool,
}

impl Given {
    /// The settings of the form `key=value` in `settings`, of which later ones win. Values that are not numbers are
    /// left to the recipe, which reports them.
    pub fn of(settings: &[String]) -> Self {
        let value = |name: &str| {
            let pairs = settings.iter().rev().filter_map(|setting| setting.split_once('='));
            pairs.filter(|(key, _)| key.trim() == name).map(|(_, value)| value.trim()).next()
        };
        let number = |name: &str| value(name).and_then(|value| value.parse().ok()).filter(|&number| number > 0);
        let text = |name: &str| value(name).map(|value| value.trim_matches('"').to_owned());
        Self {
            size: number("augmentation.size"),
            width: number("backbone.width"),
            batch: number("data.batch"),
            epochs: value("schedule.epochs").and_then(|value| value.parse().ok()),
            learning_rate: value("schedule.learning_rate").and_then(|value| value.parse().ok()),
            background: text("data.background").and_then(|value| value.parse().ok()),
            policy: text("augmentation.policy").filter(|name| !name.starts_with(['{', '['])),
            architecture: text("backbone.architecture"),
            stem: text("backbone.stem"),
            normalization: settings.iter().any(|setting| setting.trim_start().starts_with("normalization")),
        }
    }
}

/// Settings of a recipe.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// `data.batch`.
    pub batch: Chosen<usize>,
    /// `data.background`, if images have transparent pixels.
    pub background: Option<Chosen<String>>,
    /// `data.skip_share`, if some images do not decode.
    pub skip_share: Option<Chosen<f64>>,
    /// `augmentation.policy`.
    pub policy: Chosen<String>,
    /// `augmentation.size`.
    pub size: Chosen<usize>,
    /// `normalization.mean`.
    pub mean: Chosen<[f64; 3]>,
    /// `normalization.std`.
    pub std: Chosen<[f64; 3]>,
    /// Whether `normalization` is set on the command line.
    pub normalized_as_given: bool,
    /// `backbone.architecture`.
    pub architecture: Chosen<String>,
    /// `backbone.stem`.
    pub stem: Chosen<String>,
    /// `backbone.width`.
    pub width: Chosen<usize>,
    /// Widths of the hidden layers and of the output of the heads.
    pub heads: Chosen<[usize; 2]>,
    /// `schedule.epochs`.
    pub epochs: Chosen<u64>,
    /// `schedule.warmup_epochs`.
    pub warmup_epochs: Chosen<f64>,
    /// `schedule.learning_rate`.
    pub learning_rate: Chosen<f64>,
    /// `checkpoint.every_epochs`.
    pub checkpoint_epochs: Chosen<u64>,
    /// `execution.precision` and `log_every_steps`, on a GPU.
    pub on_gpu: Option<[Chosen<&'static str>; 2]>,
}

impl Choice {
    /// How pixels are normalized, in words.
    pub fn normalization(&self) -> &'static str {
        if self.normalized_as_given {
            "normalization as given"
        } else {
            "normalization by the images' own mean and standard deviation"
        }
    }
}

/// Chooses settings. The same facts give the same choice.
pub fn choose(facts: &Facts, given: &Given) -> Choice {
    let Facts { images, machine } = facts;
    let mut size = size(images, machine, given);
    let stem = or_given(&given.stem, stem(size.value));
    let architecture = or_given(&given.architecture, architecture(images, machine, size.value));
    let width = width(machine, given);
    let network =
        Network { size: size.value, stem: &stem.value, architecture: &architecture.value, width: width.value };
    if machine.gpu.is_none() && network.area() > WORTH_SAYING {
        let slower = if size.value < LARGEST_ON_CPU && network.area() > 2.0 {
            format!(", and longer than at {LARGEST_ON_CPU} px, where the first layers quarter each side")
        } else {
            String::new()
        };
        size.why += &format!("; an image takes about {:.0} times as long as at 32 px{slower}", network.area());
    }
    let batch = batch(images, machine, given, &network);
    let epochs = epochs(images, machine, given, &network);
    Choice {
        background: background(images),
        skip_share: skip_share(images),
        policy: or_given(&given.policy, policy(size.value)),
        mean: Chosen::new(
            images.mean.map(rounded),
            format!("of the {} decoded images", images.decoded - images.failed),
        ),
        std: std(images),
        normalized_as_given: given.normalization,
        heads: heads(width.value),
        warmup_epochs: warmup_epochs(epochs.value),
        learning_rate: learning_rate(batch.value, &architecture.value, given),
        checkpoint_epochs: Chosen::new(
            (epochs.value / 20).max(1),
            "a twentieth of the epochs; the newest two checkpoints are kept",
        ),
        on_gpu: machine.gpu.as_ref().map(|_| {
            [
                Chosen::new("auto", "bf16 on GPUs that have it"),
                Chosen::new("20", "a GPU waits for the host only when it logs"),
            ]
        }),
        batch,
        size,
        architecture,
        stem,
        width,
        epochs,
    }
}

/// The name of a setting if it is given, or else the chosen one.
fn or_given(given: &Option<String>, chosen: Chosen<&'static str>) -> Chosen<String> {
    match given {
        Some(given) => Chosen::new(given.clone(), AS_GIVEN),
        None => Chosen::new(chosen.value.to_owned(), chosen.why),
    }
}

/// The network and its input, which determine the cost of an image.
struct Network<'a> {
    size: usize,
    stem: &'a str,
    architecture: &'a str,
    width: usize,
}

impl Network<'_> {
    /// Area of the first stage's input relative to 32 × 32. The ImageNet stem takes a quarter of each side.
    fn area(&self) -> f64 {
        let side = if self.stem == "imagenet" { self.size as f64 / 4.0 } else { self.size as f64 };
        (side / 32.0).powi(2)
    }

    /// Memory in bytes of the activations of an image and its views, roughly.
    fn bytes(&self) -> f64 {
        // The output of the ImageNet stem has the width of the first stage, and four times its area.
        let stem = if self.stem == "imagenet" { 1.5 } else { 1.0 };
        let blocks = if self.architecture == "resnet50" { 4.0 } else { 1.0 };
        VIEWS * VIEW_BYTES * self.area() * stem * blocks * self.width as f64 / 64.0
    }
}

fn size(images: &Images, machine: &Machine, given: &Given) -> Chosen<usize> {
    if let Some(size) = given.size {
        return Chosen::new(size, AS_GIVEN);
    }
    let median = images.short_sides[1];
    let filled = SIDES.into_iter().rfind(|&side| side <= median).unwrap_or(SIDES[0]);
    match machine.gpu {
        None if filled > LARGEST_ON_CPU => Chosen::new(
            LARGEST_ON_CPU,
            format!("median short side {median} px; above {LARGEST_ON_CPU} px, a CPU takes too long"),
        ),
        _ => Chosen::new(filled, format!("median short side {median} px")),
    }
}

fn stem(size: usize) -> Chosen<&'static str> {
    let limit = LARGEST_FOR_CIFAR_STEM;
    match size {
        size if size <= limit => {
            Chosen::new("cifar", format!("{size} px: up to {limit} px, the first layers keep the resolution"))
        }
        size => Chosen::new("imagenet", format!("{size} px: above {limit} px, the first layers quarter each side")),
    }
}

fn architecture(images: &Images, machine: &Machine, size: usize) -> Chosen<&'static str> {
    let count = images.count;
    match machine.gpu {
        Some(_) if count >= MANY_IMAGES && size >= 224 => {
            Chosen::new("resnet50", format!("{count} images of {size} px, and a GPU"))
        }
        Some(_) => {
            Chosen::new("resnet18", format!("{count} images of {size} px; a ResNet-50 is for {MANY_IMAGES} of 224"))
        }
        None => Chosen::new("resnet18", "the smallest one, for a CPU"),
    }
}

fn width(machine: &Machine, given: &Given) -> Chosen<usize> {
    if let Some(width) = given.width {
        return Chosen::new(width, AS_GIVEN);
    }
    match (&machine.gpu, machine.cores) {
        (Some(gpu), _) => Chosen::new(64, format!("the usual width, on {gpu}")),
        (None, 32..) => Chosen::new(64, format!("the usual width, on {} cores", machine.cores)),
        (None, 8..) => Chosen::new(32, format!("half of the usual width, for {} cores without a GPU", machine.cores)),
        (None, cores) => Chosen::new(16, format!("a quarter of the usual width, for {cores} cores without a GPU")),
    }
}

fn batch(images: &Images, machine: &Machine, given: &Given, network: &Network) -> Chosen<usize> {
    if let Some(batch) = given.batch {
        return Chosen::new(batch, AS_GIVEN);
    }
    let (most, place) = match (&machine.gpu, machine.cores) {
        (Some(gpu), _) => (512, format!("as published, on {gpu}")),
        (None, 32..) => (256, format!("for {} cores", machine.cores)),
        (None, 8..) => (128, format!("for {} cores", machine.cores)),
        (None, cores) => (64, format!("for {cores} cores")),
    };
    let by_images = power_of_two(images.count / 2);
    let of_memory = machine.memory.map(|bytes| power_of_two((bytes as f64 / 2.0 / network.bytes()) as usize));
    let by_memory = of_memory.unwrap_or(most);
    let batch = most.min(by_images).min(by_memory).max(2);
    let why = match batch {
        _ if batch == most => place,
        _ if by_images <= by_memory => format!("at most half of the {} images", images.count),
        _ => "so that a step takes half of the memory".into(),
    };
    // Each rank takes an equal share of at least two images.
    let ranks = machine.ranks;
    Chosen::new((batch - batch % ranks).max(2 * ranks), why)
}

/// The largest power of two up to `number`, at least 1.
fn power_of_two(number: usize) -> usize {
    1 << number.max(1).ilog2()
}

fn epochs(images: &Images, machine: &Machine, given: &Given, network: &Network) -> Chosen<u64> {
    if let Some(epochs) = given.epochs {
        return Chosen::new(epochs, AS_GIVEN);
    }
    let count = images.count;
    let (shown, least, most) = match machine.gpu {
        Some(_) => (SHOWN_ON_GPU, 100, 800),
        None => (SHOWN_ON_CPU / network.area(), 10, 200),
    };
    let wanted = (shown / count as f64).round() as u64;
    let why = match wanted {
        _ if wanted > most => {
            let with = if machine.gpu.is_some() { "with" } else { "without" };
            format!("the most that is chosen {with} a GPU, for only {count} images")
        }
        _ if wanted < least => format!("the fewest, for as many as {count} images"),
        _ => format!("{count} images, about {shown:.0} in all epochs together"),
    };
    Chosen::new(wanted.clamp(least, most), why)
}

fn warmup_epochs(epochs: u64) -> Chosen<f64> {
    let tenth = epochs as f64 / 10.0;
    match tenth {
        tenth if tenth > 10.0 => Chosen::new(10.0, "as published"),
        tenth => Chosen::new(tenth, "a tenth of the epochs"),
    }
}

fn learning_rate(batch: usize, architecture: &str, given: &Given) -> Chosen<f64> {
    if let Some(rate) = given.learning_rate {
        return Chosen::new(rate, AS_GIVEN);
    }
    match batch {
        _ if architecture == "resnet50" => {
            Chosen::new(2.4, "as published for a ResNet-50; `equimod find-lr` tests others")
        }
        64.. => Chosen::new(4.0, "as in the recipes with batches of 64 and 512; `equimod find-lr` tests others"),
        batch => {
            let rate = 4.0 * (batch as f64 / 64.0).sqrt();
            Chosen::new((rate * 100.0).round() / 100.0, format!("4.0·√({batch}/64), for a small batch"))
        }
    }
}

fn policy(size: usize) -> Chosen<&'static str> {
    match size {
        size if size <= LARGEST_FOR_CIFAR_STEM => {
            Chosen::new("simclr-cifar10", format!("{size} px: crops, flips, colors; blur erases small images"))
        }
        size => Chosen::new("simclr-imagenet", format!("{size} px: crops, flips, stronger colors, blur")),
    }
}

fn background(images: &Images) -> Option<Chosen<String>> {
    let (transparent, decoded) = (images.transparent, images.decoded - images.failed);
    let have = format!("{transparent} of {decoded} images have transparent pixels");
    let Behind { color, is_given, blank: [blank, on_white] } = images.background?;
    let parts = [
        is_given.then(|| AS_GIVEN.to_owned()),
        Some(have),
        (!is_given && blank < on_white).then(|| format!("{on_white} of them blank on white")),
        (blank > 0)
            .then(|| format!("{blank} of them blank on it, which `equimod data verify --background {color}` names")),
    ];
    let why: Vec<String> = parts.into_iter().flatten().collect();
    Some(Chosen::new(color.to_string(), why.join("; ")))
}

fn skip_share(images: &Images) -> Option<Chosen<f64>> {
    let Images { failed, decoded, count, .. } = *images;
    if failed > 0 {
        let share = (failed as f64 / decoded.max(1) as f64 * 200.0).ceil() / 100.0;
        let why = "twice the share of images that do not decode";
        return Some(Chosen::new(
            share.min(1.0),
            format!("{why}, {failed} of {decoded}; `equimod data verify` lists them"),
        ));
    }
    // One broken image among those that were not tried is more than the default share of a small folder.
    let allows_none = decoded < count && count as f64 * SKIP_SHARE < 1.0;
    let why = format!("room for one that does not decode, since only {decoded} of {count} images were tried");
    allows_none.then(|| Chosen::new((1e4 / count as f64).ceil() / 1e4, why))
}

fn std(images: &Images) -> Chosen<[f64; 3]> {
    let why = match images.std.iter().any(|&std| std < LEAST_STD) {
        true => format!("of the same images, at least {LEAST_STD}: a channel is constant"),
        false => "of the same images".into(),
    };
    Chosen::new(images.std.map(|std| rounded(std.max(LEAST_STD))), why)
}

fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn heads(width: usize) -> Chosen<[usize; 2]> {
    let output = if width < 32 { 64 } else { 128 };
    Chosen::new([(32 * width).max(output), output], format!("hidden layers of 32 × width {width}, as published for 64"))
}
