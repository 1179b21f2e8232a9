//! STL-10, binary version: images of 96 × 96 pixels as three column-major planes, labels from 1 to 10 in a separate
//! file, and 100 000 unlabeled images.

use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::{Dataset, Task};
use crate::image::{Image, Size};
use crate::mapped::Mapped;
use crate::{Error, Result};

const SIDE: usize = 96;
const PLANE: usize = SIDE * SIDE;
const CLASSES: [&str; 10] = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"];

/// Split of STL-10.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stl10Split {
    /// 5000 labeled images.
    Train,
    /// 8000 labeled images.
    Test,
    /// 100 000 unlabeled images.
    Unlabeled,
    /// Data for pretraining: `Train`, then `Unlabeled`.
    TrainAndUnlabeled,
}

impl Stl10Split {
    fn files(self) -> &'static [(&'static str, Option<&'static str>)] {
        const TRAIN: (&str, Option<&str>) = ("train_X.bin", Some("train_y.bin"));
        const UNLABELED: (&str, Option<&str>) = ("unlabeled_X.bin", None);
        match self {
            Self::Train => &[TRAIN],
            Self::Test => &[("test_X.bin", Some("test_y.bin"))],
            Self::Unlabeled => &[UNLABELED],
            Self::TrainAndUnlabeled => &[TRAIN, UNLABELED],
        }
    }
}

/// STL-10 from its unpacked folder, memory-mapped.
pub struct Stl10Dataset {
    name: String,
    images: Vec<Mapped>,
    labels: Vec<Option<u32>>,
    tasks: Vec<Task>,
}

impl Stl10Dataset {
    /// Whether `folder` contains STL-10.
    pub fn is_at(folder: &Path) -> bool {
        folder.join("train_X.bin").is_file() || folder.join("unlabeled_X.bin").is_file()
    }

    /// Opens a split of the data set in `folder`.
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged.
    pub fn open(folder: &Path, split: Stl10Split) -> Result<Self> {
        let name = folder.display().to_string();
        let wrong = |reason: String| Error::data_set(&name, reason);
        let (mut images, mut labels) = (Vec::new(), Vec::new());
        for &(file, label_file) in split.files() {
            let map = Mapped::open(&folder.join(file))?;
            if map.is_empty() || map.len() % (3 * PLANE) != 0 {
                return Err(wrong(format!("{file} has {} bytes, not a multiple of {}", map.len(), 3 * PLANE)));
            }
            let count = map.len() / (3 * PLANE);
            match label_file {
                None => labels.extend(vec![None; count]),
                Some(label_file) => {
                    let path = folder.join(label_file);
                    let bytes = fs::read(&path).map_err(|e| Error::io(path, e))?;
                    if bytes.len() != count || bytes.iter().any(|label| !(1..=10).contains(label)) {
                        return Err(wrong(format!("{label_file} does not contain {count} labels from 1 to 10")));
                    }
                    labels.extend(bytes.iter().map(|&label| Some(u32::from(label) - 1)));
                }
            }
            images.push(map);
        }
        let named = fs::read_to_string(folder.join("class_names.txt")).unwrap_or_default();
        let named: Vec<String> = named.split_whitespace().map(str::to_owned).collect();
        let classes = if named.len() == CLASSES.len() { named } else { CLASSES.map(str::to_owned).to_vec() };
        let labeled = labels.iter().any(Option::is_some);
        let tasks = if labeled { vec![Task { name: "label".into(), classes }] } else { Vec::new() };
        Ok(Self { name, images, labels, tasks })
    }
}

impl Dataset for Stl10Dataset {
    fn name(&self) -> &str {
        &self.name
    }

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn image(&self, index: usize) -> Result<Image> {
        let mut place = index;
        for map in &self.images {
            let count = map.len() / (3 * PLANE);
            if place < count {
                let planes = &map[place * 3 * PLANE..][..3 * PLANE];
                let pixel = |p: usize| (0..3).map(move |c| planes[c * PLANE + p % SIDE * SIDE + p / SIDE]);
                return Image::new(Size::square(SIDE), (0..PLANE).flat_map(pixel).collect());
            }
            place -= count;
        }
        Err(Error::data_set(&self.name, format!("it has no image {index}")))
    }

    fn size(&self, _: usize) -> Result<Size> {
        Ok(Size::square(SIDE))
    }

    fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    fn label(&self, task: usize, index: usize) -> Option<u32> {
        self.tasks.get(task)?;
        *self.labels.get(index)?
    }

    fn key(&self, index: usize) -> String {
        format!("{}, image {index}", self.name)
    }

    fn fingerprint(&self) -> Result<String> {
        let mut hash = Sha256::new();
        self.images.iter().for_each(|map| hash.update(&**map));
        hash.update(self.labels.iter().map(|label| label.map_or(0, |l| l as u8 + 1)).collect::<Vec<u8>>());
        Ok(crate::hexadecimal(&hash.finalize()))
    }
}
