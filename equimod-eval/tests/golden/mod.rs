//! Reference numbers: from the folder that `EQUIMOD_GOLDEN_DIR` names, or from the project's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, dead_code, missing_docs)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Tensor};
use equimod_eval::{Features, Labeled};
use safetensors::SafeTensors;

/// The tensors of one file of reference numbers.
pub struct Golden(pub BTreeMap<String, Tensor>);

impl Golden {
    /// The file called `name`; `None` where another set of numbers, given by the environment, lacks it.
    pub fn open(name: &str) -> Option<Self> {
        let (folder, other) = match std::env::var_os("EQUIMOD_GOLDEN_DIR") {
            Some(folder) => (PathBuf::from(folder), true),
            None => (PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden"), false),
        };
        let path = folder.join(name);
        if !path.is_file() {
            assert!(other, "{} is missing from the project", path.display());
            eprintln!("skipped: {} is not in this set", path.display());
            return None;
        }
        let bytes = std::fs::read(path).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        Some(Self(file.tensors().into_iter().map(|(n, v)| (n, v.load(&Device::Cpu).unwrap())).collect()))
    }

    pub fn tensor(&self, name: &str) -> &Tensor {
        self.0.get(name).unwrap_or_else(|| panic!("no {name}"))
    }

    pub fn values(&self, name: &str) -> Vec<f64> {
        self.tensor(name).to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    pub fn rows(&self, name: &str) -> Vec<Vec<f64>> {
        self.tensor(name).to_dtype(DType::F64).unwrap().to_vec2().unwrap()
    }

    pub fn labels(&self, name: &str) -> Vec<u32> {
        self.values(name).into_iter().map(|v| v as u32).collect()
    }

    pub fn features(&self, name: &str) -> Features {
        let (rows, columns) = self.tensor(name).dims2().unwrap();
        Features::new(rows, columns, self.values(name).into_iter().map(|v| v as f32).collect()).unwrap()
    }

    pub fn labeled(&self, features: &str, labels: &str) -> Labeled {
        let labels = self.labels(labels);
        let classes = *labels.iter().max().unwrap() as usize + 1;
        Labeled::new(self.features(features), labels, classes).unwrap()
    }
}
