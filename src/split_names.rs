//! What splits are called, in files and folders here and on the Hub.

const WORDS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
    ("validation", &["validation", "valid", "val", "dev"]),
];

/// The split that a word is a name of.
pub fn split_called(word: &str) -> Option<&'static str> {
    let word = word.to_lowercase();
    WORDS.iter().find(|(_, words)| words.contains(&word.as_str())).map(|(split, _)| *split)
}

/// The split that a name stands for: `train-00000-of-00002`, `train.0` → `train`; `None` where it names none.
pub fn split_of(name: &str) -> Option<&'static str> {
    name.split(|c: char| !c.is_alphanumeric()).find_map(split_called)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_told_by_names() {
        for (name, split) in [
            ("train-00000-of-00002", Some("train")),
            ("noto-test", Some("test")),
            ("validation.0", Some("validation")),
            ("val_1", Some("validation")),
            ("Training", Some("train")),
            ("pictures", None),
            ("latest", None),
        ] {
            assert_eq!(split_of(name), split, "{name}");
        }
    }
}
