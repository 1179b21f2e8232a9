//! Figures in HTML.

use super::definitions::definitions;
use super::images::image_rows;
use super::{Figure, Table, escape, figure};
use crate::results::ResultRow;

/// Consecutive drawings share a grid; every other figure has a line of its own.
pub fn figures(all: &[Figure]) -> String {
    let mut text = String::new();
    for group in all.chunk_by(|a, b| is_drawing(a) && is_drawing(b)) {
        match &group[0] {
            Figure::Table(one) => text += &table(one),
            Figure::Images(rows) => text += &image_rows(rows),
            Figure::Text(one) => text += &format!("<p>{}</p>", escape(one)),
            Figure::Definitions(rows) => text += &definition_list(rows),
            _ => {
                let drawn: String = group.iter().filter_map(figure).collect();
                if !drawn.is_empty() {
                    text += &format!("<div class=\"plots\">{drawn}</div>");
                }
            }
        }
    }
    text
}

fn is_drawing(figure: &Figure) -> bool {
    !matches!(figure, Figure::Table(_) | Figure::Images(_) | Figure::Text(_) | Figure::Definitions(_))
}

/// The definitions of the measures in some rows; empty without one.
pub fn definition_list(rows: &[ResultRow]) -> String {
    let pair = |(name, text): (&str, &str)| format!("<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(text));
    let list: String = definitions(rows).into_iter().map(pair).collect();
    if list.is_empty() { list } else { format!("<dl class=\"definitions\">{list}</dl>") }
}

fn table(Table { headings, rows }: &Table) -> String {
    let lines: String = rows.iter().map(|cells| format!("<tr>{}</tr>", row(headings, cells))).collect();
    framed_table(headings, &lines, "")
}

/// A table with these headings and rows in HTML, which scrolls sideways where it is too wide; empty without rows.
pub fn framed_table(headings: &[String], rows: &str, class: &str) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let heads: String = headings.iter().map(|head| format!("<th>{}</th>", escape(head))).collect();
    format!(
        "<div class=\"scroll\"><table \
         class=\"{class}\"><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
    )
}

/// The cells of a row.
pub fn row(headings: &[String], cells: &[String]) -> String {
    let cell = |(cell, head): (&String, &String)| {
        let kind = match head.as_str() {
            "value" => " class=\"value\"",
            "95 % interval" | "baseline" | "untrained" | "chance" if cell != "–" => " class=\"number\"",
            _ if cell == "–" => " class=\"none\"",
            _ => "",
        };
        format!("<td{kind} data-label=\"{}\">{}</td>", escape(head), escape(cell))
    };
    cells.iter().zip(headings).map(cell).collect()
}
