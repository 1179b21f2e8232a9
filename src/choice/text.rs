//! Text of a chosen recipe: TOML in which each choice has its reason, and a summary.

use toml::Value;

use super::facts::{Facts, Images, Machine};
use super::rules::{AS_GIVEN, Choice, Chosen};
use crate::process::memory::mebibytes;

/// The built-in recipe on which chosen ones build.
const BASE: &str = "simclr-equimod-cifar10";

/// A chosen recipe, with the facts behind it.
pub struct Written {
    /// Facts about images and machine.
    pub facts: Facts,
    /// Settings.
    pub choice: Choice,
}

impl Written {
    /// The recipe as TOML. `by` is the command that chose it.
    pub fn text(&self, by: &str) -> String {
        let (Facts { images, machine }, version) = (&self.facts, env!("CARGO_PKG_VERSION"));
        let Choice { batch, epochs, .. } = &self.choice;
        let head = [
            format!("Chosen by `{by}` {version} for these images and this machine; edit it as you like."),
            String::new(),
            format!("Images:  {}", counted(images)),
            format!("         {}", sided(images)),
            format!("Labels:  {}", labeled(images)),
            format!("Machine: {}", machine_described(machine)),
            format!("Steps:   {} of {} images; epochs: {}", self.steps(), batch.value, epochs.value),
            "Time:    measured by `equimod init`, and by `equimod pretrain --dry-run` with this file as --recipe"
                .into(),
        ];
        let head: String =
            head.iter().map(|line| format!("# {}", one_line(line)).trim_end().to_owned() + "\n").collect();
        format!("{head}\n{}", self.settings())
    }

    /// One-line summary of the purpose of the recipe.
    pub fn about(&self) -> String {
        format!("SimCLR + EquiMod on {}", self.images())
    }

    /// Number and source of the images.
    fn images(&self) -> String {
        let Images { count, source, .. } = &self.facts.images;
        format!("{count} images of {source}")
    }

    /// Name of the recipe with further `settings`: [`about`](Self::about), without the method if they change it.
    pub fn name_with(&self, settings: &[String]) -> String {
        let is_of_method = |setting: &String| ["objective.", "equivariance."].iter().any(|of| setting.starts_with(of));
        if settings.iter().any(is_of_method) { self.images() } else { self.about() }
    }

    /// Number of steps of the run.
    pub fn steps(&self) -> u64 {
        let Choice { batch, epochs, .. } = &self.choice;
        (self.facts.images.count / batch.value.max(1)) as u64 * epochs.value
    }

    /// What was chosen, in a few lines.
    pub fn summary(&self) -> String {
        let (Facts { images, machine }, choice) = (&self.facts, &self.choice);
        let Choice { size, architecture, stem, width, batch, epochs, policy, background, .. } = choice;
        let mut lines = vec![
            format!("chosen for {} images of {}, and {}:", images.count, images.source, machine_described(machine)),
            format!("{}; {}; labels: {}", counted(images), sided(images), labeled(images)),
            views(size),
            format!(
                "{}{}, {} stem{}, width {} ({})",
                architecture.value,
                given(architecture),
                stem.value,
                given(stem),
                width.value,
                width.why
            ),
            format!("batch {} ({}), epochs {} ({})", batch.value, batch.why, epochs.value, epochs.why),
            format!("augmentations {}{}, {}", policy.value, given(policy), choice.normalization()),
        ];
        let data = background.iter().map(behind);
        lines.extend(data.chain(choice.skip_share.iter().map(|share| share.why.clone())));
        lines.join("\n  ")
    }

    /// What was chosen about the views, in one line.
    pub fn summary_of_views(&self) -> String {
        let Choice { size, policy, background, .. } = &self.choice;
        let parts = [views(size), format!("augmentations {}", policy.value)];
        parts.into_iter().chain(background.iter().map(behind)).collect::<Vec<_>>().join(", ")
    }

    /// The settings, each with its reason.
    fn settings(&self) -> String {
        let (images, choice) = (&self.facts.images, &self.choice);
        let about = self.about();
        let mut text =
            format!("about = {}\nbase = {BASE:?} # `equimod list recipes` has other methods\n", toml(&about));
        if let Some([_, steps]) = &choice.on_gpu {
            text += &format!("log_every_steps = {}\n", plain(steps));
        }
        text += &format!("\n[data]\nsource = {}\nbatch = {}\n", toml(&images.source), plain(&choice.batch));
        text +=
            &choice.background.as_ref().map_or_else(String::new, |color| format!("background = {}\n", quoted(color)));
        text +=
            &choice.skip_share.as_ref().map_or_else(String::new, |share| format!("skip_share = {}\n", plain(share)));
        text += &format!("\n[augmentation]\npolicy = {}\nsize = {}\n", quoted(&choice.policy), plain(&choice.size));
        text += &format!("\n[normalization]\nmean = {}\nstd = {}\n", list(&choice.mean), list(&choice.std));
        text += &format!(
            "\n[backbone]\narchitecture = {}\nstem = {}\nwidth = {}\n",
            quoted(&choice.architecture),
            quoted(&choice.stem),
            plain(&choice.width)
        );
        if let Some([precision, _]) = &choice.on_gpu {
            text += &format!("\n[execution]\nprecision = {}\n", quoted(precision));
        }
        text += &self.heads();
        let Choice { epochs, warmup_epochs, learning_rate, checkpoint_epochs, .. } = choice;
        let (epochs, warmup) = (plain(epochs), decimal(warmup_epochs));
        let rate = decimal(learning_rate);
        text += &format!("\n[schedule]\nepochs = {epochs}\nwarmup_epochs = {warmup}\nlearning_rate = {rate}\n");
        text + &format!("\n[checkpoint]\nevery_epochs = {}\n", plain(checkpoint_epochs))
    }

    /// The settings of objective and module that depend on the width.
    fn heads(&self) -> String {
        let Chosen { value: [hidden, output], why } = &self.choice.heads;
        format!(
            "\n[objective]\nprojection_head = \"{hidden}-{hidden}-{output} bn-\" # {why}\ntemperature = 0.2 # as in the \
             recipes quick and simclr-imagenet\n\n[equivariance.equimod]\nprojection_head = \
             \"{hidden}-{hidden}-{output} bn-\" # as that of the objective\nparameter_head = \"{output} bn\" # as wide \
             as the embeddings\npredictor = \"{output} bn-\" # likewise\n"
        )
    }
}

/// The size of the views.
fn views(size: &Chosen<usize>) -> String {
    format!("views of {} px ({})", size.value, size.why)
}

/// What lies behind transparent pixels.
fn behind(color: &Chosen<String>) -> String {
    match color.value.as_str() {
        "" => format!("transparency ignored ({})", color.why),
        name => format!("{name} background ({})", color.why),
    }
}

/// A remark on a name that was given; empty for a chosen one.
fn given(name: &Chosen<String>) -> &'static str {
    if name.why == AS_GIVEN { " (as given)" } else { "" }
}

/// Number of images, and how many of them were looked at.
fn counted(images: &Images) -> String {
    let formats: Vec<String> = images.formats.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let formats = if formats.is_empty() { String::new() } else { format!(" ({})", formats.join(", ")) };
    let Images { count, sized, decoded, failed, .. } = images;
    format!("{count} images; {sized} headers read, {} of {decoded} images decoded{formats}", decoded - failed)
}

/// Short sides of the images.
fn sided(images: &Images) -> String {
    let [least, median, largest] = images.short_sides;
    match least == largest {
        true => format!("short sides of {median} px"),
        false => format!("short sides {least} to {largest} px, median {median} px"),
    }
}

/// Kinds of labels.
fn labeled(images: &Images) -> String {
    let counted = |classes: usize| match classes {
        1 => "1 class, which no evaluation can tell from others".to_owned(),
        classes => format!("{classes} classes"),
    };
    let labels = images.labels.iter().map(|(name, classes)| format!("{name} ({})", counted(*classes)));
    let labels: Vec<String> = labels.collect();
    if labels.is_empty() { "none".into() } else { labels.join(", ") }
}

/// The machine in a few words.
fn machine_described(machine: &Machine) -> String {
    let cores = if machine.cores == 1 { "1 core".into() } else { format!("{} cores", machine.cores) };
    let memory = machine.memory.map_or_else(String::new, |bytes| format!(", {} of memory", mebibytes(bytes)));
    match (&machine.gpu, machine.ranks) {
        (Some(gpu), 1) => format!("{cores}, {gpu}{memory}"),
        (Some(gpu), ranks) => format!("{cores}, {ranks} GPUs from {gpu} on{memory}"),
        (None, _) => format!("{cores}{memory}, no GPU that this build uses"),
    }
}

/// A text whose names, such as those of label columns, cannot end the comment in which it stands.
fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// A string as TOML.
fn toml(text: &str) -> String {
    Value::String(text.into()).to_string()
}

/// A string as TOML, with its reason.
fn quoted<T: AsRef<str>>(chosen: &Chosen<T>) -> String {
    format!("{} # {}", toml(chosen.value.as_ref()), one_line(&chosen.why))
}

/// A number as TOML, with its reason.
fn plain<T: std::fmt::Display>(chosen: &Chosen<T>) -> String {
    format!("{} # {}", chosen.value, one_line(&chosen.why))
}

/// A number with a decimal point, with its reason.
fn decimal(chosen: &Chosen<f64>) -> String {
    format!("{:?} # {}", chosen.value, chosen.why)
}

/// A list of numbers, with its reason.
fn list(chosen: &Chosen<[f64; 3]>) -> String {
    format!("{:?} # {}", chosen.value, chosen.why)
}
