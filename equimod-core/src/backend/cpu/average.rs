//! In-place moving average of a target network.

use candle_core::{CpuStorage, InplaceOp2, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;

use super::element::Element;
use super::slices::plain;
use super::vectorize::vectorized;

/// Number of values of a task.
const CHUNK: usize = 1 << 15;

/// [`OptimizerOps::move_towards`](crate::backend::contract::OptimizerOps::move_towards).
pub fn move_towards(target: &Var, source: &Tensor, kept: f64) -> Result<()> {
    target.inplace_op2(&plain(source)?, &MoveTowards { kept })
}

struct MoveTowards {
    kept: f64,
}

impl MoveTowards {
    fn run<T: Element>(&self, target: &mut [T], source: &[T]) {
        let (kept, rest) = (T::narrow(self.kept), T::narrow(1.0 - self.kept));
        target.par_chunks_mut(CHUNK).zip(source.par_chunks(CHUNK)).for_each(|(target, source)| {
            vectorized(
                #[inline(always)]
                || {
                    for (target, &source) in target.iter_mut().zip(source) {
                        *target = kept * *target + rest * source;
                    }
                },
            );
        });
    }
}

impl InplaceOp2 for MoveTowards {
    fn name(&self) -> &'static str {
        "moving average"
    }

    fn cpu_fwd(
        &self,
        target: &mut CpuStorage,
        target_layout: &Layout,
        source: &CpuStorage,
        source_layout: &Layout,
    ) -> Result<()> {
        let (Some((first, end)), Some((source_first, source_end))) =
            (target_layout.contiguous_offsets(), source_layout.contiguous_offsets())
        else {
            bail!("a moving average needs contiguous tensors")
        };
        if end - first != source_end - source_first {
            bail!("a moving average got {} values of {}", source_end - source_first, end - first);
        }
        match (target, source) {
            (CpuStorage::F32(target), CpuStorage::F32(source)) => {
                self.run(&mut target[first..end], &source[source_first..source_end]);
            }
            (CpuStorage::F64(target), CpuStorage::F64(source)) => {
                self.run(&mut target[first..end], &source[source_first..source_end]);
            }
            _ => bail!("a moving average needs tensors that are both f32 or both f64"),
        }
        Ok(())
    }
}
