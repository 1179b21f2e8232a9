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
    if names_several(name) {
        let text =
            format!("{name} names several devices, but only pretrain, eval, embed and bench use several; give one");
        return Err(Usage(text).into());
    }
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

/// Opens the devices of the ranks: those of [`open`], or `cpu:N` for N ranks on the CPU, and `cuda:0-3`, `cuda:0,2` or
/// `cuda:all` for one rank on each of several GPUs.
///
/// # Errors
///
/// Those of [`open`], or if a list is not one of different numbers.
pub fn open_all(name: &str) -> anyhow::Result<Vec<Device>> {
    match name.split_once(':') {
        Some(("cpu", ranks)) => match ranks.parse::<usize>() {
            Ok(ranks) if (1..=MOST_RANKS).contains(&ranks) => Ok(vec![Device::Cpu; ranks]),
            _ => {
                Err(Usage(format!("{name} is no number of ranks from 1 to {MOST_RANKS}; use for example cpu:2")).into())
            }
        },
        Some(("cuda", list)) if names_several(name) => {
            let numbers =
                if list == "all" { (0..gpus()).collect() } else { numbers(list).ok_or_else(|| unknown(name))? };
            match numbers.len() {
                // Says why there is none.
                0 => Ok(vec![open("cuda:0")?]),
                _ => numbers.into_iter().map(|number| open(&format!("cuda:{number}"))).collect(),
            }
        }
        _ => Ok(vec![open(name)?]),
    }
}

/// Opens the device of one of `local_size` processes of this machine: the GPU with its number in the list that `name`
/// gives, or the CPU. With `auto` and `cuda:all`, the list holds every GPU, if there is one.
///
/// # Errors
///
/// Those of [`open`], or if the list has fewer GPUs than there are processes, unless it has one: launchers can show each
/// process a GPU of its own.
#[cfg(any(feature = "mpi", feature = "nccl"))]
pub fn open_one_of(name: &str, local_rank: usize, local_size: usize) -> anyhow::Result<Device> {
    let name = if name == "auto" && gpus() > 0 { "cuda:all" } else { name };
    let mut devices = match name.split_once(':') {
        Some(("cpu", _)) => {
            let text = format!("{name} is for one process; with a launcher, each process is a rank: use cpu");
            return Err(Usage(text).into());
        }
        Some(("cuda", "all")) => (0..gpus().max(1)).map(|number| format!("cuda:{number}")).collect(),
        Some(("cuda", list)) => {
            let numbers = numbers(list).ok_or_else(|| unknown(name))?;
            numbers.into_iter().map(|number| format!("cuda:{number}")).collect()
        }
        _ => vec![name.to_owned()],
    };
    match devices.len() {
        1 => open(&devices.swap_remove(0)),
        number if number < local_size.max(local_rank + 1) => {
            let text = format!("{local_size} processes on this machine cannot share the {number} devices of {name}");
            Err(Usage(format!("{text}; start as many processes as there are devices")).into())
        }
        _ => open(&devices.swap_remove(local_rank)),
    }
}

/// Largest number of ranks on the CPU.
const MOST_RANKS: usize = 256;

fn names_several(name: &str) -> bool {
    let list = name.split_once(':').map_or("", |(_, list)| list);
    list == "all" || list.contains([',', '-']) || (name.starts_with("cpu:") && list.parse::<usize>().is_ok())
}

/// The numbers of a list such as `0,2` or `0-3,6`; `None` if it is none, or a number comes twice.
fn numbers(list: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = first.parse::<usize>().ok()?..=last.parse::<usize>().ok().filter(|&last| last < MOST_RANKS)?;
        numbers.extend(range.clone());
        if range.is_empty() {
            return None;
        }
    }
    let different = numbers.iter().collect::<std::collections::BTreeSet<_>>().len() == numbers.len();
    different.then_some(numbers)
}

#[cfg(feature = "cuda")]
fn gpus() -> usize {
    // Opening the first one gives the reason why there is none.
    super::cuda::count().unwrap_or(0)
}

#[cfg(not(feature = "cuda"))]
fn gpus() -> usize {
    0
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
    Usage(format!(
        "there is no device {name:?}; use auto, cpu, cpu:RANKS, cuda:N, cuda:all, a list such as cuda:0-3, or metal:N"
    ))
}

/// The first GPU that works, or else the CPU.
fn automatic() -> Device {
    let cuda = cuda_is_available().then(|| cuda(0).ok()).flatten();
    let metal = || metal_is_available().then(|| Device::new_metal(0).ok()).flatten();
    cuda.or_else(metal).unwrap_or(Device::Cpu)
}

/// Names of the ranks' devices for messages and files; `processes` is the number of processes with one rank each.
pub fn describe_all(devices: &[Device], processes: usize) -> String {
    match devices {
        [device] if processes > 1 => format!("{processes} processes, the first on {}", describe(device)),
        [device] => describe(device),
        [Device::Cpu, ..] => format!("cpu, {} ranks, {} each", devices.len(), threads()),
        _ => devices.iter().map(describe).collect::<Vec<_>>().join(", "),
    }
}

/// The number of threads of a rank on the CPU.
fn threads() -> String {
    let count = rayon::current_num_threads();
    format!("{count} {}", if count == 1 { "thread" } else { "threads" })
}

/// Name of a device for messages and files.
pub fn describe(device: &Device) -> String {
    match device.location() {
        DeviceLocation::Cpu => format!("cpu, {}", threads()),
        DeviceLocation::Cuda { gpu_id } => format!("cuda:{gpu_id}"),
        DeviceLocation::Metal { gpu_id } => format!("metal:{gpu_id}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_devices() {
        assert_eq!(numbers("0-3"), Some(vec![0, 1, 2, 3]));
        assert_eq!(numbers("2,0,4-5"), Some(vec![2, 0, 4, 5]));
        for wrong in ["", "1,", "3-1", "0-2,1", "a-b", "0-99999999999", "-1"] {
            assert_eq!(numbers(wrong), None, "{wrong}");
        }
        assert_eq!(open_all("cpu:3").unwrap().len(), 3);
        assert_eq!(open_all("cpu").unwrap().len(), 1);
        for wrong in ["cpu:0", "cpu:", "cpu:x", "cpu:257", "cuda:3-1", "cuda:0,0", "gpu:1"] {
            assert!(open_all(wrong).is_err(), "{wrong}");
        }
        for several in ["cpu:2", "cuda:0-3", "cuda:0,2", "cuda:all"] {
            assert!(open(several).unwrap_err().to_string().contains("several devices"), "{several}");
        }
    }
}
