//! Parsing of `--device`.

use candle_core::Device;
use candle_core::utils::{cuda_is_available, metal_is_available};

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
        let have = |feature: bool| if feature { "has" } else { "lacks" };
        let (cuda, metal) = (have(cfg!(feature = "cuda")), have(cfg!(feature = "metal")));
        let reason = reason.to_string().lines().next().unwrap_or_default().to_owned();
        Usage(format!("cannot use the device {name} ({reason}); this build {cuda} cuda and {metal} metal")).into()
    })
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
    match device {
        Device::Cpu => format!("cpu, {} threads", rayon::current_num_threads()),
        other => format!("{:?}", other.location()).to_lowercase(),
    }
}
