//! Work on several things at the same time.

use std::sync::Mutex;
use std::thread;

use anyhow::bail;

/// Pieces of work that run at the same time.
const WORKERS: usize = 2;

/// Does the work of every item, two at a time, the last item first.
///
/// # Errors
///
/// If the work of an item fails; items that are left are not begun.
pub fn two_at_a_time<T: Send>(items: Vec<T>, work: impl Fn(T) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    let left = Mutex::new(items);
    let next = || left.lock().ok().and_then(|mut items| items.pop());
    let until_done = || -> anyhow::Result<()> {
        while let Some(item) = next() {
            if let Err(error) = work(item) {
                left.lock().map(|mut items| items.clear()).ok();
                return Err(error);
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS).map(|_| scope.spawn(until_done)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(result) => result,
            Err(_) => bail!("a piece of work stopped unexpectedly"),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::two_at_a_time;
    use anyhow::bail;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn all_items_are_done_once() {
        let sum = AtomicUsize::new(0);
        let add = |item| {
            sum.fetch_add(item, Ordering::Relaxed);
            Ok(())
        };
        two_at_a_time((1..=100).collect(), add).unwrap();
        assert_eq!(sum.into_inner(), 5050);
    }

    #[test]
    fn a_failure_ends_the_work() {
        let begun = AtomicUsize::new(0);
        let fail = |item: usize| {
            begun.fetch_add(1, Ordering::Relaxed);
            bail!("item {item} failed")
        };
        let error = two_at_a_time((0..100).collect(), fail).unwrap_err();
        assert!(error.to_string().contains("failed"), "{error}");
        assert!(begun.into_inner() <= 2);
    }
}
