//! Names of splits in files and folders, here and on the Hub.

const WORDS: [(&str, &[&str]); 3] = [
    ("train", &["train", "training"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
    ("validation", &["validation", "valid", "val", "dev"]),
];

/// The split that a word names.
pub fn split_called(word: &str) -> Option<&'static str> {
    let word = word.to_lowercase();
    WORDS.iter().find(|(_, words)| words.contains(&word.as_str())).map(|(split, _)| *split)
}

/// The split that a file name names: `train-00000-of-00002`, `train.0` → `train`; `None` if it names none.
pub fn split_of(name: &str) -> Option<&'static str> {
    name.split(|c: char| !c.is_alphanumeric()).find_map(split_called)
}

/// Words that may stand in the name of a split's folder, besides that of the split.
const OTHER_WORDS: [&str; 12] =
    ["set", "data", "dataset", "split", "images", "image", "imgs", "img", "pictures", "photos", "files", "ilsvrc"];

/// The split that a folder's name names, in any case: `train`, `train2017`, `ILSVRC2012_img_val`, `TestSet`; `None`
/// if the name has other words.
pub fn split_of_folder(name: &str) -> Option<&'static str> {
    let name = name.to_lowercase();
    let mut words =
        name.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty() && !OTHER_WORDS.contains(word));
    let word = words.next()?;
    let joined = || OTHER_WORDS.iter().find_map(|other| split_called(word.strip_suffix(other)?));
    let split = split_called(word).or_else(joined)?;
    words.next().is_none().then_some(split)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_recognized_by_file_names() {
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

    #[test]
    fn folders_are_splits_by_their_whole_names() {
        for (name, split) in [
            ("TRAIN", Some("train")),
            ("train2017", Some("train")),
            ("ILSVRC2012_img_val", Some("validation")),
            ("TestSet", Some("test")),
            ("training_set", Some("train")),
            ("valid", Some("validation")),
            ("test-images", Some("test")),
            ("trainA", None),
            ("model_train", None),
            ("images", None),
            ("latest", None),
            ("2017", None),
        ] {
            assert_eq!(split_of_folder(name), split, "{name}");
        }
    }
}
