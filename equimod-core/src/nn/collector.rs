//! Collection of weight gradients outside of candle's gradient store.
//!
//! candle initializes every gradient to zeros and accumulates into a copy. For a large weight of a head, these are
//! three more passes over memory and most of the cost of its backward pass. A layer that has computed the gradient of
//! its own weight stores it here instead.

use std::cell::RefCell;
use std::collections::HashMap;

use candle_core::{Result, Tensor, TensorId};

thread_local! {
    static COLLECTED: RefCell<Option<HashMap<TensorId, Tensor>>> = const { RefCell::new(None) };
}

/// Runs a backward pass and returns its result, with the gradients that layers on this thread stored during it, by the
/// tensor they belong to. All other gradients are in candle's store. If a tensor has a gradient in both, the sum is its
/// full gradient.
///
/// # Errors
///
/// If `backward` fails.
pub fn collecting<T>(backward: impl FnOnce() -> Result<T>) -> Result<(T, HashMap<TensorId, Tensor>)> {
    let outer = COLLECTED.replace(Some(HashMap::new()));
    let result = backward();
    let collected = COLLECTED.replace(outer).unwrap_or_default();
    Ok((result?, collected))
}

/// Stores a gradient of the tensor `of`, in that tensor's shape. Outside of [`collecting`], returns the gradient
/// instead, for candle to accumulate.
///
/// # Errors
///
/// If the shapes of two gradients of the same tensor differ.
pub fn collect(of: TensorId, gradient: Tensor) -> Result<Option<Tensor>> {
    COLLECTED.with_borrow_mut(|collected| {
        let Some(collected) = collected else { return Ok(Some(gradient)) };
        let sum = match collected.remove(&of) {
            Some(before) => (before + gradient)?,
            None => gradient,
        };
        collected.insert(of, sum);
        Ok(None)
    })
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;
    use crate::nn::Linear;
    use crate::params::ParamStore;

    #[test]
    fn what_is_collected_and_what_candle_keeps_make_the_whole_gradient() {
        // The loss is the sum over W·x, twice, plus ‖W‖², so that dW = 2·(1·xᵀ) + 2·W.
        let mut store = ParamStore::new(3, candle_core::DType::F64, &Device::Cpu);
        let linear = Linear::new(3, 2, false, &mut store.root()).unwrap();
        let weight = store.get("weight").unwrap().var.as_tensor().clone();
        let xs = Var::from_slice(&[1.0f64, 2.0, -3.0], (1, 3), &Device::Cpu).unwrap();
        let once = || linear.forward(&xs).unwrap().sum_all().unwrap();
        let loss = ((once() + once()).unwrap() + weight.sqr().unwrap().sum_all().unwrap()).unwrap();
        let whole = loss.backward().unwrap().remove(&weight).unwrap();
        let (mut kept, mut collected) = collecting(|| loss.backward()).unwrap();
        let parts = (kept.remove(&weight).unwrap() + collected.remove(&weight.id()).unwrap()).unwrap();
        let difference = (&whole - parts).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        assert!(difference < 1e-15, "{difference}");
        let expected =
            ((&weight * 2.0).unwrap().broadcast_add(&(xs.as_tensor() * 2.0).unwrap()).unwrap() - whole).unwrap();
        assert!(expected.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap() < 1e-15);
        assert!(collect(weight.id(), weight.clone()).unwrap().is_some(), "nobody collects any more");
    }
}
