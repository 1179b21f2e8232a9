//! `equimod bench exchange`.

use std::process::ExitCode;
use std::time::Instant;

use candle_core::{DType, Device, Tensor};
use equimod_core::SharedCollective;
use serde_json::json;

use super::{median, ranks};
use crate::cli::BenchExchange;
use crate::outputs::console;
use crate::process::launch::Launch;

/// Sizes of the tensors: about the sums of a batch norm, embeddings, a bucket of gradients, and those of a ResNet-50.
const SIZES: [usize; 6] = [4 << 10, 64 << 10, 1 << 20, 4 << 20, 25 << 20, 94 << 20];

/// Runs the benchmark.
///
/// # Errors
///
/// If a device is not available, or an exchange fails.
pub fn run(arguments: &BenchExchange) -> anyhow::Result<ExitCode> {
    let launch = Launch::join()?;
    launch.run(false, || {
        let devices = launch.devices(&arguments.device.device)?;
        let (number, steps) = (launch.processes() * devices.len(), arguments.steps);
        let measure = move |device: &Device, collective: SharedCollective| measure(device, &collective, steps);
        if let Some(times) = ranks::of_first(&launch, devices, measure)? {
            print(arguments, number, &times)?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Median time of a sum over all ranks for each size, in seconds.
fn measure(device: &Device, collective: &SharedCollective, steps: u32) -> anyhow::Result<Vec<f64>> {
    let mut times = Vec::new();
    for size in SIZES {
        let tensor = Tensor::ones(size / DType::F32.size_in_bytes(), DType::F32, device)?;
        let mut of_size = Vec::new();
        // The first one is for warming up.
        for _ in 0..=steps {
            collective.wait_for_all()?;
            let start = Instant::now();
            std::hint::black_box(collective.all_reduce_sum(&tensor)?);
            device.synchronize()?;
            of_size.push(start.elapsed().as_secs_f64());
        }
        times.push(median(of_size.split_off(1)));
    }
    Ok(times)
}

fn print(arguments: &BenchExchange, ranks: usize, times: &[f64]) -> anyhow::Result<()> {
    let rows = SIZES.iter().zip(times);
    if arguments.json {
        let rows: Vec<_> = rows.map(|(size, time)| json!({ "bytes": size, "seconds": time })).collect();
        return console::result(&json!({ "what": "equimod", "ranks": ranks, "sums": rows }).to_string());
    }
    let mut text = format!("sums of f32 over {ranks} ranks");
    for (&size, time) in rows {
        let rate = size as f64 / time.max(1e-9) / 1e9;
        text += &format!("\n  {:8} KiB {:9.3} ms  {rate:6.2} GB/s", size >> 10, 1e3 * time);
    }
    console::result(&text)
}
