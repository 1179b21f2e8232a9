//! Rows of images in a page.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{ImageRow, ReportImage, escape};

/// Images of a row that leave room for another row beside it.
const FEW: usize = 3;

/// `(name, value)` pairs as the entries of a definition list.
pub fn pairs(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(k, v)| format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(k), escape(v))).collect()
}

/// Rows of images, each image with its title above and its parameters below.
pub fn image_rows(rows: &[ImageRow]) -> String {
    let row = |row: &ImageRow| format!("<div class=\"row\">{}</div>", row.images.iter().map(image).collect::<String>());
    let class = if rows.iter().all(|row| row.images.len() <= FEW) { "few" } else { "many" };
    format!("<div class=\"{class}\">{}</div>", rows.iter().map(row).collect::<String>())
}

fn image(image: &ReportImage) -> String {
    let (class, mark) = match image.correct {
        None => ("", ""),
        Some(true) => (" class=\"right\"", "✓ "),
        Some(false) => (" class=\"wrong\"", "✗ "),
    };
    format!(
        "<figure{class}><figcaption>{mark}{title}</figcaption><img alt=\"{title}\" \
         src=\"data:image/png;base64,{}\"><dl>{}</dl></figure>",
        STANDARD.encode(&image.png),
        pairs(&image.parameters),
        title = escape(&image.title),
    )
}
