//! Tasks side by side, or one after the other where that is sooner done.

use rayon::prelude::*;

/// Values below which work is done before other threads have woken up.
const FEW: usize = 1 << 17;

/// Does every task; together they go over `values` values. What they do must not depend on their order.
pub fn each<T: Send>(tasks: Vec<T>, values: usize, work: impl Fn(T) + Sync + Send) {
    match values < FEW {
        true => tasks.into_iter().for_each(work),
        false => tasks.into_par_iter().for_each(work),
    }
}
