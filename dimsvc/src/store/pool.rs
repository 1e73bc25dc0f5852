//! The store as the async rest of the program sees it.
//!
//! A fixed number of threads makes the blocking calls, taken from one bounded
//! queue. Every call has a deadline. Past it the caller has its error, a call
//! still in the queue is dropped, one at work goes on: what it writes is
//! harmless, because versions are.

use super::{PrefixPage, PruneKey, ReadKey, ReadPrefix, ScanCursor, ScanPage, Store, StoreError, StoredRow};
use crate::dimension::{Key, TableRows};
use parking_lot::Mutex;
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};
use tidemark_proto::Position;
use tokio::{sync::oneshot, time::Instant};

/// See the module. Clones share the threads and the queue.
///
/// # Cancel safety
/// Dropping a call's future does not stop the call.
#[derive(Clone)]
pub struct StorePool {
    threads: Arc<Threads>,
    timeout: Duration,
}

impl std::fmt::Debug for StorePool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StorePool").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

struct Threads {
    store: Arc<dyn Store>,
    /// `None` once shut down.
    queue: Mutex<Option<SyncSender<Job>>>,
    handles: Mutex<Vec<JoinHandle<()>>>,
}

struct Job {
    deadline: Instant,
    run: Box<dyn FnOnce() + Send>,
}

impl StorePool {
    /// Starts the threads. `queue` calls may wait for one, and each call may
    /// wait and take `timeout` together.
    pub fn new(store: Arc<dyn Store>, threads: usize, queue: usize, timeout: Duration) -> Self {
        let (queue, jobs) = sync_channel(queue);
        let jobs = Arc::new(Mutex::new(jobs));
        let start = |number| {
            let jobs = Arc::clone(&jobs);
            let thread = std::thread::Builder::new().name(format!("store-{number}"));
            thread
                .spawn(move || work(&jobs))
                .inspect_err(|error| tracing::error!(%error, "store thread not started"))
                .ok()
        };
        let handles = (0..threads.max(1)).filter_map(start).collect();
        let threads = Threads { store, queue: Mutex::new(Some(queue)), handles: Mutex::new(handles) };
        Self { threads: Arc::new(threads), timeout }
    }

    /// The same pool for calls that must end earlier.
    #[must_use]
    pub fn within(&self, timeout: Duration) -> Self {
        Self { threads: Arc::clone(&self.threads), timeout: timeout.min(self.timeout) }
    }

    /// [`Store::create_table`].
    pub async fn create_table(&self, table: Arc<str>) -> Result<(), StoreError> {
        self.call(move |store| store.create_table(&table)).await
    }

    /// [`Store::write`].
    pub async fn write(&self, batch: Vec<TableRows>) -> Result<(), StoreError> {
        self.call(move |store| store.write(&batch)).await
    }

    /// [`Store::read`].
    pub async fn read(
        &self,
        table: Arc<str>,
        keys: Vec<ReadKey>,
    ) -> Result<Vec<Option<StoredRow>>, StoreError> {
        self.call(move |store| store.read(&table, &keys)).await
    }

    /// [`Store::versions`].
    pub async fn versions(
        &self,
        table: Arc<str>,
        key: Key,
        limit: usize,
    ) -> Result<Vec<StoredRow>, StoreError> {
        self.call(move |store| store.versions(&table, &key, limit)).await
    }

    /// [`Store::scan_prefixes`].
    pub async fn scan_prefixes(
        &self,
        table: Arc<str>,
        prefixes: Vec<ReadPrefix>,
        limit: usize,
    ) -> Result<Vec<PrefixPage>, StoreError> {
        self.call(move |store| store.scan_prefixes(&table, &prefixes, limit)).await
    }

    /// [`Store::prune`].
    pub async fn prune(&self, table: Arc<str>, keys: Vec<PruneKey>) -> Result<(), StoreError> {
        self.call(move |store| store.prune(&table, &keys)).await
    }

    /// [`Store::scan`].
    pub async fn scan(
        &self,
        table: Arc<str>,
        from: Option<ScanCursor>,
        before: Position,
        limit: usize,
    ) -> Result<ScanPage, StoreError> {
        self.call(move |store| store.scan(&table, from.as_ref(), before, limit)).await
    }

    /// [`Store::load_cell`].
    pub async fn load_cell(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let name = name.to_owned();
        self.call(move |store| store.load_cell(&name)).await
    }

    /// [`Store::compare_and_set_cell`].
    pub async fn compare_and_set_cell(
        &self,
        name: &str,
        expect: Option<Vec<u8>>,
        value: Vec<u8>,
    ) -> Result<bool, StoreError> {
        let name = name.to_owned();
        self.call(move |store| store.compare_and_set_cell(&name, expect.as_deref(), &value)).await
    }

    /// Takes no more calls, ends those in the queue, and waits for the threads.
    /// Bound the wait: a store that hangs, hangs until its own timeouts.
    pub async fn shutdown(&self) {
        drop(self.threads.queue.lock().take());
        let handles = std::mem::take(&mut *self.threads.handles.lock());
        let join = move || handles.into_iter().filter_map(|handle| handle.join().err()).count();
        match tokio::task::spawn_blocking(join).await {
            Ok(0) => {}
            Ok(panicked) => tracing::error!(panicked, "store threads panicked"),
            Err(error) => tracing::error!(%error, "store threads not joined"),
        }
    }

    async fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let deadline = Instant::now() + self.timeout;
        let (answer, answered) = oneshot::channel();
        let store = Arc::clone(&self.threads.store);
        let run = Box::new(move || {
            let result = catch_unwind(AssertUnwindSafe(|| call(&*store)));
            // Nobody listens when the caller went away.
            drop(answer.send(result.unwrap_or_else(|panic| Err(panicked(&*panic)))));
        });
        self.submit(Job { deadline, run })?;
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(result)) => result,
            // The job was dropped unrun: its deadline passed in the queue.
            Ok(Err(_)) => Err(StoreError::Overloaded("the call waited past its deadline")),
            Err(_) => Err(StoreError::Unavailable(format!("no answer within {:?}", self.timeout))),
        }
    }

    fn submit(&self, job: Job) -> Result<(), StoreError> {
        let queue = self.threads.queue.lock();
        let queue = queue.as_ref().ok_or_else(|| StoreError::Unavailable(String::from("it is closed")))?;
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Overloaded("too many calls wait"),
            TrySendError::Disconnected(_) => StoreError::Unavailable(String::from("its threads are gone")),
        })
    }
}

fn work(jobs: &Mutex<Receiver<Job>>) {
    loop {
        // Bound first: a guard in the `match` would be held while the job runs.
        let job = jobs.lock().recv();
        match job {
            Ok(job) if Instant::now() < job.deadline => (job.run)(),
            Ok(_) => tracing::debug!("store call dropped past its deadline"),
            Err(_) => return,
        }
    }
}

fn panicked(panic: &(dyn Any + Send)) -> StoreError {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    StoreError::Refused(format!("the call panicked: {text}"))
}

#[cfg(test)]
mod tests;
