//! Studies: many runs in cells, each with several seeds, summarized with paired differences from baselines.
//!
//! A [`StudyRecord`] holds every raw number; tables and pages are made from it alone.

mod effects;
mod hits;
mod page;
mod record;
mod statistics;
mod tables;
mod verdict;

pub use effects::{ALPHA, Effect, Spread, effects, headline, spread};
pub use hits::Hits;
pub use page::{figures, page};
pub use record::{Cell, FORMAT, Measure, Run, State, StudyRecord};
pub use statistics::{PairedT, deviation, holm, mean, paired_t};
pub use tables::{latex, markdown, spreads};
pub use verdict::verdict;
