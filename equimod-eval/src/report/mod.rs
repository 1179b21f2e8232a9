//! One self-contained HTML file: results, curves, pictures. No script, no outside request.

mod escape;
mod html;
mod pictures;
mod plots;

use serde::{Deserialize, Serialize};

pub use escape::escape;
pub use html::render;
pub use plots::figure;

use crate::predictions::Bin;
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
    /// What is shown before the numbers.
    pub lead: Vec<Section>,
    /// Numbers.
    pub results: Vec<ResultRow>,
    /// What is shown below them, in this order.
    pub sections: Vec<Section>,
    /// The recipe as TOML.
    pub recipe: String,
    /// Licence notices.
    pub notices: Vec<String>,
}

/// Figures under one heading; one without anything to show is left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Section {
    /// The heading.
    pub title: String,
    /// Below it.
    pub figures: Vec<Figure>,
}

impl Section {
    /// Figures under the heading `title`.
    pub fn new(title: &str, figures: Vec<Figure>) -> Self {
        Self { title: title.into(), figures }
    }

    /// A table that is a section of its own.
    pub fn table(title: &str, table: Table) -> Self {
        Self::new(title, vec![Figure::Table(table)])
    }

    /// Line plots beside each other.
    pub fn lines(title: &str, plots: Vec<Plot>) -> Self {
        Self::new(title, plots.into_iter().map(Figure::Lines).collect())
    }
}

/// One thing to look at.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Figure {
    /// Texts in rows and columns.
    Table(Table),
    /// Lines over a common axis.
    Lines(Plot),
    /// A bar a value.
    Bars(Bars),
    /// Confidence beside accuracy.
    Reliability(Reliability),
    /// Points in the plane, coloured by class.
    Map(Map),
    /// Rows of pictures.
    Pictures(Vec<PictureRow>),
    /// A paragraph.
    Text(String),
}

/// A table of texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Table {
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

/// Horizontal bars from 0, each with another value beside it if there is one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bars {
    /// Above the plot.
    pub title: String,
    /// What the bars are.
    pub name: String,
    /// What is beside them, e.g. a control.
    pub beside: Option<String>,
    /// From the top.
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// Before it.
    pub label: String,
    /// Its length.
    pub value: f64,
    /// A 95 % interval.
    pub interval: Option<(f64, f64)>,
    /// The value beside it.
    pub beside: Option<f64>,
}

/// A reliability diagram (Guo et al., arXiv 1706.04599).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    /// Above the plot.
    pub title: String,
    /// Intervals of confidence of equal width.
    pub bins: Vec<Bin>,
}

/// A two-dimensional map of features.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Map {
    /// Above the plot.
    pub title: String,
    /// One a class: its name and its points.
    pub classes: Vec<(String, Vec<(f64, f64)>)>,
}

/// A picture and what belongs to it: its views, its nearest neighbours, the classes it is taken for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PictureRow {
    /// What it is about first.
    pub pictures: Vec<Picture>,
}

/// One picture.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// Above it.
    pub title: String,
    /// A PNG file.
    pub png: Vec<u8>,
    /// `(name, value)` of what was done, or is known of it.
    pub parameters: Vec<(String, String)>,
    /// Whether it is right, where that is the question.
    pub right: Option<bool>,
}
