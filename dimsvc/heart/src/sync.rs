//! Locks and atomics: parking_lot's and std's, or shuttle's under the model
//! checker, which runs every order of them that it can think of.

#[cfg(not(feature = "model"))]
pub(crate) use parking_lot::{Mutex, RwLock};
#[cfg(not(feature = "model"))]
pub(crate) use std::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "model")]
pub(crate) use foldhash::fast::FixedState as RowHasher;
/// Places of rows; under the model the same ones in every run of a schedule.
#[cfg(not(feature = "model"))]
pub(crate) use foldhash::fast::RandomState as RowHasher;

#[cfg(feature = "model")]
pub(crate) use modelled::{Mutex, RwLock};
#[cfg(feature = "model")]
pub(crate) use shuttle::sync::atomic::{AtomicU64, Ordering};

#[cfg(feature = "model")]
mod modelled {
    //! Shuttle's locks with parking_lot's signatures: no poisoning, because a
    //! panic ends the schedule.

    use shuttle::sync::{MutexGuard, PoisonError, RwLockReadGuard, RwLockWriteGuard};

    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(shuttle::sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(shuttle::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct RwLock<T>(shuttle::sync::RwLock<T>);

    impl<T> RwLock<T> {
        pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.read().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn write(&self) -> RwLockWriteGuard<'_, T> {
            self.0.write().unwrap_or_else(PoisonError::into_inner)
        }
    }
}
