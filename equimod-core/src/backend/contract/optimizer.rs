//! Optimizer steps, sums of squares and moving averages of parameters.

use candle_core::{D, DType, Result, Tensor, Var};

use super::gate::Gate;

/// Momentum step, shared by SGD and LARS: `d = inner·(gradient + decay·w)`; `buffer = momentum·buffer + d`;
/// `w −= outer·buffer`, or with Nesterov momentum `w −= outer·(d + momentum·buffer)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MomentumRule {
    /// Momentum factor.
    pub momentum: f64,
    /// Weight decay.
    pub decay: f64,
    /// Factor of the gradient as it enters the buffer.
    pub inner: f64,
    /// Factor of the update, outside of the buffer.
    pub outer: f64,
    /// Whether to use Nesterov momentum.
    pub nesterov: bool,
}

/// LARS step: a [`MomentumRule`] whose `inner` is multiplied by `(1 − a) + trust·a`. The trust ratio is `η‖w‖/‖g‖` with
/// `g = gradient + decay·w`, or 1 if a norm is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LarsRule {
    /// Momentum step before the trust ratio is applied.
    pub step: MomentumRule,
    /// Trust coefficient η.
    pub trust_coefficient: f64,
    /// Interpolation a between the plain rate (0) and the adapted rate (1).
    pub adaptation: f64,
    /// Whether the product of the norms is compared with 0, in the parameters' precision, instead of each norm.
    pub by_product: bool,
}

/// AdamW step with precomputed constants: `m = β1·m + (1 − β1)·gradient`; `v = β2·v + (1 − β2)·gradient²`;
/// `w = kept·w − rate·m/(√v / root + ε)`.
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

/// Rule of a parameter's step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum StepRule {
    /// Momentum, with one buffered value per element.
    Momentum(MomentumRule),
    /// Momentum with the trust ratio of LARS.
    Lars(LarsRule),
    /// AdamW, with two buffered values per element.
    AdamW(AdamWRule),
}

impl StepRule {
    /// Shape of the buffered values of one element.
    pub fn buffered(&self) -> &'static [usize] {
        match self {
            Self::Momentum(_) | Self::Lars(_) => &[],
            Self::AdamW(_) => &[2],
        }
    }
}

/// The step of one parameter.
#[derive(Clone, Debug)]
pub struct ParameterStep {
    /// The weight, which is updated in place.
    pub weight: Var,
    /// Momentum or moments, updated in place.
    pub buffer: Var,
    /// Gradient, of the weight's shape.
    pub gradient: Tensor,
    /// Rule of the step.
    pub rule: StepRule,
}

/// In-place updates of parameters, and sums of squares. Weights, buffers and gradients have the same shape, except for
/// AdamW's moments, which hold m and v in an additional last dimension of 2.
///
/// The default methods are composed of candle's operations and read nothing back from the device.
pub trait OptimizerOps {
    /// Squared norm Σ v² of a tensor of any shape, a scalar (f64 on the CPU and CUDA devices, f32 elsewhere).
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn squared_norm(&self, tensor: &Tensor) -> Result<Tensor> {
        tensor.detach().to_dtype(DType::F32)?.sqr()?.sum_all()
    }

    /// Updates a weight and its momentum in place.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn momentum_step(&self, weight: &Var, buffer: &Var, gradient: &Tensor, rule: &MomentumRule) -> Result<()> {
        let decayed = decayed(weight, gradient, rule.decay)?;
        along(weight, buffer, times(decayed, rule.inner)?, rule)
    }

    /// Updates a weight and its momentum in place, with the trust ratio of LARS.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
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

    /// Updates a weight and its moments in place.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn adamw_step(&self, weight: &Var, moments: &Var, gradient: &Tensor, rule: &AdamWRule) -> Result<()> {
        let (values, both, last) = (weight.as_detached_tensor(), moments.as_detached_tensor(), moments.rank() - 1);
        let [mean, square] = [both.narrow(last, 0, 1)?.squeeze(last)?, both.narrow(last, 1, 1)?.squeeze(last)?];
        let mean = ((mean * rule.beta1)? + (gradient * (1.0 - rule.beta1))?)?;
        let square = ((square * rule.beta2)? + (gradient.sqr()? * (1.0 - rule.beta2))?)?;
        let size = ((square.sqrt()? / rule.root)? + rule.epsilon)?;
        weight.set(&((values * rule.kept)? - ((&mean * rule.rate)? / size)?)?)?;
        moments.set(&Tensor::stack(&[mean, square], D::Minus1)?)
    }

    /// Takes the steps of many parameters, unless `gate` is closed. Each gradient is freed after its use.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn parameter_steps(&self, steps: Vec<ParameterStep>, gate: &Gate) -> Result<()> {
        steps.into_iter().try_for_each(|ParameterStep { weight, buffer, gradient, rule }| {
            gate.apply(&[&weight, &buffer], || match &rule {
                StepRule::Momentum(rule) => self.momentum_step(&weight, &buffer, &gradient, rule),
                StepRule::Lars(rule) => self.lars_step(&weight, &buffer, &gradient, rule),
                StepRule::AdamW(rule) => self.adamw_step(&weight, &buffer, &gradient, rule),
            })
        })
    }

    /// [Squared norms](Self::squared_norm) of n tensors, at least one, `[n]`.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn squared_norms(&self, tensors: &[&Tensor]) -> Result<Tensor> {
        Tensor::stack(&tensors.iter().map(|tensor| self.squared_norm(tensor)).collect::<Result<Vec<_>>>()?, 0)
    }

    /// Products of tensors with a scalar `factor` `[]` of their type, as new tensors. Each tensor is freed after its
    /// use.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn scaled(&self, tensors: Vec<Tensor>, factor: &Tensor) -> Result<Vec<Tensor>> {
        tensors.into_iter().map(|tensor| tensor.detach().broadcast_mul(factor)).collect()
    }

    /// [`move_towards`](Self::move_towards) of many tensors, unless `gate` is closed.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn move_all_towards(&self, pairs: &[(Var, Tensor)], kept: f64, gate: &Gate) -> Result<()> {
        pairs.iter().try_for_each(|(target, source)| gate.apply(&[target], || self.move_towards(target, source, kept)))
    }

    /// `target = kept·target + (1 − kept)·source` in place, for float tensors of the same shape.
    ///
    /// # Errors
    ///
    /// If a tensor operation fails.
    fn move_towards(&self, target: &Var, source: &Tensor, kept: f64) -> Result<()> {
        target.set(&(target.as_detached_tensor().affine(kept, 0.0)? + source.affine(1.0 - kept, 0.0)?)?)
    }
}

/// `gradient + decay·weight`.
fn decayed(weight: &Var, gradient: &Tensor, decay: f64) -> Result<Tensor> {
    gradient + (weight.as_detached_tensor() * decay)?
}

/// Adds `direction` to the momentum and updates the weight.
fn along(weight: &Var, buffer: &Var, direction: Tensor, rule: &MomentumRule) -> Result<()> {
    let momentum = ((buffer.as_detached_tensor() * rule.momentum)? + &direction)?;
    let step = match rule.nesterov {
        true => (direction + (&momentum * rule.momentum)?)?,
        false => momentum.clone(),
    };
    weight.set(&(weight.as_detached_tensor() - times(step, rule.outer)?)?)?;
    buffer.set(&momentum)
}

/// Product with a factor, without a pass over memory for a factor of 1.
fn times(tensor: Tensor, factor: f64) -> Result<Tensor> {
    if factor == 1.0 { Ok(tensor) } else { tensor * factor }
}
