//! The build of the stand-in: one library under the names of the driver and of CUDA's libraries.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Environment;
use super::build::{self, Job, files, write};
use super::kernels::{self, Kernels};
use super::toolkit;
use crate::steps::workspace;

/// Names that programs load the stand-in under.
const NAMES: [&str; 7] = [
    "libcuda.so.1",
    "libcublas.so.13",
    "libcublasLt.so.13",
    "libcurand.so.10",
    "libnvrtc.so.13",
    "libcudnn.so.9",
    "libnccl.so.2",
];

/// Headers of the libraries, their functions' prefix, and the error of a function that the stand-in does not have.
const HEADERS: [(&str, &str, i32); 12] = [
    ("cuda.h", "cu", 801),
    ("cublas_v2.h", "cublas", 15),
    ("cublas_api.h", "cublas", 15),
    ("cublasLt.h", "cublasLt", 15),
    ("curand.h", "curand", 999),
    ("nvrtc.h", "nvrtc", 11),
    ("cudnn_ops.h", "cudnn", 3000),
    ("cudnn_cnn.h", "cudnn", 3000),
    ("cudnn_adv.h", "cudnn", 3000),
    ("cudnn_graph.h", "cudnn", 3000),
    ("cudnn_backend.h", "cudnn", 3000),
    ("nccl.h", "nccl", 5),
];

/// The program that tests the stand-in, and its kernels.
const SELF_TEST: &str = "selftest";

/// Folder of the stand-in's sources.
pub fn sources() -> anyhow::Result<PathBuf> {
    Ok(workspace()?.join("xtask/cuda/stand-in"))
}

/// Builds the stand-in with the kernels whose PTX is in a target directory, and returns its folder.
///
/// # Errors
///
/// If a source cannot be read or compiled.
pub fn stand_in(target_dir: &Path) -> anyhow::Result<PathBuf> {
    eprintln!("» the stand-in for CUDA");
    let home = toolkit()?;
    let folder = super::folder()?.join("stand-in");
    let sources = sources()?;
    for part in ["objects", "kernels", "generated"] {
        fs::create_dir_all(folder.join(part)).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    let test = Kernels {
        name: SELF_TEST.to_owned(),
        source: sources.join("selftest.cu"),
        ptx: folder.join("generated/selftest.ptx"),
    };
    build::run(&[ptx_job(&test, &home)])?;
    let mut kernels = kernels::all(&workspace()?, target_dir)?;
    kernels.push(test);
    remove_old(&folder.join("kernels"), &kernels)?;
    let objects = library_jobs(&folder, &sources, &home)?;
    let linked: Vec<PathBuf> = objects.iter().map(|job| job.output.clone()).collect();
    let mut jobs = objects;
    for kernels in kernels {
        jobs.push(kernels.job(&folder.join("kernels"), &sources, &home)?);
    }
    build::run(&jobs)?;
    build::run(&[link_job(&folder, &sources, linked)])?;
    NAMES.iter().try_for_each(|name| name_library(&folder, name))?;
    build::run(&[test_job(&folder, &sources, &home)?])?;
    Ok(folder)
}

/// The variables under which programs load the stand-in.
///
/// # Errors
///
/// If the toolkit cannot be found.
pub fn environment(folder: &Path) -> anyhow::Result<Environment> {
    Ok(vec![
        ("LD_LIBRARY_PATH", folder.into()),
        ("STANDIN_HEADERS", sources()?.into()),
        ("CUDA_HOME", toolkit()?.into()),
    ])
}

/// Removes libraries of kernels that are no more.
fn remove_old(folder: &Path, kernels: &[Kernels]) -> anyhow::Result<()> {
    for file in files(folder, &["so"])? {
        if !kernels.iter().any(|kernels| file.file_stem().is_some_and(|stem| *stem == *kernels.name)) {
            fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
        }
    }
    Ok(())
}

/// The job in which nvcc compiles the test's kernels.
fn ptx_job(test: &Kernels, home: &Path) -> Job {
    let capability = format!("-arch=compute_{}", super::CAPABILITY);
    let arguments = vec!["--ptx".into(), capability.into(), test.source.clone().into(), "-o".into()];
    Job {
        output: test.ptx.clone(),
        inputs: vec![test.source.clone()],
        program: home.join("bin/nvcc"),
        arguments: [arguments, vec![test.ptx.clone().into()]].concat(),
    }
}

/// The jobs that compile the sources of the library, and the list of functions that it does not have.
fn library_jobs(folder: &Path, sources: &Path, home: &Path) -> anyhow::Result<Vec<Job>> {
    let missing = folder.join("generated/missing.c");
    write(&missing, &missing_functions(home)?)?;
    let headers = files(sources, &["h"])?;
    let parts = files(sources, &["cpp"])?.into_iter().filter(|file| !is_test(file));
    let job = |source: PathBuf| {
        let output = folder.join("objects").join(source.with_extension("o").file_name().unwrap_or_default());
        let flags = "-O3 -march=x86-64-v3 -fPIC -fopenmp -Wall -Wno-format-zero-length -Wno-deprecated-declarations -c";
        let mut arguments: Vec<_> = flags.split(' ').map(Into::into).collect();
        if source.extension() == Some("cpp".as_ref()) {
            arguments.push("-std=c++17".into());
        }
        arguments.extend(["-isystem".into(), home.join("include").into(), source.clone().into()]);
        arguments.extend(["-o".into(), output.clone().into()]);
        Job { output, inputs: [vec![source], headers.clone()].concat(), program: "g++".into(), arguments }
    };
    Ok(parts.chain([missing.clone()]).map(job).collect())
}

/// A definition of every function of the headers, which gives way to the stand-in's own and says its name.
fn missing_functions(home: &Path) -> anyhow::Result<String> {
    let mut source = String::from("extern \"C\" {\nint standin_missing(const char *name, int error);\n");
    let mut written = BTreeSet::new();
    for (header, prefix, error) in HEADERS {
        for name in toolkit::names(&home.join("include").join(header), prefix)? {
            if written.insert(name.clone()) {
                let body = format!("return standin_missing(\"{name}\", {error});");
                writeln!(source, "__attribute__((weak)) int {name}() {{ {body} }}")?;
            }
        }
    }
    source.push_str("}\n");
    Ok(source)
}

/// The job that links the library.
fn link_job(folder: &Path, sources: &Path, objects: Vec<PathBuf>) -> Job {
    let versions = sources.join("versions.map");
    let output = folder.join("libstandin.so");
    let mut arguments = vec!["-shared".into(), "-fopenmp".into()];
    arguments.push(format!("-Wl,--version-script={}", versions.display()).into());
    arguments.extend(objects.iter().map(Into::into));
    arguments.extend(["-ldl".into(), "-lrt".into(), "-o".into(), output.clone().into()]);
    Job { output, inputs: [objects, vec![versions]].concat(), program: "g++".into(), arguments }
}

/// The job that compiles the test.
fn test_job(folder: &Path, sources: &Path, home: &Path) -> anyhow::Result<Job> {
    let parts: Vec<PathBuf> = files(sources, &["cpp", "h"])?.into_iter().filter(|file| is_test(file)).collect();
    let output = folder.join(SELF_TEST);
    let mut arguments: Vec<_> =
        ["-std=c++17", "-O1", "-pthread", "-Wno-deprecated-declarations"].map(Into::into).into();
    arguments.extend(["-isystem".into(), home.join("include").into()]);
    arguments.extend(parts.iter().filter(|file| file.extension() == Some("cpp".as_ref())).map(Into::into));
    arguments.extend(NAMES.iter().map(|name| folder.join(name).into()));
    arguments.extend(["-o".into(), output.clone().into()]);
    let inputs = [parts, vec![folder.join("libstandin.so")]].concat();
    Ok(Job { output, inputs, program: "g++".into(), arguments })
}

/// Whether a source belongs to the test and not to the library.
fn is_test(file: &Path) -> bool {
    file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SELF_TEST))
}

/// Gives the library one of its names.
fn name_library(folder: &Path, name: &str) -> anyhow::Result<()> {
    let link = folder.join(name);
    match link.exists() {
        true => Ok(()),
        false => std::os::unix::fs::symlink("libstandin.so", &link)
            .with_context(|| format!("cannot link {}", link.display())),
    }
}
