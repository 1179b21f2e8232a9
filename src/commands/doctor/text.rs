//! Text for people.

/// A heading with aligned rows below it.
pub fn section(heading: &str, rows: &[(&str, String)]) -> String {
    let row = |(name, value): &(&str, String)| format!("  {name:14} {value}\n");
    format!("{heading}\n{}", rows.iter().map(row).collect::<String>())
}

/// A value, or a sentence that it is not known.
pub fn or_unknown(value: Option<String>) -> String {
    value.unwrap_or_else(|| "unknown: this system does not tell".to_owned())
}
