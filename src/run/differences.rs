//! Settings in which runs differ.

use std::path::Path;

use equimod_train::run_dir::RESOLVED;
use equimod_train::{RunInfo, affects_weights, changes, recorded};

use super::baseline;
use crate::outputs::suggestion::Suggestion;

/// Most settings of a sentence.
const MOST: usize = 6;

/// Whether a setting differs because another one of `all` that differ does: the settings of a kind, and those of the images.
pub fn follows(name: &str, all: &[String]) -> bool {
    let of_kind = |other: &String| other.strip_suffix("kind").is_some_and(|of| name != other && name.starts_with(of));
    let of_images = ["normalization.", "data.skip_share"].iter().any(|of| name.starts_with(of));
    all.iter().any(of_kind) || (of_images && all.iter().any(|other| other == "data.source"))
}

/// A sentence on what differs between two runs; `None` for a run and its baseline, and for other models.
pub fn between(first: &Path, second: &Path) -> Option<String> {
    if [(first, second), (second, first)].iter().any(|(a, b)| baseline::run_of(a) == Some(*b)) {
        return None;
    }
    let (one, other) = (RunInfo::read(first).ok()?, RunInfo::read(second).ok()?);
    let [before, after] = [first, second].map(|run| recorded(&run.join(RESOLVED)));
    let all = changes(&before.ok()?, &after.ok()?).into_iter().map(|change| change.setting);
    let all: Vec<String> = all.filter(|name| affects_weights(name)).collect();
    let names: Vec<&str> = all.iter().map(String::as_str).filter(|name| !follows(name, &all)).collect();
    let images = (one.data_fingerprint != other.data_fingerprint).then_some("their training images");
    let weights = (one.from != other.from).then_some("the weights they started from");
    let shown: Vec<&str> = images.into_iter().chain(weights).chain(names.iter().copied().take(MOST)).collect();
    let more = match names.len().saturating_sub(MOST) {
        0 => String::new(),
        more => {
            let report = Suggestion::new([Path::new("report"), first, second].map(|path| path.display().to_string()));
            format!(" and {more} more (`{}` lists them)", report.lines("", None))
        }
    };
    (!shown.is_empty()).then(|| format!("the two runs differ in {}{more}", shown.join(", ")))
}
