//! `equimod bench step`.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use candle_core::{DType, Device};
use equimod_core::optim::LarsConfig;
use equimod_core::{
    Execution, Method, OptimizerConfig, Parameters, Placement, Progress, ResNetConfig, SharedCollective, Stem,
};
use serde_json::json;

use super::{median, ranks};
use crate::cli::BenchStep;
use crate::outputs::console;
use crate::process::device_memory;
use crate::process::exit::Usage;
use crate::process::launch::Launch;
use crate::run::measured_method::{PARAMETERS, simclr_with_equimod};
use crate::run::noise;

/// Number of warm-up steps.
const WARM_UP: u32 = 2;

/// Largest image side with the CIFAR stem.
const LARGEST_WITH_CIFAR_STEM: u32 = 64;

/// Names of the phases of a step, in order.
const PHASES: [&str; 5] = ["backbone forward", "heads forward", "heads backward", "backbone backward", "optimizer"];

/// Timed steps of one rank.
struct Measured {
    /// Duration of each step and of its phases.
    steps: Vec<(Duration, [Duration; PHASES.len()])>,
    /// Peak of allocated bytes, on the CPU of all ranks together.
    allocated: Option<u64>,
}

/// Runs the benchmark.
///
/// # Errors
///
/// If a device is not available, the ranks cannot share the batch, or a step fails.
pub fn run(arguments: &BenchStep) -> anyhow::Result<ExitCode> {
    let launch = Launch::join()?;
    launch.run(false, || run_ranks(arguments, &launch))
}

/// Measures the ranks of this process.
fn run_ranks(arguments: &BenchStep, launch: &Launch) -> anyhow::Result<ExitCode> {
    let devices = launch.devices(&arguments.device.device)?;
    let number = launch.processes() * devices.len();
    if !(arguments.batch as usize).is_multiple_of(number) {
        let text = format!("{number} ranks cannot share {} images; give a --batch that is a multiple", arguments.batch);
        return Err(Usage(text).into());
    }
    let (before, shared) = (device_memory::in_use(&devices[0]), arguments.clone());
    let measure = move |device: &Device, collective: SharedCollective| measure(&shared, device, collective, before);
    if let Some(Measured { steps, allocated }) = ranks::of_first(launch, devices, measure)? {
        let threads = launch.processes() * rayon::current_num_threads();
        print(arguments, (number, threads), &steps, allocated.map(|bytes| bytes >> 20))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn measure(
    arguments: &BenchStep,
    device: &Device,
    collective: SharedCollective,
    before: u64,
) -> anyhow::Result<Measured> {
    let (images, side) = (arguments.batch as usize / collective.size(), arguments.size as usize);
    let (is_first, execution) = (collective.is_first(), execution(arguments));
    let placement = Placement { seed: 0, dtype: DType::F32, device, image_size: side, collective, execution };
    let parameters = Parameters::of_views(PARAMETERS);
    let (stem, width) = (stem(arguments.size), arguments.width as usize);
    let backbone = ResNetConfig { architecture: arguments.arch, stem, width, ..Default::default() };
    let config = simclr_with_equimod(backbone, arguments.hidden as usize);
    let method = Method::new(&config, &parameters, placement)?;
    let batch = noise::batch(&method.needs(), images, side, &parameters, device)?;
    let mut optimizer = OptimizerConfig::Lars(LarsConfig::default()).build();
    let mut steps = Vec::new();
    for number in 0..WARM_UP + arguments.steps {
        if number == WARM_UP && is_first {
            device_memory::reset_peak(device);
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
            steps.push((start.elapsed(), phases));
        }
    }
    Ok(Measured { steps, allocated: device_memory::peak(device, before) })
}

/// How the step is computed.
fn execution(arguments: &BenchStep) -> Execution {
    Execution {
        recompute: arguments.recompute,
        winograd: !arguments.no_winograd,
        precision: arguments.precision,
        autotune: arguments.autotune,
        fused: !arguments.no_fusion,
        ..Default::default()
    }
}

/// Stem of the backbone for images with a side of `size` pixels.
pub fn stem(size: u32) -> Stem {
    if size > LARGEST_WITH_CIFAR_STEM { Stem::ImageNet } else { Stem::Cifar }
}

fn print(
    arguments: &BenchStep,
    (ranks, threads): (usize, usize),
    measured: &[(Duration, [Duration; PHASES.len()])],
    allocated: Option<u64>,
) -> anyhow::Result<()> {
    let step = median(measured.iter().map(|(all, _)| all.as_secs_f64()).collect());
    let phase = |i: usize| median(measured.iter().map(|(_, phases)| phases[i].as_secs_f64()).collect());
    let images = f64::from(arguments.batch) / step;
    let peak = peak_mib();
    if arguments.json {
        let phases: serde_json::Map<_, _> =
            (0..PHASES.len()).map(|i| (PHASES[i].to_owned(), json!(phase(i)))).collect();
        return console::result(
            &json!({
                "what": "equimod", "arch": arguments.arch.name(), "size": arguments.size, "batch": arguments.batch,
                "width": arguments.width, "hidden": arguments.hidden, "precision": arguments.precision,
                "autotune": arguments.autotune, "fused": !arguments.no_fusion, "ranks": ranks, "threads": threads,
                "step_s": step,
                "images_per_s": images, "forward_s": phase(0) + phase(1), "backward_s": phase(2) + phase(3),
                "peak_mib": peak, "allocated_mib": allocated, "parts_s": phases,
            })
            .to_string(),
        );
    }
    let mut text = format!("{step:.4} s per step, {images:.1} images/s, {threads} threads");
    if ranks > 1 {
        text += &format!(" of {ranks} ranks");
    }
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
