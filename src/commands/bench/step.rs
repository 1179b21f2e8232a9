//! `equimod bench step`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use candle_core::DType;
use equimod_core::optim::LarsConfig;
use equimod_core::{
    Execution, Method, OptimizerConfig, Parameters, Placement, Progress, ResNetConfig, SingleProcess, Stem,
};
use serde_json::json;

use super::median;
use crate::cli::BenchStep;
use crate::outputs::console;
use crate::process::allocator::MEMORY;
use crate::process::device;
use crate::process::device_memory;
use crate::run::measured_method::{PARAMETERS, simclr_with_equimod};
use crate::run::noise;

/// Number of warm-up steps.
const WARM_UP: u32 = 2;

/// Largest image side with the CIFAR stem.
const LARGEST_WITH_CIFAR_STEM: u32 = 64;

/// Names of the phases of a step, in order.
const PHASES: [&str; 5] = ["backbone forward", "heads forward", "heads backward", "backbone backward", "optimizer"];

/// Runs the benchmark.
///
/// # Errors
///
/// If the device is not available, or a step fails.
pub fn run(arguments: &BenchStep) -> anyhow::Result<ExitCode> {
    let device = device::open(&arguments.device.device)?;
    let before = MEMORY.current_usage();
    let (images, side) = (arguments.batch as usize, arguments.size as usize);
    let placement = Placement {
        seed: 0,
        dtype: DType::F32,
        device: &device,
        image_size: side,
        collective: SingleProcess::shared(),
        execution: execution(arguments),
    };
    let parameters = Parameters::of_views(PARAMETERS);
    let (stem, width) = (stem(arguments.size), arguments.width as usize);
    let backbone = ResNetConfig { architecture: arguments.arch, stem, width, ..Default::default() };
    let config = simclr_with_equimod(backbone, arguments.hidden as usize);
    let method = Method::new(&config, &parameters, placement)?;
    let batch = noise::batch(&method.needs(), images, side, &parameters, &device)?;
    let mut optimizer = OptimizerConfig::Lars(LarsConfig::default()).build();
    let mut measured = Vec::new();
    for number in 0..WARM_UP + arguments.steps {
        if number == WARM_UP {
            device_memory::reset_peak(&device);
        }
        let start = Instant::now();
        let mut outcome = method.step(&batch, Progress::ONLY)?;
        let stepped = Instant::now();
        optimizer.step(method.params(), &mut outcome.gradients, 1.0)?;
        device.synchronize()?;
        if number >= WARM_UP {
            let t = outcome.times;
            let phases =
                [t.backbone_forward, t.heads_forward, t.heads_backward, t.backbone_backward, stepped.elapsed()];
            measured.push((start.elapsed(), phases));
        }
    }
    let allocated = device_memory::peak(&device, before).map(|bytes| bytes >> 20);
    print(arguments, &measured, allocated)?;
    Ok(ExitCode::SUCCESS)
}

/// How the step is computed.
fn execution(arguments: &BenchStep) -> Execution {
    Execution {
        recompute: arguments.recompute,
        winograd: !arguments.no_winograd,
        precision: arguments.precision,
        autotune: arguments.autotune,
        ..Default::default()
    }
}

/// Stem of the backbone for images with a side of `size` pixels.
pub fn stem(size: u32) -> Stem {
    if size > LARGEST_WITH_CIFAR_STEM { Stem::ImageNet } else { Stem::Cifar }
}

fn print(
    arguments: &BenchStep,
    measured: &[(Duration, [Duration; PHASES.len()])],
    allocated: Option<u64>,
) -> anyhow::Result<()> {
    let step = median(measured.iter().map(|(all, _)| all.as_secs_f64()).collect());
    let phase = |i: usize| median(measured.iter().map(|(_, phases)| phases[i].as_secs_f64()).collect());
    let (images, threads) = (f64::from(arguments.batch) / step, rayon::current_num_threads());
    let peak = peak_mib();
    if arguments.json {
        let phases: serde_json::Map<_, _> =
            (0..PHASES.len()).map(|i| (PHASES[i].to_owned(), json!(phase(i)))).collect();
        return console::result(
            &json!({
                "what": "equimod", "arch": arguments.arch.name(), "size": arguments.size, "batch": arguments.batch,
                "width": arguments.width, "hidden": arguments.hidden, "precision": arguments.precision,
                "autotune": arguments.autotune, "threads": threads, "step_s": step,
                "images_per_s": images, "forward_s": phase(0) + phase(1), "backward_s": phase(2) + phase(3),
                "peak_mib": peak, "allocated_mib": allocated, "parts_s": phases,
            })
            .to_string(),
        );
    }
    let mut text = format!("{step:.4} s per step, {images:.1} images/s, {threads} threads");
    if let Some(peak) = peak {
        text += &format!(", peak memory {peak} MiB");
    }
    if let Some(allocated) = allocated {
        text += &format!(", {allocated} MiB allocated for parameters and a step");
    }
    for (i, name) in PHASES.iter().enumerate() {
        text += &format!("\n  {name:18} {:8.4} s  {:4.1} %", phase(i), 100.0 * phase(i) / step);
    }
    console::result(&text)
}

/// Peak resident memory of this process in MiB, if the system reports it (Linux).
fn peak_mib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}
