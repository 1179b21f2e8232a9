//! Access to the reference numbers: files, tolerances, and the rule that fills large networks.
#![allow(dead_code, missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

pub mod parts;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::OnceLock;

use candle_core::safetensors::Load;
use candle_core::{DType, Device, Shape, Tensor};
use safetensors::SafeTensors;

/// Folder of the reference files, and whether it is another set than the project's.
fn folder() -> (PathBuf, bool) {
    match std::env::var_os("EQUIMOD_GOLDEN_DIR") {
        Some(folder) => (folder.into(), true),
        None => (PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden"), false),
    }
}

/// Path of a reference file; `None`, with a message, if another set lacks it.
pub fn path(name: &str) -> Option<PathBuf> {
    let (folder, other) = folder();
    let path = folder.join(name);
    if path.is_file() {
        return Some(path);
    }
    assert!(other, "{} is missing from the project", path.display());
    eprintln!("skipped: {} is not in this set", path.display());
    None
}

/// Reference files whose names start with `prefix` and end with `suffix`.
pub fn files(prefix: &str, suffix: &str) -> Vec<String> {
    let (folder, other) = folder();
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|n| n.starts_with(prefix) && n.ends_with(suffix))
        .collect();
    names.sort();
    assert!(other || !names.is_empty(), "no file {prefix}*{suffix} in the project");
    names
}

/// A JSON file of the reference folder.
pub fn json(name: &str) -> Option<serde_json::Value> {
    path(name).map(|p| serde_json::from_slice(&std::fs::read(p).unwrap()).unwrap())
}

/// A file of reference tensors.
pub struct Golden {
    pub name: String,
    pub tensors: BTreeMap<String, Tensor>,
    pub metadata: HashMap<String, String>,
    tolerances: serde_json::Value,
}

impl Golden {
    pub fn open(name: &str) -> Option<Self> {
        let bytes = std::fs::read(path(name)?).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        let tensors = file.tensors().into_iter().map(|(n, v)| (n, v.load(&Device::Cpu).unwrap())).collect();
        let tolerances = json("tolerances.json").map(|t| t[name].clone()).unwrap_or_default();
        Some(Self { name: name.into(), tensors, metadata: metadata.metadata().clone().unwrap_or_default(), tolerances })
    }

    pub fn get(&self, name: &str) -> &Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{} has no {name}", self.name))
    }

    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Values widened to f64.
    pub fn values(&self, name: &str) -> Vec<f64> {
        values(self.get(name))
    }

    pub fn scalar(&self, name: &str) -> f64 {
        self.values(name)[0]
    }

    pub fn meta(&self, key: &str) -> &str {
        self.metadata.get(key).unwrap_or_else(|| panic!("{} has no metadata {key}", self.name))
    }

    pub fn meta_json(&self, key: &str) -> serde_json::Value {
        serde_json::from_str(self.meta(key)).unwrap()
    }

    pub fn meta_list(&self, key: &str) -> Vec<String> {
        serde_json::from_str(self.meta(key)).unwrap()
    }

    /// Compares f32 values with the tolerance of the file: the largest difference, or the relative L2 error if given.
    pub fn check_f32(&self, name: &str, got: &Tensor) {
        // Without an entry, the floor of all tolerances: 4e-6 relative.
        let tolerance = &self.tolerances[name];
        let relative = tolerance["tol_rel_l2"].as_f64().unwrap_or(if tolerance.is_null() { 4e-6 } else { 0.0 });
        let largest = tolerance["tol_linf"].as_f64().unwrap_or(0.0);
        let (got, want) = (values(got), self.values(name));
        let (linf, l2) = distances(&got, &want);
        assert!(
            linf <= largest || l2 <= relative,
            "{}: {name}: off by {linf:e} ({l2:e} relative), allowed {largest:e} ({relative:e})",
            self.name
        );
    }

    /// Compares f64 values with `f64/<name>`, with a relative L2 error of at most 1e-7 (the strict test in its README).
    pub fn check_f64(&self, name: &str, got: &Tensor) {
        let want = self.values(&format!("f64/{name}"));
        let (linf, l2) = distances(&values(got), &want);
        assert!(
            l2 <= 1e-7 || linf <= 1e-13,
            "{}: f64/{name}: off by {l2:e} relative, {linf:e} in one place",
            self.name
        );
    }

    /// Comparison for the element type, if the file has numbers for it.
    pub fn check(&self, name: &str, got: &Tensor) {
        match got.dtype() {
            DType::F64 if self.has(&format!("f64/{name}")) => self.check_f64(name, got),
            DType::F64 => {}
            _ => self.check_f32(name, got),
        }
    }
}

/// Device of a test in `dtype`: the one that `EQUIMOD_TEST_DEVICE` names for f32, e.g. `cuda:0`, else the CPU.
pub fn device(dtype: DType) -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    let open = || match std::env::var("EQUIMOD_TEST_DEVICE") {
        Ok(name) => {
            let number = name.strip_prefix("cuda:").and_then(|number| number.parse().ok());
            equimod_core::device::cuda(number.expect("EQUIMOD_TEST_DEVICE is cuda:N")).unwrap()
        }
        Err(_) => Device::Cpu,
    };
    if dtype == DType::F32 { DEVICE.get_or_init(open) } else { &Device::Cpu }
}

pub fn values(t: &Tensor) -> Vec<f64> {
    let t = t.to_device(&Device::Cpu).unwrap().contiguous().unwrap();
    t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap()
}

/// Largest difference, and ‖a − b‖/‖b‖.
pub fn distances(a: &[f64], b: &[f64]) -> (f64, f64) {
    assert_eq!(a.len(), b.len(), "numbers of values differ");
    assert!(a.iter().all(|v| v.is_finite()), "not finite");
    let linf = a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max);
    let square: f64 = a.iter().zip(b).map(|(x, y)| (x - y).powi(2)).sum();
    let norm: f64 = b.iter().map(|y| y * y).sum();
    (linf, if square == 0.0 { 0.0 } else { (square / norm).sqrt() })
}

/// Fill rule of the reference's README: the first `count` values of the stream `name`, in [-1, 1).
fn stream(name: &str, seed: u64, count: usize) -> impl Iterator<Item = f64> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    }
    let start = hash.wrapping_add(seed);
    (0..count as u64).map(move |i| {
        let mut z = start.wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        2.0 * ((z >> 40) as f64 / (1u64 << 24) as f64) - 1.0
    })
}

/// A tensor from the fill rule, rounded once to f32.
pub fn fill(name: &str, shape: impl Into<Shape>, scale: f64, offset: f64, seed: u64) -> Tensor {
    let shape = shape.into();
    let values: Vec<f32> = stream(name, seed, shape.elem_count()).map(|v| (v * scale + offset) as f32).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Value of the parameter or buffer `name` from the fill rule; `bottleneck` determines which batch norm ends a branch.
pub fn filled_state(name: &str, shape: &Shape, seed: u64, bottleneck: bool) -> Tensor {
    let last = if bottleneck { "bn3.weight" } else { "bn2.weight" };
    let fan_in: usize = shape.dims().iter().skip(1).product();
    let (scale, offset) = match name.rsplit('.').next().unwrap() {
        "weight" if shape.rank() > 1 => ((6.0 / fan_in as f64).sqrt(), 0.0),
        "weight" if name.contains("layer") && name.ends_with(last) => (0.1, 0.25),
        "weight" => (0.25, 1.0),
        "bias" | "running_mean" => (0.1, 0.0),
        "running_var" => (0.5, 1.0),
        _ => return Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap(),
    };
    fill(name, shape.clone(), scale, offset, seed)
}

#[test]
fn the_fill_rule_gives_its_check_values() {
    let got = values(&fill("input", 4, 1.0, 0.0, 0));
    assert_eq!(got, [-0.8043633699417114, 0.30472075939178467, -0.5927515029907227, -0.45111072063446045]);
    let got = values(&filled_state("resnet.conv1.weight", &(64, 3, 3, 3).into(), 0, false));
    assert_eq!(&got[..2], [0.19356973469257355, -0.44241371750831604]);
}
