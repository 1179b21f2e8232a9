//! Parallel execution of tasks, or sequential execution if that is faster.

use rayon::prelude::*;

/// Number of values below which sequential execution is faster than waking up other threads.
const FEW: usize = 1 << 17;

/// Runs all tasks, which process `values` values together. Their results must not depend on their order.
pub fn each<T: Send>(tasks: Vec<T>, values: usize, work: impl Fn(T) + Sync + Send) {
    match values < FEW {
        true => tasks.into_iter().for_each(work),
        false => tasks.into_par_iter().for_each(work),
    }
}
