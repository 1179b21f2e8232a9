//! The CUDA toolkit from Python's package index: neither a card, its driver nor root is needed.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

use crate::beside::Beside;

/// Packages with the toolkit, each with a file that shows that it is there.
const PACKAGES: [(&str, &str); 10] = [
    ("nvidia-cuda-nvcc==13.0.*", "cu13/bin/nvcc"),
    ("nvidia-nvvm==13.0.*", "cu13/nvvm/bin/cicc"),
    ("nvidia-cuda-crt==13.0.*", "cu13/include/crt/host_config.h"),
    ("nvidia-cuda-runtime==13.0.*", "cu13/include/cuda.h"),
    ("nvidia-cuda-cccl==13.0.*", "cu13/include/cccl/cuda/std/limits"),
    ("nvidia-curand==10.4.0.*", "cu13/include/curand.h"),
    ("nvidia-cuda-nvrtc==13.0.*", "cu13/include/nvrtc.h"),
    ("nvidia-cublas==13.0.*", "cu13/include/cublas_v2.h"),
    ("nvidia-nccl-cu13==2.32.*", "nccl/include/nccl.h"),
    ("nvidia-cudnn-cu13==9.19.0.56", "cudnn/include/cudnn.h"),
];

/// Packages' folders with headers and libraries, in the folder `nvidia` of the wheels.
const PARTS: [&str; 3] = ["cu13", "cudnn", "nccl"];

/// Advice where the packages cannot be downloaded.
const ADVICE: &str = "the CUDA toolkit cannot be downloaded; install Python 3 with pip, and make sure that Python's \
                      package index can be reached";

/// The error of a driver that is there for linking only, `CUDA_ERROR_STUB_LIBRARY`.
const STUB: i32 = 34;

/// Installs the toolkit once, and returns its folder `home`.
///
/// # Errors
///
/// If the packages cannot be downloaded, or the folder cannot be written.
pub fn toolkit() -> anyhow::Result<PathBuf> {
    if let Some(download) = Download::start()? {
        download.finish()?;
    }
    let folder = super::folder()?;
    let wheels = folder.join("wheels/nvidia");
    let home = folder.join("home");
    if !home.join("lib64/libcuda.so").exists() {
        lay_out(&wheels, &home).with_context(|| format!("cannot make the toolkit's folder {}", home.display()))?;
    }
    Ok(home)
}

/// A download of the packages, which becomes `wheels` once it is complete.
pub struct Download {
    pip: Beside,
    folder: PathBuf,
}

impl Download {
    /// Starts the download, unless the packages are there.
    ///
    /// # Errors
    ///
    /// If the folder cannot be written, or Python cannot be started.
    pub fn start() -> anyhow::Result<Option<Self>> {
        let folder = super::folder()?;
        let wheels = folder.join("wheels/nvidia");
        if PACKAGES.iter().all(|(_, file)| wheels.join(file).exists()) {
            return Ok(None);
        }
        let partial = folder.join("wheels.partial");
        remove(&partial)?;
        remove(&folder.join("wheels"))?;
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]).arg(&partial);
        pip.args(PACKAGES.iter().map(|(package, _)| package));
        let pip = Beside::start("download of the CUDA toolkit", &mut pip).context(ADVICE)?;
        Ok(Some(Self { pip, folder }))
    }

    /// Waits for the download's end.
    ///
    /// # Errors
    ///
    /// If the packages cannot be downloaded.
    pub fn finish(self) -> anyhow::Result<()> {
        self.pip.finish().context(ADVICE)?;
        fs::rename(self.folder.join("wheels.partial"), self.folder.join("wheels"))
            .context("cannot move the downloaded toolkit")
    }
}

fn remove(folder: &Path) -> anyhow::Result<()> {
    match folder.exists() {
        true => fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display())),
        false => Ok(()),
    }
}

/// Makes the folder that builds expect, with links to the wheels' files and a driver to link with.
fn lay_out(wheels: &Path, home: &Path) -> anyhow::Result<()> {
    remove(home)?;
    let libraries = home.join("lib64");
    for folder in ["bin", "include", "lib64"] {
        fs::create_dir_all(home.join(folder))?;
    }
    link_all(&wheels.join("cu13/bin"), &home.join("bin"))?;
    link(&wheels.join("cu13/nvvm"), &home.join("nvvm"))?;
    for part in PARTS {
        link_all(&wheels.join(part).join("include"), &home.join("include"))?;
        link_all(&wheels.join(part).join("lib"), &libraries)?;
    }
    for (name, path) in entries(&libraries)? {
        // Linkers look for names without a version.
        if let Some((short, _)) = name.split_once(".so.") {
            link(&path, &libraries.join(format!("{short}.so")))?;
        }
    }
    driver(home, &libraries)
}

fn link_all(from: &Path, to: &Path) -> anyhow::Result<()> {
    entries(from)?.into_iter().try_for_each(|(name, path)| link(&path, &to.join(name)))
}

/// Links to a file; of several files with one name, the first stays.
fn link(file: &Path, at: &Path) -> anyhow::Result<()> {
    match at.exists() {
        true => Ok(()),
        false => std::os::unix::fs::symlink(file, at).with_context(|| format!("cannot link {}", at.display())),
    }
}

/// Names and paths in a folder, in order.
fn entries(folder: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        found.push((entry.file_name().to_string_lossy().into_owned(), entry.path()));
    }
    found.sort();
    Ok(found)
}

/// Compiles a driver whose every function refuses, so that builds can be linked without a card.
fn driver(home: &Path, libraries: &Path) -> anyhow::Result<()> {
    refusing_driver(home, "", &libraries.join("libcuda.so"))
}

/// Compiles a driver of the functions in `source`, and of all others, which refuse.
///
/// # Errors
///
/// If it cannot be compiled.
pub fn refusing_driver(home: &Path, source: &str, library: &Path) -> anyhow::Result<()> {
    let suffixes = ["", "_ptds", "_ptsz", "_v2", "_v2_ptds", "_v2_ptsz"];
    let known = names(&home.join("include/cuda.h"), "cu")?;
    let all: BTreeSet<String> =
        known.iter().flat_map(|name| suffixes.map(|suffix| format!("{name}{suffix}"))).collect();
    let has = |name: &str| source.contains(&format!("int {name}("));
    let mut source = source.to_owned();
    for name in all.iter().filter(|name| !has(name)) {
        writeln!(source, "int {name}(void) {{ return {STUB}; }}")?;
    }
    let file = library.with_extension("c");
    fs::write(&file, source)?;
    let mut compiler = Command::new("gcc");
    compiler.args(["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o"]);
    compiler.arg(library).arg(&file);
    match compiler.status().context("cannot start gcc; install a C compiler")?.success() {
        true => Ok(()),
        false => bail!("gcc cannot compile the driver to link with, {}", file.display()),
    }
}

/// Names of functions in a header that start with `prefix` and a capital letter.
///
/// # Errors
///
/// If the header cannot be read.
pub fn names(header: &Path, prefix: &str) -> anyhow::Result<BTreeSet<String>> {
    let text = fs::read_to_string(header).with_context(|| format!("cannot read {}", header.display()))?;
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let words = text.split(|letter| !is_part(letter));
    let function = |word: &&str| {
        let rest = word.strip_prefix(prefix).unwrap_or_default();
        rest.starts_with(|letter: char| letter.is_ascii_uppercase()) && !rest.ends_with("_t") && !rest.ends_with("_st")
    };
    Ok(words.filter(function).map(|word| bases(word).to_owned()).collect())
}

/// A name without the suffix of its default stream.
fn bases(word: &str) -> &str {
    word.strip_suffix("_ptds").or_else(|| word.strip_suffix("_ptsz")).unwrap_or(word)
}

#[cfg(test)]
mod tests {
    use super::names;
    use std::fs;

    #[test]
    fn functions_of_a_header() {
        let file = std::env::temp_dir().join(format!("functions-{}.h", std::process::id()));
        fs::write(&file, "#define cuMemFree cuMemFree_v2\nCUresult cuInit(unsigned);\ncudnnHandle_t h; cuda; cuX_ptsz")
            .unwrap();
        let found: Vec<String> = names(&file, "cu").unwrap().into_iter().collect();
        fs::remove_file(&file).unwrap();
        assert_eq!(found, ["cuInit", "cuMemFree", "cuMemFree_v2", "cuX"]);
    }
}
