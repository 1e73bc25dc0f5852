//! Independent calls side by side, in the caller's thread and some more.

use crate::store::StoreError;
use parking_lot::Mutex;
use std::panic::resume_unwind;

/// Does all the work on at most `threads` threads; result i is of item i. No
/// item begins after one has failed.
pub(super) fn in_parallel<T: Sync, R: Send>(
    threads: usize,
    items: &[T],
    work: impl Fn(&T) -> Result<R, StoreError> + Sync,
) -> Result<Vec<R>, StoreError> {
    if threads <= 1 || items.len() <= 1 {
        return items.iter().map(work).collect();
    }
    let queue = Mutex::new(items.iter().enumerate());
    let take = || queue.lock().next();
    let drain = || {
        let mut done = Vec::new();
        while let Some((index, item)) = take() {
            match work(item) {
                Ok(result) => done.push((index, result)),
                Err(error) => {
                    // Leaves nothing for the others.
                    queue.lock().by_ref().for_each(drop);
                    return Err(error);
                }
            }
        }
        Ok(done)
    };
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads.min(items.len())).map(|_| scope.spawn(drain)).collect();
        let mut done = drain();
        for other in others {
            let more = other.join().unwrap_or_else(|panic| resume_unwind(panic));
            done = done.and_then(|mut done| {
                done.extend(more?);
                Ok(done)
            });
        }
        done
    })?;
    done.sort_unstable_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Barrier, atomic::AtomicUsize, atomic::Ordering};

    #[test]
    fn results_are_in_order_and_items_run_side_by_side() {
        let both_at_work = Barrier::new(2);
        let results = in_parallel(2, &[10, 20], |item| {
            both_at_work.wait();
            Ok(item + 1)
        });
        assert_eq!(results.unwrap(), [11, 21]);
        assert_eq!(in_parallel(3, &(0..100).collect::<Vec<_>>(), |item| Ok(*item)).unwrap().len(), 100);
    }

    #[test]
    fn an_error_ends_the_work() {
        let begun = AtomicUsize::new(0);
        let result = in_parallel(2, &[(); 1_000], |()| -> Result<(), _> {
            begun.fetch_add(1, Ordering::SeqCst);
            Err(StoreError::Overloaded("full"))
        });
        assert!(matches!(result, Err(StoreError::Overloaded("full"))));
        assert!(begun.load(Ordering::SeqCst) <= 2);
    }
}
