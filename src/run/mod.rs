//! A training run: its forecast, probe, trace, files and report.

pub mod again;
pub mod ancestry;
pub mod baseline;
pub mod differences;
pub mod facts;
pub mod files;
pub mod forecast;
pub mod labels;
pub mod lengths;
pub mod measured_method;
pub mod mlflow;
pub mod noise;
pub mod probe;
pub mod rehearsal;
pub mod report;
pub mod seeds;
pub mod trace;
