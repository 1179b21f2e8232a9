//! Text for people.

/// A heading with aligned rows below it.
pub fn section(heading: &str, rows: &[(&str, String)]) -> String {
    let row = |(name, value): &(&str, String)| format!("  {name:14} {value}\n");
    format!("{heading}\n{}", rows.iter().map(row).collect::<String>())
}

/// Bytes in MiB, or in GiB from one on.
pub fn mebibytes(bytes: u64) -> String {
    let mebibytes = bytes as f64 / f64::from(1 << 20);
    if mebibytes < 1024.0 { format!("{mebibytes:.0} MiB") } else { format!("{:.1} GiB", mebibytes / 1024.0) }
}

/// A value, or a sentence that it is not known.
pub fn or_unknown(value: Option<String>) -> String {
    value.unwrap_or_else(|| "unknown: this system does not tell".to_owned())
}

/// Text of a file, if there is one.
pub fn read(path: &str) -> Option<String> {
    std::fs::read_to_string(path).ok()
}
