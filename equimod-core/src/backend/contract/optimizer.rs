//! Steps of optimizers, sums of squares and moving averages of parameters.

use candle_core::{D, DType, Result, Tensor, Var};

/// A step with momentum, which SGD and LARS share: `d = inner·(gradient + decay·w)`; `buffer = momentum·buffer + d`;
/// `w −= outer·buffer`, or by Nesterov's rule `w −= outer·(d + momentum·buffer)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MomentumRule {
    /// Share of the old buffer that is kept.
    pub momentum: f64,
    /// Weight decay.
    pub decay: f64,
    /// Factor of what enters the buffer.
    pub inner: f64,
    /// Factor of what leaves it.
    pub outer: f64,
    /// Whether to look ahead.
    pub nesterov: bool,
}

/// A [`MomentumRule`] whose `inner` is multiplied by `(1 − a) + trust·a`, where the trust ratio is `η‖w‖/‖g‖` with
/// `g = gradient + decay·w`, or 1 where a norm is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LarsRule {
    /// The step, before trust.
    pub step: MomentumRule,
    /// η.
    pub trust_coefficient: f64,
    /// a, the share of the rate that is adapted.
    pub adaptation: f64,
    /// Whether the product of the norms decides, in the parameters' own precision, and not each norm.
    pub by_product: bool,
}

/// A step of AdamW with everything worked out that is the same for all values: `m = β1·m + (1 − β1)·gradient`;
/// `v = β2·v + (1 − β2)·gradient²`; `w = kept·w − rate·m/(√v/root + ε)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWRule {
    /// β1.
    pub beta1: f64,
    /// β2.
    pub beta2: f64,
    /// ε.
    pub epsilon: f64,
    /// 1 − lr·decay.
    pub kept: f64,
    /// lr/(1 − β1ᵗ).
    pub rate: f64,
    /// √(1 − β2ᵗ).
    pub root: f64,
}

/// Updates of parameters in place and sums of their squares. Weights, buffers and gradients are of one shape but for
/// AdamW's moments, which have m and v side by side in a last dimension of 2.
///
/// The provided forms are composed of candle's operations and read nothing back from the device.
pub trait OptimizerOps {
    /// Σ v² of a tensor, a scalar (f64 on the CPU, f32 elsewhere).
    fn squared_norm(&self, tensor: &Tensor) -> Result<Tensor> {
        tensor.detach().to_dtype(DType::F32)?.sqr()?.sum_all()
    }

    /// Steps a weight and its momentum.
    fn momentum_step(&self, weight: &Var, buffer: &Var, gradient: &Tensor, rule: &MomentumRule) -> Result<()> {
        let decayed = decayed(weight, gradient, rule.decay)?;
        along(weight, buffer, times(decayed, rule.inner)?, rule)
    }

    /// Steps a weight and its momentum at the rate that its trust ratio allows.
    fn lars_step(&self, weight: &Var, buffer: &Var, gradient: &Tensor, rule: &LarsRule) -> Result<()> {
        let &LarsRule { ref step, trust_coefficient, adaptation, by_product } = rule;
        let decayed = decayed(weight, gradient, step.decay)?;
        let [w, g] = [self.squared_norm(weight)?.sqrt()?, self.squared_norm(&decayed)?.sqrt()?];
        let positive = match by_product {
            true => (&w * &g)?.gt(0.0)?,
            false => (w.gt(0.0)? * g.gt(0.0)?)?,
        };
        let ratio = ((w * trust_coefficient)? / g)?;
        let trust = positive.where_cond(&ratio, &ratio.ones_like()?)?;
        let inner = ((trust * (step.inner * adaptation))? + step.inner * (1.0 - adaptation))?;
        along(weight, buffer, decayed.broadcast_mul(&inner.to_dtype(decayed.dtype())?)?, step)
    }

    /// Steps a weight and its moments.
    fn adamw_step(&self, weight: &Var, moments: &Var, gradient: &Tensor, rule: &AdamWRule) -> Result<()> {
        let (values, both, last) = (weight.as_detached_tensor(), moments.as_detached_tensor(), moments.rank() - 1);
        let [mean, square] = [both.narrow(last, 0, 1)?.squeeze(last)?, both.narrow(last, 1, 1)?.squeeze(last)?];
        let mean = ((mean * rule.beta1)? + (gradient * (1.0 - rule.beta1))?)?;
        let square = ((square * rule.beta2)? + (gradient.sqr()? * (1.0 - rule.beta2))?)?;
        let size = ((square.sqrt()? / rule.root)? + rule.epsilon)?;
        weight.set(&((values * rule.kept)? - ((&mean * rule.rate)? / size)?)?)?;
        moments.set(&Tensor::stack(&[mean, square], D::Minus1)?)
    }

    /// `target = kept·target + (1 − kept)·source`, of one shape and a floating type.
    fn move_towards(&self, target: &Var, source: &Tensor, kept: f64) -> Result<()> {
        target.set(&(target.as_detached_tensor().affine(kept, 0.0)? + source.affine(1.0 - kept, 0.0)?)?)
    }
}

/// `gradient + decay·weight`.
fn decayed(weight: &Var, gradient: &Tensor, decay: f64) -> Result<Tensor> {
    gradient + (weight.as_detached_tensor() * decay)?
}

/// Adds a direction to the momentum, and moves the weight along it.
fn along(weight: &Var, buffer: &Var, direction: Tensor, rule: &MomentumRule) -> Result<()> {
    let momentum = ((buffer.as_detached_tensor() * rule.momentum)? + &direction)?;
    let step = match rule.nesterov {
        true => (direction + (&momentum * rule.momentum)?)?,
        false => momentum.clone(),
    };
    weight.set(&(weight.as_detached_tensor() - times(step, rule.outer)?)?)?;
    buffer.set(&momentum)
}

/// The product, without a pass for a factor of 1.
fn times(tensor: Tensor, factor: f64) -> Result<Tensor> {
    if factor == 1.0 { Ok(tensor) } else { tensor * factor }
}
