//! NVIDIA GPUs: what the build can use, and what the machine has.

use std::path::Path;

use serde::Serialize;

#[cfg(feature = "cuda")]
use crate::process::cuda;
#[cfg(not(feature = "cudnn"))]
use crate::process::device::CUDA_BUILD;
use crate::process::memory::{mebibytes, read};

/// CUDA as this build sees it.
#[derive(Default, Serialize)]
pub struct Cuda {
    /// Whether the build uses CUDA.
    in_build: bool,
    /// Whether the machine shows an NVIDIA driver or GPU, with or without CUDA in the build.
    card_visible: bool,
    driver_version: Option<String>,
    /// Newest version of CUDA that the driver supports.
    driver_cuda_version: Option<String>,
    cublas_version: Option<String>,
    cudnn_version: Option<String>,
    nccl_version: Option<String>,
    cards: Vec<Card>,
    /// Sentences about what is missing or cannot be found out.
    remarks: Vec<String>,
}

/// A GPU.
#[derive(Serialize)]
pub struct Card {
    index: usize,
    name: String,
    compute_capability: String,
    memory_bytes: u64,
    memory_free_bytes: u64,
    /// Whether it computes in bf16.
    bf16: bool,
}

/// File in which NVIDIA's kernel module gives its version.
const DRIVER_FILE: &str = "/proc/driver/nvidia/version";
/// File of the first GPU.
const CARD_FILE: &str = "/dev/nvidia0";

impl Cuda {
    /// Facts of this build and machine.
    pub fn new() -> Self {
        let driver = read(DRIVER_FILE);
        let card_visible = driver.is_some() || Path::new(CARD_FILE).exists();
        let driver_version = driver.as_deref().and_then(driver_version);
        Self { card_visible, driver_version, ..Self::default() }.completed()
    }

    /// Adds what to do to get a build with CUDA.
    #[cfg(not(feature = "cuda"))]
    fn completed(mut self) -> Self {
        self.remarks.push(match self.card_visible {
            true => format!("This machine has an NVIDIA GPU, which this build cannot use; {CUDA_BUILD}."),
            false => format!("This build cannot use NVIDIA GPUs, and none is visible; {CUDA_BUILD}."),
        });
        self
    }

    /// Adds what CUDA tells.
    #[cfg(feature = "cuda")]
    fn completed(mut self) -> Self {
        self.in_build = true;
        if self.driver_version.is_none() {
            self.remarks.push(format!("The driver's version is unknown, because {DRIVER_FILE} does not give it."));
        }
        self.driver_cuda_version = self.noting("the newest CUDA version of the driver", cuda::supported_by_driver());
        self.cublas_version = self.noting("the version of cuBLAS", cuda::cublas());
        #[cfg(feature = "cudnn")]
        {
            self.cudnn_version = Some(cuda::cudnn());
        }
        #[cfg(feature = "nccl")]
        {
            self.nccl_version = self.noting("the version of NCCL", cuda::nccl());
        }
        #[cfg(not(feature = "cudnn"))]
        self.remarks.push(format!("This build does not use cuDNN; {CUDA_BUILD}."));
        let count = self.noting("the number of GPUs", cuda::count()).unwrap_or(0);
        for index in 0..count {
            let card = self.noting(&format!("GPU {index}"), cuda::card(index));
            self.cards.extend(card.map(|card| Card::new(index, card)));
        }
        if count == 0 {
            self.remarks.push("CUDA finds no GPU; `nvidia-smi` shows whether the driver does.".to_owned());
        }
        self
    }

    /// The value, or a remark on why it is unknown.
    #[cfg(feature = "cuda")]
    fn noting<T>(&mut self, what: &str, found: Result<T, impl std::fmt::Display>) -> Option<T> {
        found.map_err(|reason| self.remarks.push(format!("CUDA does not tell {what}: {reason}."))).ok()
    }

    /// Names and values for people.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let named = [
            ("driver", &self.driver_version),
            ("CUDA", &self.driver_cuda_version),
            ("cuBLAS", &self.cublas_version),
            ("cuDNN", &self.cudnn_version),
            ("NCCL", &self.nccl_version),
        ];
        let known = named.into_iter().filter_map(|(name, version)| Some((name, version.clone()?)));
        let cards = self.cards.iter().map(|card| ("GPU", card.line()));
        let remarks = self.remarks.iter().map(|remark| ("", remark.clone()));
        known.chain(cards).chain(remarks).collect()
    }
}

impl Card {
    /// First compute capability with bf16.
    #[cfg(feature = "cuda")]
    const BF16: (i32, i32) = (8, 0);

    #[cfg(feature = "cuda")]
    fn new(index: usize, card: cuda::Card) -> Self {
        let (major, minor) = card.capability;
        Self {
            index,
            name: card.name,
            compute_capability: format!("{major}.{minor}"),
            memory_bytes: card.memory,
            memory_free_bytes: card.free_memory,
            bf16: card.capability >= Self::BF16,
        }
    }

    fn line(&self) -> String {
        let Self { index, name, compute_capability, .. } = self;
        let (memory, free) = (mebibytes(self.memory_bytes), mebibytes(self.memory_free_bytes));
        let bf16 = if self.bf16 { "bf16" } else { "no bf16" };
        format!("cuda:{index}, {name}, compute capability {compute_capability} ({bf16}), {memory}, {free} free")
    }
}

/// Version of the driver in the line of `NVRM version`, the only number with dots in it.
fn driver_version(text: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with("NVRM version"))?;
    let is_version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    line.split_whitespace().find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_drivers_version_is_read_from_both_kinds_of_modules() {
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024\n\
                      GCC version:  gcc version 12.2.0 (Debian 12.2.0-14)\n";
        assert_eq!(driver_version(closed).as_deref(), Some("550.54.15"));
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  560.35.03  Release Build  (root@host)\n";
        assert_eq!(driver_version(open).as_deref(), Some("560.35.03"));
        assert_eq!(driver_version("GCC version:  gcc version 12.2.0\n"), None);
    }
}
