//! The known name that an unknown one means: that of another code base, or the most similar one.

/// Names of settings elsewhere, and ours.
const ELSEWHERE: [(&str, &str); 12] = [
    ("normalisation", "normalization"),
    ("num_epochs", "epochs"),
    ("lr", "learning_rate"),
    ("base_lr", "learning_rate"),
    ("wd", "weight_decay"),
    ("bs", "batch"),
    ("batch_size", "batch"),
    ("img_size", "size"),
    ("image_size", "size"),
    ("arch", "architecture"),
    ("temp", "temperature"),
    ("warmup", "warmup_epochs"),
];

/// Our name of what another code base calls `name`; the name itself, if it is none of theirs.
pub fn meaning(name: &str) -> &str {
    ELSEWHERE.iter().find(|(theirs, _)| *theirs == name).map_or(name, |(_, ours)| *ours)
}

/// The most similar name, if one is similar enough.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let scored = names.map(|n| (strsim::jaro_winkler(name, n), n));
    scored.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, n)| n)
}
