//! Limited-memory BFGS with a strong-Wolfe line search (Nocedal & Wright, Numerical Optimization, algorithms 7.5, 3.5
//! and 3.6).

use std::collections::VecDeque;

use crate::Result;
use crate::error::refuse;
use crate::matrix::{add_scaled, dot};

/// Settings of [`minimize`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LbfgsConfig {
    /// Number of stored pairs of steps and gradient differences. Published: 100.
    pub history: usize,
    /// Maximum number of iterations. Published: 5000.
    pub iterations: usize,
    /// Converged when no entry of the gradient exceeds this. Default: 1e-5.
    pub tolerance: f64,
    /// Converged when a step lowers the objective by no more than this share of max(1, |objective|). Default: 0.
    pub change: f64,
}

impl Default for LbfgsConfig {
    fn default() -> Self {
        Self { history: 100, iterations: 5000, tolerance: 1e-5, change: 0.0 }
    }
}

/// Constants of sufficient decrease and of curvature (strong Wolfe conditions).
const DECREASE: f64 = 1e-4;
const CURVATURE: f64 = 0.9;
/// Maximum number of evaluations in a line search.
const EVALUATIONS: usize = 30;

/// A point with its value and gradient.
struct Point {
    at: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

/// A step s, the gradient's change y, and 1/(sᵀy).
struct Pair {
    step: Vec<f64>,
    change: Vec<f64>,
    inverse: f64,
}

/// A product with a symmetric positive definite matrix.
pub type Preconditioner<'a> = dyn Fn(&[f64]) -> Vec<f64> + 'a;

/// The end point of [`minimize`].
#[derive(Clone, Debug, PartialEq)]
pub struct Minimum {
    /// The point.
    pub at: Vec<f64>,
    /// The objective at the point.
    pub value: f64,
    /// Number of steps.
    pub iterations: usize,
    /// Whether the tolerance or the change was reached, rather than the maximum number of iterations or a failed line
    /// search.
    pub converged: bool,
}

/// Minimizes `evaluate`, which gives value and gradient at a point, from `start`.
///
/// `preconditioner` multiplies by a symmetric positive definite approximation of the inverse Hessian, from which the
/// recursion starts; `None` stands for a multiple of the identity.
///
/// # Errors
/// If the objective is not finite at `start`, or if an evaluation fails.
pub fn minimize(
    start: Vec<f64>,
    config: &LbfgsConfig,
    preconditioner: Option<&Preconditioner>,
    mut evaluate: impl FnMut(&[f64]) -> Result<(f64, Vec<f64>)>,
) -> Result<Minimum> {
    let (value, gradient) = evaluate(&start)?;
    if !value.is_finite() {
        return refuse(format!("the objective is {value} at the start; check the features"));
    }
    let mut point = Point { at: start, value, gradient };
    let mut pairs: VecDeque<Pair> = VecDeque::new();
    let (mut iterations, mut converged) = (0, false);
    while iterations < config.iterations {
        if point.gradient.iter().all(|g| g.abs() <= config.tolerance) {
            converged = true;
            break;
        }
        let mut direction = descent(&point.gradient, &pairs, preconditioner);
        if dot(&direction, &point.gradient) >= 0.0 {
            pairs.clear();
            direction = point.gradient.iter().map(|g| -g).collect();
        }
        let known = !pairs.is_empty() || preconditioner.is_some();
        let first = if known { 1.0 } else { 1.0 / dot(&direction, &direction).sqrt().max(1.0) };
        let Some(next) = line_search(&point, &direction, first, &mut evaluate)? else { break };
        iterations += 1;
        let step = difference(&next.at, &point.at);
        let change = difference(&next.gradient, &point.gradient);
        let curvature = dot(&step, &change);
        if curvature > 1e-300 {
            if pairs.len() == config.history.max(1) {
                pairs.pop_front();
            }
            pairs.push_back(Pair { step, change, inverse: 1.0 / curvature });
        }
        let lowered = point.value - next.value;
        point = next;
        if lowered <= config.change * point.value.abs().max(1.0) {
            converged = true;
            break;
        }
    }
    Ok(Minimum { at: point.at, value: point.value, iterations, converged })
}

fn difference(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a - b).collect()
}

/// −H·gradient by the two-loop recursion.
fn descent(gradient: &[f64], pairs: &VecDeque<Pair>, preconditioner: Option<&Preconditioner>) -> Vec<f64> {
    let mut q: Vec<f64> = gradient.iter().map(|g| -g).collect();
    let mut shares = Vec::with_capacity(pairs.len());
    for pair in pairs.iter().rev() {
        let share = pair.inverse * dot(&pair.step, &q);
        add_scaled(&mut q, -share, &pair.change);
        shares.push(share);
    }
    if let Some(preconditioner) = preconditioner {
        q = preconditioner(&q);
    } else if let Some(last) = pairs.back() {
        let scale = 1.0 / (last.inverse * dot(&last.change, &last.change));
        q.iter_mut().for_each(|q| *q *= scale);
    }
    for (pair, share) in pairs.iter().zip(shares.into_iter().rev()) {
        let back = pair.inverse * dot(&pair.change, &q);
        add_scaled(&mut q, share - back, &pair.step);
    }
    q
}

/// A point along the search direction: step length, value, slope.
#[derive(Clone, Copy)]
struct Trial {
    length: f64,
    value: f64,
    slope: f64,
}

/// A point that satisfies the strong Wolfe conditions, or else the lowest point; `None` if no point is lower than the
/// start.
fn line_search(
    point: &Point,
    direction: &[f64],
    first: f64,
    evaluate: &mut impl FnMut(&[f64]) -> Result<(f64, Vec<f64>)>,
) -> Result<Option<Point>> {
    let start = Trial { length: 0.0, value: point.value, slope: dot(&point.gradient, direction) };
    let (mut low, mut high): (Trial, Option<Trial>) = (start, None);
    let (mut length, mut best): (f64, Option<Point>) = (first, None);
    for _ in 0..EVALUATIONS {
        let mut at = point.at.clone();
        add_scaled(&mut at, length, direction);
        let (value, gradient) = evaluate(&at)?;
        let trial = Trial { length, value, slope: dot(&gradient, direction) };
        let sufficient = value <= start.value + DECREASE * length * start.slope;
        if value.is_finite() && value < best.as_ref().map_or(point.value, |b| b.value) {
            best = Some(Point { at, value, gradient });
        }
        if sufficient && trial.slope.abs() <= -CURVATURE * start.slope {
            break;
        }
        if !sufficient || trial.value >= low.value || !trial.value.is_finite() {
            high = Some(trial);
        } else {
            if trial.slope * high.map_or(1.0, |h| h.length - low.length) >= 0.0 {
                high = Some(low);
            }
            low = trial;
        }
        length = match high {
            Some(high) => between(low, high),
            None => 2.0 * length,
        };
    }
    Ok(best)
}

/// The minimum of the parabola through the lower trial's value and slope and the other's value, clamped away from the
/// ends.
fn between(low: Trial, high: Trial) -> f64 {
    let width = high.length - low.length;
    let curvature = (high.value - low.value - low.slope * width) / (width * width);
    let share = if curvature.is_finite() && curvature > 0.0 { -low.slope / (2.0 * curvature * width) } else { 0.5 };
    low.length + width * if share.is_finite() { share.clamp(0.1, 0.9) } else { 0.5 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rosenbrock_valley_is_followed_to_its_end() {
        let rosenbrock = |x: &[f64]| {
            let (a, b) = (1.0 - x[0], x[1] - x[0] * x[0]);
            Ok((a * a + 100.0 * b * b, vec![-2.0 * a - 400.0 * x[0] * b, 200.0 * b]))
        };
        let config = LbfgsConfig { tolerance: 1e-10, change: 0.0, ..Default::default() };
        let Minimum { at, value, converged, .. } = minimize(vec![-1.2, 1.0], &config, None, rosenbrock).unwrap();
        assert!(
            converged && value < 1e-16 && (at[0] - 1.0).abs() < 1e-7 && (at[1] - 1.0).abs() < 1e-7,
            "{at:?} {value:e}"
        );
    }

    #[test]
    fn an_objective_that_is_not_finite_is_refused() {
        let error = minimize(vec![0.0], &LbfgsConfig::default(), None, |_| Ok((f64::NAN, vec![0.0]))).unwrap_err();
        assert!(error.to_string().contains("NaN"));
    }
}
