//! Budgets of a training step on a CUDA device: launches, allocations, transfers and waits of a ResNet-50 at 224 pixels,
//! counted by the stand-in for the driver (`cargo xtask cuda-on-cpu`), which does not run the kernels here.
#![cfg(all(feature = "cuda", target_os = "linux", target_env = "gnu"))]
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::ffi::{CStr, c_char, c_long, c_void};

use candle_core::{DType, Tensor};
use common::device;
use equimod_core::collective::SingleProcess;
use equimod_core::ops::{Gate, all_finite};
use equimod_core::optim::{LarsConfig, Progress, clip};
use equimod_core::{
    Execution, Method, MethodConfig, Normalization, OptimizerConfig, Parameters, Placement, Precision, StepBatch, host,
};

const BATCH: usize = 64;
const SIDE: usize = 224;

/// The stand-in's functions, if the program runs on it.
struct StandIn {
    count: extern "C" fn(*const c_char) -> c_long,
    reset: extern "C" fn(),
}

impl StandIn {
    fn find() -> Option<Self> {
        // SAFETY: A symbol of this name has the type of the stand-in's function.
        unsafe {
            let symbol = |name: &CStr| libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr());
            let (count, reset) = (symbol(c"standin_count"), symbol(c"standin_counts_reset"));
            (!count.is_null() && !reset.is_null()).then(|| Self {
                count: std::mem::transmute::<*mut c_void, extern "C" fn(*const c_char) -> c_long>(count),
                reset: std::mem::transmute::<*mut c_void, extern "C" fn()>(reset),
            })
        }
    }

    fn count(&self, name: &CStr) -> i64 {
        (self.count)(name.as_ptr())
    }
}

fn batch(method: &Method, pixels: &[u8]) -> StepBatch {
    let device = method.params().device();
    let images = || {
        let shape = (BATCH, SIDE, SIDE);
        Normalization::IMAGENET.tensor(pixels, shape, device, method.compute_dtype()).unwrap()
    };
    let params = Tensor::zeros((2 * BATCH, 15), DType::F32, device).unwrap();
    StepBatch { clean: Some(images()), params: Some(params), ..StepBatch::of_views([images(), images()]) }
}

#[test]
fn a_step_of_a_resnet50_keeps_its_budget() {
    let Some(stand_in) = StandIn::find() else {
        eprintln!("skipped: the stand-in for CUDA counts calls; run cargo xtask cuda-on-cpu");
        return;
    };
    let text = r#"{"backbone": {"architecture": "resnet50", "stem": "imagenet", "width": 64},
        "objective": {"kind": "simclr"}, "equivariance": {"equimod": {}}}"#;
    let config: MethodConfig = serde_json::from_str(text).unwrap();
    let execution = Execution { precision: Precision::Bf16, ..Execution::default() };
    let (collective, dtype) = (SingleProcess::shared(), DType::F32);
    let placement = Placement { seed: 0, dtype, device: device(dtype), image_size: SIDE, collective, execution };
    let method = Method::new(&config, &Parameters::of_views(15), placement).unwrap();
    let mut optimizer = OptimizerConfig::Lars(LarsConfig::default()).build();
    let pixels = vec![0u8; BATCH * SIDE * SIDE * 3];
    let mut step = |step: u64| {
        let mut outcome = method.step(&batch(&method, &pixels), Progress { step, total: 4 }).unwrap();
        let norm = outcome.gradients.norm().unwrap();
        clip(&mut outcome.gradients, &norm, 1.0).unwrap();
        let gate = Gate::new(&all_finite(&[&outcome.loss, &norm]).unwrap()).unwrap();
        optimizer.gated_step(method.params(), &mut outcome.gradients, 0.1, &gate).unwrap();
        outcome.loss
    };
    // Three steps fill the ring of buffers for uploads.
    (0..3).for_each(|number| drop(step(number)));
    (stand_in.reset)();
    let loss = step(3);
    let count = |name: &CStr| stand_in.count(name);
    let reads = count(c"cuMemcpyDtoHAsync_v2") + count(c"cuMemcpyDtoH_v2") + count(c"cuStreamSynchronize");
    let launches = count(c"cuLaunchKernel");
    let found = format!(
        "{launches} launches, {} allocations, {} uploads, {reads} reads, {} events, {} memsets, {:.1} GiB at most",
        count(c"cuMemAllocAsync"),
        count(c"cuMemcpyHtoDAsync_v2"),
        count(c"cuEventCreate"),
        count(c"cuMemsetD8Async"),
        count(c"memory:peak") as f64 / f64::from(1 << 30),
    );
    eprintln!("a step: {found}");
    assert_eq!(reads, 0, "{found}");
    assert!(launches <= 1200, "{found}");
    assert!(count(c"cuMemcpyHtoDAsync_v2") <= 100, "{found}");
    assert_eq!(count(c"cuEventCreate"), 0, "{found}");
    assert!(count(c"cuMemAllocAsync") <= 1600, "{found}");
    assert!(count(c"memory:peak") <= 8 << 30, "{found}");
    host::read(&[&loss]).unwrap();
    assert_eq!(count(c"cuMemcpyDtoHAsync_v2") + count(c"cuMemcpyDtoH_v2"), 1, "a log step reads once");
}
