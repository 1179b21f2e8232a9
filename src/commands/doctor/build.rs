//! What this build contains.

use serde::Serialize;
use serde_json::{Map, Value};

/// Features of the package, and whether this build has them.
const FEATURES: [(&str, bool); 8] = [
    ("hub", cfg!(feature = "hub")),
    ("mnist", cfg!(feature = "mnist")),
    ("cuda", cfg!(feature = "cuda")),
    ("cudnn", cfg!(feature = "cudnn")),
    ("nccl", cfg!(feature = "nccl")),
    ("metal", cfg!(feature = "metal")),
    ("accelerate", cfg!(feature = "accelerate")),
    ("mpi", cfg!(feature = "mpi")),
];

/// The build.
#[derive(Serialize)]
pub struct Build {
    version: &'static str,
    /// Processor and operating system for which it was built.
    target: String,
    features: Map<String, Value>,
    instruction_set: &'static str,
}

impl Build {
    /// Facts of this build.
    pub fn new() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            target: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            features: FEATURES.map(|(name, has)| (name.to_owned(), has.into())).into_iter().collect(),
            instruction_set: instruction_set(),
        }
    }

    /// Names and values for people.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let names = |wanted: bool| {
            let names: Vec<&str> = FEATURES.iter().filter(|(_, has)| *has == wanted).map(|(name, _)| *name).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        vec![
            ("version", format!("equimod {} for {}", self.version, self.target)),
            ("features", format!("{}; without: {}", names(true), names(false))),
            ("instructions", self.instruction_set.to_owned()),
        ]
    }
}

/// Vector instructions of the CPU that the kernels use on this machine.
fn instruction_set() -> &'static str {
    match pulp::Arch::new() {
        pulp::Arch::Scalar => "no vector instructions, one value at a time",
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        pulp::Arch::V3(_) => "AVX2",
        #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
        pulp::Arch::V4(_) => "AVX-512",
        #[cfg(target_arch = "aarch64")]
        pulp::Arch::Neon(_) => "NEON",
        _ => "vector instructions without a name here",
    }
}
