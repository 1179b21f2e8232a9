//! Compiles the CUDA kernels to PTX, with the feature `cuda`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "cuda")]
    cuda::compile()?;
    Ok(())
}

#[cfg(feature = "cuda")]
mod cuda {
    use std::error::Error;
    use std::path::PathBuf;

    const KERNELS: &str = "src/backend/cuda/kernels";

    /// Compiles every kernel for compute capability 8.0. Drivers compile that PTX further for the card at hand, so that
    /// one build runs on every card since Ampere.
    pub fn compile() -> Result<(), Box<dyn Error>> {
        println!("cargo::rerun-if-changed={KERNELS}");
        let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo has not set OUT_DIR")?);
        let compiled = cudaforge::KernelBuilder::new()
            .source_dir(KERNELS)
            .compute_cap(80)
            .arg("-std=c++17")
            .arg("-O3")
            .build_ptx()
            .and_then(|kernels| kernels.write(out.join("kernels.rs")));
        compiled.map_err(|error| {
            format!("cannot compile the CUDA kernels: {error}; install the CUDA toolkit, or set NVCC to its compiler")
        })?;
        Ok(())
    }
}
