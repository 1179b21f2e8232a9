//! Kernels for the stand-in: each .cu file becomes a library, with the entry points that nvcc's PTX names.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context, bail};

use super::build::{Job, files, write};

/// Kernels of candle that `xtask/cuda/nvcc` replaces by stubs.
const STUBS: [&str; 1] = ["quantized"];

/// PTX instructions through which threads wait for each other, or that may hide such ones.
const BARRIERS: [&str; 6] = ["bar.", "barrier.", "shfl.", "vote.", "redux.", "call"];

/// How kernels are compiled: what they define is theirs alone, and shared memory needs no constructor.
const FLAGS: &str = "-std=c++17 -O2 -fPIC -shared -w -fno-strict-aliasing -fvisibility=hidden -fno-gnu-unique \
                     -fno-extern-tls-init";

/// A .cu file and its PTX.
pub struct Kernels {
    /// Name of the library.
    pub name: String,
    pub source: PathBuf,
    pub ptx: PathBuf,
}

impl Kernels {
    /// The job that compiles the library in `folder`; `headers` are the stand-in's.
    ///
    /// # Errors
    ///
    /// If a source cannot be read, or the folder cannot be written.
    pub fn job(&self, folder: &Path, headers: &Path, home: &Path) -> anyhow::Result<Job> {
        let ptx = read(&self.ptx)?;
        let source = read(&self.source)?;
        let parent = self.source.parent().unwrap_or(Path::new("."));
        let mut main = format!("#include \"cuda_cpu.h\"\n#include \"{}\"\n", self.source.display());
        for (name, waits) in entries(&ptx) {
            writeln!(main, "CUDA_CPU_KERNEL({name}, {waits})")?;
        }
        let mut shared = String::from("#include \"kernel.h\"\n");
        for name in shared_names(&source) {
            writeln!(shared, "CUDA_CPU_SHARED({name})")?;
        }
        let generated = [(format!("{}.cpp", self.name), main), (format!("{}.shared.cpp", self.name), shared)];
        let output = folder.join(format!("{}.so", self.name));
        let mut inputs = files(parent, &["cuh", "h"])?;
        inputs.extend([self.source.clone(), headers.join("cuda_cpu.h"), headers.join("kernel.h")]);
        let mut arguments: Vec<_> = FLAGS.split(' ').map(Into::into).collect();
        arguments.push(format!("-DCUDA_CPU_UNIT=\"{}\"", self.name).into());
        for include in [headers, parent] {
            arguments.push(format!("-I{}", include.display()).into());
        }
        for include in ["include", "include/cccl"] {
            arguments.extend(["-isystem".into(), home.join(include).into()]);
        }
        for (name, text) in generated {
            let file = folder.with_file_name("generated").join(name);
            write(&file, &text)?;
            arguments.push(file.clone().into());
            inputs.push(file);
        }
        arguments.extend(["-o".into(), output.clone().into()]);
        Ok(Job { output, inputs, program: "g++".into(), arguments })
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

/// Entry points of PTX, and whether their threads wait for each other.
fn entries(ptx: &str) -> Vec<(&str, bool)> {
    let entry = |text| {
        let text: &str = text;
        let name = text.split(|letter: char| letter == '(' || letter.is_whitespace()).next().unwrap_or_default();
        let waits = text.lines().any(|line| BARRIERS.iter().any(|start| line.trim_start().starts_with(start)));
        (name, waits)
    };
    ptx.split(".entry ").skip(1).map(entry).collect()
}

/// Names of dynamic shared memory: the last word before the bracket of `extern __shared__ …[]`.
fn shared_names(source: &str) -> BTreeSet<&str> {
    let name = |text| {
        let text: &str = text;
        let declaration = text.split('[').next().unwrap_or_default();
        declaration.rsplit(|letter: char| !letter.is_alphanumeric() && letter != '_').find(|word| !word.is_empty())
    };
    source.split("extern __shared__").skip(1).filter_map(name).collect()
}

/// The kernels of candle and of this workspace, for which there is PTX in a target directory.
///
/// # Errors
///
/// If a file has no PTX, or a folder cannot be read.
pub fn all(workspace: &Path, target_dir: &Path) -> anyhow::Result<Vec<Kernels>> {
    let mut found = Vec::new();
    let candle = candle_kernels()?;
    for source in files(&candle, &["cu"])? {
        let name = stem(&source);
        // Other files are no PTX modules but parts of a library.
        if let Some(ptx) = newest_ptx(target_dir, "candle-kernels", &name)?.filter(|_| !STUBS.contains(&&*name)) {
            found.push(Kernels { name: format!("candle-{name}"), source, ptx });
        }
    }
    if found.is_empty() {
        bail!("there is no PTX of candle's kernels in {}; run cargo xtask cuda-on-cpu", target_dir.display());
    }
    let own = workspace.join("equimod-core/src/backend/cuda/kernels");
    for source in if own.exists() { files(&own, &["cu"])? } else { Vec::new() } {
        let name = stem(&source);
        let Some(ptx) = newest_ptx(target_dir, "equimod-core", &name)? else {
            bail!("{} has no PTX in {}; run cargo xtask cuda-on-cpu", source.display(), target_dir.display());
        };
        found.push(Kernels { name: format!("equimod-{name}"), source, ptx });
    }
    Ok(found)
}

fn stem(file: &Path) -> String {
    file.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

/// The newest PTX with this name that the build script of a package made.
fn newest_ptx(target_dir: &Path, package: &str, name: &str) -> anyhow::Result<Option<PathBuf>> {
    let builds = target_dir.join(super::PROFILE).join("build");
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    for entry in fs::read_dir(&builds).with_context(|| format!("cannot list {}", builds.display()))? {
        let folder = entry?;
        let hash = folder.file_name().to_string_lossy().into_owned();
        let ptx = folder.path().join("out").join(format!("{name}.ptx"));
        let ours = hash.strip_prefix(package).and_then(|rest| rest.strip_prefix('-'));
        if ours.is_some_and(|hash| !hash.contains('-')) && ptx.exists() {
            let time = fs::metadata(&ptx)?.modified()?;
            newest = newest.into_iter().chain([(time, ptx)]).max();
        }
    }
    Ok(newest.map(|(_, ptx)| ptx))
}

/// The folder of candle's kernels, as cargo knows it.
fn candle_kernels() -> anyhow::Result<PathBuf> {
    let arguments = ["metadata", "--format-version=1", "--locked", "--features=equimod-core/cuda"];
    let output = Command::new(env!("CARGO")).args(arguments).output().context("cannot start cargo metadata")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let path = |text: &str| {
        let path = text.split('"').next()?;
        path.contains("/candle-kernels-").then(|| Path::new(path).with_file_name("src"))
    };
    let found = text.split("\"manifest_path\":\"").skip(1).find_map(path);
    found
        .with_context(|| format!("cargo metadata lists no candle-kernels: {}", String::from_utf8_lossy(&output.stderr)))
}

#[cfg(test)]
mod tests {
    use super::{entries, shared_names};

    #[test]
    fn entry_points_and_their_barriers() {
        let ptx =
            ".visible .entry plain(\n.param .u64 p\n)\n{\n ret;\n}\n.visible .entry waits(\n)\n{\n\tbar.sync 0;\n}\n";
        assert_eq!(entries(ptx), [("plain", false), ("waits", true)]);
    }

    #[test]
    fn dynamic_shared_memory() {
        let source = "extern __shared__ int dst_row[];\nextern __shared__ __align__(16) float sums[ ];";
        assert_eq!(shared_names(source).into_iter().collect::<Vec<_>>(), ["dst_row", "sums"]);
    }
}
