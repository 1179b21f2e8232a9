//! Arguments that name images or a model: local paths and references to the Hub.

pub mod channels;
pub mod evaluated_data;
#[cfg(feature = "mnist")]
mod mnist;
pub mod model_argument;
pub mod sources;
