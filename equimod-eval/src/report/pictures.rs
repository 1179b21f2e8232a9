//! Rows of pictures inside the page.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Picture, PictureRow, escape};

/// `(name, value)` as the entries of a list of definitions.
pub fn pairs(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(k, v)| format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(k), escape(v))).collect()
}

/// Rows of pictures, each with its title above and its parameters below.
pub fn picture_rows(rows: &[PictureRow]) -> String {
    let row =
        |row: &PictureRow| format!("<div class=\"row\">{}</div>", row.pictures.iter().map(picture).collect::<String>());
    rows.iter().map(row).collect()
}

fn picture(picture: &Picture) -> String {
    let (class, mark) = match picture.right {
        None => ("", ""),
        Some(true) => (" class=\"right\"", "✓ "),
        Some(false) => (" class=\"wrong\"", "✗ "),
    };
    format!(
        "<figure{class}><figcaption>{mark}{title}</figcaption><img alt=\"{title}\" \
         src=\"data:image/png;base64,{}\"><dl>{}</dl></figure>",
        STANDARD.encode(&picture.png),
        pairs(&picture.parameters),
        title = escape(&picture.title),
    )
}
