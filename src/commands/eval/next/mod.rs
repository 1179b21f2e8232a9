//! Commands that follow an evaluation.

mod comparison;
mod evaluation;
mod transfer;

use equimod_eval::ResultRow;
use equimod_eval::verdict::depends_on_draw;

use crate::outputs::suggestion::Suggestion;
pub use comparison::after_comparison;
pub use evaluation::after_evaluation;
pub use transfer::after_transfer;

/// Arguments of an evaluation with which others see the same images in the same way.
#[derive(Default)]
pub struct Kept {
    /// The images, if they were named.
    pub data: Option<String>,
    /// The other arguments.
    pub others: Vec<String>,
    /// The arguments of the classifier.
    pub of_classifier: Vec<String>,
    /// Whether the command of this process is the evaluation, which can be repeated with more.
    pub is_of_this: bool,
}

impl Kept {
    /// The images, if they were named.
    fn data(&self) -> Option<&str> {
        self.data.as_deref()
    }
}

/// The same evaluation with another draw of held-out images, where these show a clear difference.
fn other_draw(kept: &Kept, rows: &[ResultRow]) -> Option<Suggestion> {
    let is_first = kept.is_of_this && !kept.others.iter().any(|option| option == "--seed");
    if !is_first || !depends_on_draw(rows) {
        return None;
    }
    // References that this evaluation had from an earlier one are measured anew.
    let has = |of: fn(&ResultRow) -> bool| rows.iter().any(of);
    let references = [
        ("--untrained", has(|row| row.over_untrained.is_some())),
        ("--baseline", has(|row| row.over_baseline.is_some())),
    ];
    let again = Suggestion::again_with(&[("--seed", "1".to_owned())]);
    let measured = references.into_iter().filter(|(_, is_there)| *is_there);
    let again = measured.fold(again, |again, (option, _)| again.with_option(option));
    Some(again.about("whether other held-out images say the same"))
}
