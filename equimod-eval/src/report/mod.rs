//! One self-contained HTML file: results, curves, pictures. No script, no outside request.

mod html;
mod plots;

use serde::{Deserialize, Serialize};

pub use html::{escape, render};
pub use plots::line_plot;

use crate::results::ResultRow;

/// Everything a report shows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReportData {
    /// Heading.
    pub title: String,
    /// A sentence below it.
    pub summary: String,
    /// `(name, value)`: recipe, seed, version, device, time.
    pub facts: Vec<(String, String)>,
    /// Numbers.
    pub results: Vec<ResultRow>,
    /// Further tables.
    pub tables: Vec<Table>,
    /// Plots over steps.
    pub plots: Vec<Plot>,
    /// Augmented pictures with their parameters.
    pub pictures: Vec<PictureRow>,
    /// The recipe as TOML.
    pub recipe: String,
    /// Licence notices.
    pub notices: Vec<String>,
}

/// A table of texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
    /// Above it.
    pub title: String,
    /// Of its columns.
    pub headings: Vec<String>,
    /// Each as long as the headings.
    pub rows: Vec<Vec<String>>,
}

/// Lines over a common axis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plot {
    /// Above the plot.
    pub title: String,
    /// Below its horizontal axis.
    pub x_label: String,
    /// One or more lines.
    pub series: Vec<Series>,
}

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Series {
    /// In the legend.
    pub name: String,
    /// In the order of x; points that are not finite are left out.
    pub points: Vec<(f64, f64)>,
}

/// A picture and its views.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PictureRow {
    /// Clean picture first.
    pub pictures: Vec<Picture>,
}

/// One picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// Above it.
    pub title: String,
    /// A PNG file.
    pub png: Vec<u8>,
    /// `(name, value)` of what was done.
    pub parameters: Vec<(String, String)>,
}
