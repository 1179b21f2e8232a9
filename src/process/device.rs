//! Parsing of `--device`.

use candle_core::utils::{cuda_is_available, metal_is_available};
use candle_core::{Device, DeviceLocation};

use equimod_core::device::cuda;

use crate::process::exit::Usage;

/// Opens the device `name`: auto, cpu, cuda:N or metal:N.
///
/// # Errors
///
/// If the name is unknown, or the build or machine lacks the device.
pub fn open(name: &str) -> anyhow::Result<Device> {
    let (kind, number) = match name.split_once(':') {
        Some((kind, number)) => (kind, number.parse::<usize>().map_err(|_| unknown(name))?),
        None => (name, 0),
    };
    let device = match kind {
        "cpu" if name == "cpu" => return Ok(Device::Cpu),
        "auto" if name == "auto" => return Ok(automatic()),
        "cuda" => cuda(number),
        "metal" => Device::new_metal(number).map_err(Into::into),
        _ => return Err(unknown(name).into()),
    };
    device.map_err(|reason| {
        let first_line = reason.to_string().lines().next().unwrap_or_default().to_owned();
        Usage(format!("cannot use the device {name}: {}", why_not(kind, &first_line))).into()
    })
}

/// Way to a build with CUDA.
pub const CUDA_BUILD: &str = "`cargo build --release --features cudnn` builds it with CUDA and cuDNN";

/// What a build without the device lacks and how to get it, or else the reason that the device gives.
fn why_not(kind: &str, reason: &str) -> String {
    match kind {
        "cuda" if !cfg!(feature = "cuda") => format!("this build lacks cuda; {CUDA_BUILD}"),
        "metal" if !cfg!(feature = "metal") => {
            "this build lacks metal; `cargo build --release --features metal` builds it for Apple GPUs".to_owned()
        }
        _ => format!("{reason}; `equimod doctor` lists the devices of this machine"),
    }
}

fn unknown(name: &str) -> Usage {
    Usage(format!("there is no device {name:?}; use auto, cpu, cuda:N or metal:N"))
}

/// The first GPU that works, or else the CPU.
fn automatic() -> Device {
    let cuda = cuda_is_available().then(|| cuda(0).ok()).flatten();
    let metal = || metal_is_available().then(|| Device::new_metal(0).ok()).flatten();
    cuda.or_else(metal).unwrap_or(Device::Cpu)
}

/// Name of a device for messages and files.
pub fn describe(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => format!("cpu, {} threads", rayon::current_num_threads()),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}
