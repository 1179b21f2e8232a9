//! Norms, optimizer steps and moving averages of many tensors in a few launches.

use candle_core::{DType, Device, Result, Tensor, Var, bail};

use super::Cuda;
use super::launch::{Grid, Kernel, Module, launch};
use super::memory::{address, address_or_null, count, device_of, uninitialized};
use crate::backend::contract::{AdamWRule, Gate, LarsRule, MomentumRule, OptimizerOps, ParameterStep, StepRule};

/// Tensors of one launch, at most, as in the kernels.
const TENSORS: usize = 48;

/// Blocks of each tensor, at most.
const BLOCKS: u32 = 128;

/// Values of a thread, at least, in tensors of many.
const VALUES: usize = 8;

const fn kernel(name: &'static str) -> Kernel {
    Kernel { module: Module::Optimizer, name, suffix: "" }
}

/// A list of values, one for each tensor of a launch, which is passed by value.
#[derive(Clone, Copy)]
#[repr(C)]
struct Each<T>([T; TENSORS]);

impl<T: Copy + Default> Each<T> {
    /// Up to [`TENSORS`] values.
    fn new(values: impl IntoIterator<Item = Result<T>>) -> Result<Self> {
        let mut each = Self([T::default(); TENSORS]);
        for (place, value) in each.0.iter_mut().zip(values) {
            *place = value?;
        }
        Ok(each)
    }

    fn of_one_value(value: T) -> Self {
        Self([value; TENSORS])
    }
}

fn lengths(tensors: &[&Tensor]) -> Result<Each<u32>> {
    Each::new(tensors.iter().map(|tensor| count(tensor.elem_count())))
}

fn addresses(tensors: &[&Tensor]) -> Result<Each<u64>> {
    Each::new(tensors.iter().map(|tensor| address(tensor)))
}

/// Blocks for the longest of some tensors, and the tensors along y.
fn grid(tensors: &[&Tensor]) -> Grid {
    let longest = tensors.iter().map(|tensor| tensor.elem_count()).max().unwrap_or(0);
    Grid { blocks: (Grid::strided(longest.div_ceil(VALUES), BLOCKS).blocks.0, tensors.len() as u32), threads: (256, 1) }
}

/// Σ (v + factor·w)² of up to [`TENSORS`] tensors, or Σ v² without w, into the values of `sums` from `at`.
fn squares(v: &[&Tensor], w: Option<(&[&Tensor], Each<f32>)>, sums: &Tensor, at: usize) -> Result<()> {
    let (device, grid) = (device_of(sums)?, grid(v));
    let blocks = grid.blocks.0;
    let partials = uninitialized(&[v.len(), blocks as usize], DType::F64, sums.device())?;
    let with_factors = u32::from(w.is_some());
    let (others, factors) = match w {
        Some((w, factors)) => (addresses(w)?, factors),
        None => (Each::of_one_value(0), Each::of_one_value(0.0)),
    };
    let (values, lengths, partial) = (addresses(v)?, lengths(v)?, address(&partials)?);
    launch!(device, kernel("squares"), grid, values, others, factors, lengths, with_factors, partial)?;
    let sum = address(sums)? + 8 * at as u64;
    let grid = Grid { blocks: (v.len() as u32, 1), threads: (256, 1) };
    launch!(device, kernel("squares_finish"), grid, partial, sum, blocks)
}

/// Products of up to [`TENSORS`] tensors with a scalar, as views of one new tensor.
fn scaled(tensors: &[Tensor], factor: &Tensor) -> Result<Vec<Tensor>> {
    let contiguous = tensors.iter().map(|tensor| tensor.detach().contiguous()).collect::<Result<Vec<_>>>()?;
    let values: Vec<&Tensor> = contiguous.iter().collect();
    all_f32(values.iter().copied().chain([factor]))?;
    let total = values.iter().map(|tensor| tensor.elem_count()).sum();
    let all = uninitialized(&[total], DType::F32, factor.device())?;
    let mut results = Vec::with_capacity(tensors.len());
    let mut start = 0;
    for tensor in &values {
        let length = tensor.elem_count();
        results.push(all.narrow(0, start, length)?.reshape(tensor.shape())?);
        start += length;
    }
    let to = addresses(&results.iter().collect::<Vec<_>>())?;
    let (from, lengths, grid, factor_at) = (addresses(&values)?, lengths(&values)?, grid(&values), address(factor)?);
    launch!(device_of(factor)?, kernel("scale"), grid, from, to, lengths, factor_at)?;
    Ok(results)
}

/// A gate's flag on the device, which the kernels read; `None` for a gate that is open.
fn flag(gate: &Gate, device: &Device) -> Result<Option<Tensor>> {
    match gate {
        Gate::Flag(flag) => Ok(Some(flag.to_device(device)?.contiguous()?)),
        Gate::Open | Gate::Closed => Ok(None),
    }
}

/// Checks that all tensors are f32, the only type of parameters with CUDA kernels.
fn all_f32<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Result<()> {
    match tensors.into_iter().find(|tensor| tensor.dtype() != DType::F32) {
        Some(other) => bail!("optimizer steps on a CUDA device need f32 tensors, got {:?}", other.dtype()),
        None => Ok(()),
    }
}

/// [`MomentumRule`] as the kernel takes it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Momentum {
    momentum: f32,
    inner: f32,
    outer: f32,
    nesterov: u32,
}

/// The trust ratio of [`LarsRule`] as the kernel takes it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Trust {
    coefficient: f32,
    adaptation: f32,
    by_product: u32,
}

/// [`AdamWRule`] as the kernel takes it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Adam {
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    rate: f32,
    root: f32,
}

/// Steps of up to [`TENSORS`] parameters whose rules differ in weight decay alone.
struct Pack<'a> {
    weights: Vec<&'a Tensor>,
    buffers: Vec<&'a Tensor>,
    gradients: Vec<&'a Tensor>,
    /// Address of the gate's flag, or 0.
    open: u64,
}

impl Pack<'_> {
    fn momentum(&self, decays: Each<f32>, rule: &MomentumRule, lars: Option<&LarsRule>) -> Result<()> {
        let (device, tensors) = (device_of(self.weights[0])?, self.weights.len());
        let norms = match lars {
            Some(_) => {
                let norms = uninitialized(&[2, tensors], DType::F64, self.weights[0].device())?;
                squares(&self.weights, None, &norms, 0)?;
                squares(&self.gradients, Some((&self.weights, decays)), &norms, tensors)?;
                Some(norms)
            }
            None => None,
        };
        let norm = norms.as_ref().map_or(Ok(0), address)?;
        let trust = lars.map_or(Trust { coefficient: 0.0, adaptation: 0.0, by_product: 0 }, |lars| Trust {
            coefficient: lars.trust_coefficient as f32,
            adaptation: lars.adaptation as f32,
            by_product: lars.by_product.into(),
        });
        let MomentumRule { momentum, inner, outer, nesterov, .. } = *rule;
        let rule =
            Momentum { momentum: momentum as f32, inner: inner as f32, outer: outer as f32, nesterov: nesterov.into() };
        let (weights, buffers, gradients) =
            (addresses(&self.weights)?, addresses(&self.buffers)?, addresses(&self.gradients)?);
        let (lengths, grid, open) = (lengths(&self.weights)?, grid(&self.weights), self.open);
        let kernel = kernel("momentum_steps");
        launch!(device, kernel, grid, weights, buffers, gradients, decays, lengths, rule, trust, norm, open)
    }

    fn adamw(&self, kept: Each<f32>, rule: &AdamWRule) -> Result<()> {
        let AdamWRule { beta1, beta2, epsilon, rate, root, .. } = *rule;
        let rule = Adam {
            beta1: beta1 as f32,
            beta2: beta2 as f32,
            epsilon: epsilon as f32,
            rate: rate as f32,
            root: root as f32,
        };
        let (weights, moments, gradients) =
            (addresses(&self.weights)?, addresses(&self.buffers)?, addresses(&self.gradients)?);
        let (lengths, grid, open) = (lengths(&self.weights)?, grid(&self.weights), self.open);
        let (device, kernel) = (device_of(self.weights[0])?, kernel("adamw_steps"));
        launch!(device, kernel, grid, weights, moments, gradients, kept, lengths, rule, open)
    }

    fn take(&self, rules: &[&StepRule]) -> Result<()> {
        match rules[0] {
            StepRule::Momentum(rule) => self.momentum(decays(rules)?, rule, None),
            StepRule::Lars(lars) => self.momentum(decays(rules)?, &lars.step, Some(lars)),
            StepRule::AdamW(rule) => self.adamw(decays(rules)?, rule),
        }
    }
}

/// The term of a rule that may differ from parameter to parameter in a launch: the weight decay, or for AdamW the
/// share of the weight that is kept.
fn own_term(rule: &StepRule) -> f64 {
    match rule {
        StepRule::Momentum(rule) => rule.decay,
        StepRule::Lars(rule) => rule.step.decay,
        StepRule::AdamW(rule) => rule.kept,
    }
}

fn decays(rules: &[&StepRule]) -> Result<Each<f32>> {
    Each::new(rules.iter().map(|rule| Ok(own_term(rule) as f32)))
}

/// The rule with its [own term](own_term) replaced, for comparison.
fn shared(rule: &StepRule) -> StepRule {
    match *rule {
        StepRule::Momentum(rule) => StepRule::Momentum(MomentumRule { decay: 0.0, ..rule }),
        StepRule::Lars(rule) => StepRule::Lars(LarsRule { step: MomentumRule { decay: 0.0, ..rule.step }, ..rule }),
        StepRule::AdamW(rule) => StepRule::AdamW(AdamWRule { kept: 0.0, ..rule }),
    }
}

/// Steps whose rules differ in their own term alone, in the order of their first.
fn by_rule(steps: Vec<ParameterStep>) -> Vec<Vec<ParameterStep>> {
    let mut groups: Vec<Vec<ParameterStep>> = Vec::new();
    for step in steps {
        match groups.iter_mut().find(|group| shared(&group[0].rule) == shared(&step.rule)) {
            Some(group) => group.push(step),
            None => groups.push(vec![step]),
        }
    }
    groups
}

fn one(weight: &Var, buffer: &Var, gradient: &Tensor, rule: StepRule) -> Result<()> {
    let (weight, buffer, gradient) = (weight.clone(), buffer.clone(), gradient.clone());
    Cuda.parameter_steps(vec![ParameterStep { weight, buffer, gradient, rule }], &Gate::Open)
}

impl OptimizerOps for Cuda {
    fn squared_norm(&self, tensor: &Tensor) -> Result<Tensor> {
        self.squared_norms(&[tensor])?.reshape(())
    }

    fn squared_norms(&self, tensors: &[&Tensor]) -> Result<Tensor> {
        let contiguous = |tensor: &&Tensor| tensor.detach().to_dtype(DType::F32)?.contiguous();
        let tensors = tensors.iter().map(contiguous).collect::<Result<Vec<_>>>()?;
        let Some(first) = tensors.first() else { bail!("there is no tensor whose norm to compute") };
        let sums = uninitialized(&[tensors.len()], DType::F64, first.device())?;
        for (number, pack) in tensors.chunks(TENSORS).enumerate() {
            squares(&pack.iter().collect::<Vec<_>>(), None, &sums, number * TENSORS)?;
        }
        Ok(sums)
    }

    fn scaled(&self, tensors: Vec<Tensor>, factor: &Tensor) -> Result<Vec<Tensor>> {
        let mut results = Vec::with_capacity(tensors.len());
        let mut tensors = tensors.into_iter();
        loop {
            let pack: Vec<Tensor> = tensors.by_ref().take(TENSORS).collect();
            if pack.is_empty() {
                return Ok(results);
            }
            results.extend(scaled(&pack, factor)?);
        }
    }

    fn momentum_step(&self, weight: &Var, buffer: &Var, gradient: &Tensor, rule: &MomentumRule) -> Result<()> {
        one(weight, buffer, gradient, StepRule::Momentum(*rule))
    }

    fn lars_step(&self, weight: &Var, buffer: &Var, gradient: &Tensor, rule: &LarsRule) -> Result<()> {
        one(weight, buffer, gradient, StepRule::Lars(*rule))
    }

    fn adamw_step(&self, weight: &Var, moments: &Var, gradient: &Tensor, rule: &AdamWRule) -> Result<()> {
        one(weight, moments, gradient, StepRule::AdamW(*rule))
    }

    fn parameter_steps(&self, steps: Vec<ParameterStep>, gate: &Gate) -> Result<()> {
        let (Some(first), Gate::Open | Gate::Flag(_)) = (steps.first(), gate) else { return Ok(()) };
        let flag = flag(gate, first.weight.device())?;
        let open = address_or_null(flag.as_ref())?;
        for group in by_rule(steps) {
            for steps in group.chunks(TENSORS) {
                let gradients = steps.iter().map(|s| s.gradient.detach().contiguous()).collect::<Result<Vec<_>>>()?;
                let weights = steps.iter().map(|step| step.weight.as_tensor()).collect();
                let buffers = steps.iter().map(|step| step.buffer.as_tensor()).collect();
                let pack = Pack { weights, buffers, gradients: gradients.iter().collect(), open };
                all_f32(pack.weights.iter().chain(&pack.buffers).chain(&pack.gradients).copied())?;
                pack.take(&steps.iter().map(|step| &step.rule).collect::<Vec<_>>())?;
            }
        }
        Ok(())
    }

    fn move_towards(&self, target: &Var, source: &Tensor, kept: f64) -> Result<()> {
        self.move_all_towards(&[(target.clone(), source.clone())], kept, &Gate::Open)
    }

    fn move_all_towards(&self, pairs: &[(Var, Tensor)], kept: f64, gate: &Gate) -> Result<()> {
        let (Some((first, _)), Gate::Open | Gate::Flag(_)) = (pairs.first(), gate) else { return Ok(()) };
        let flag = flag(gate, first.device())?;
        let open = address_or_null(flag.as_ref())?;
        let (kept, moved) = (kept as f32, (1.0 - kept) as f32);
        for pairs in pairs.chunks(TENSORS) {
            let sources = pairs.iter().map(|(_, source)| source.detach().contiguous()).collect::<Result<Vec<_>>>()?;
            let (targets, sources): (Vec<_>, Vec<_>) =
                (pairs.iter().map(|(target, _)| target.as_tensor()).collect(), sources.iter().collect());
            all_f32(targets.iter().chain(&sources).copied())?;
            let (to, from, lengths, grid) =
                (addresses(&targets)?, addresses(&sources)?, lengths(&targets)?, grid(&targets));
            launch!(device_of(first)?, kernel("move_towards"), grid, to, from, lengths, kept, moved, open)?;
        }
        Ok(())
    }
}
