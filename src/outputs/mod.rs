//! Output for people: the console, files of an evaluation, images.

pub mod brief;
pub mod console;
pub mod contact_sheet;
pub mod evaluation;
mod narrow;
pub mod progress;
pub mod suggestion;
mod terminal;
pub mod verdict;
