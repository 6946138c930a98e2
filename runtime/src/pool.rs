//! A few threads that stay, to share the items of one kernel call.
//!
//! Which thread takes which item is left to chance; items are independent, so it does not show in the results. A worker
//! that finds nothing to do looks again for some microseconds, since the next layer is often about to come, and then
//! sleeps.
#![expect(unsafe_code, reason = "threads that outlive a call borrow from it while it waits for them")]

use alloc::vec::Vec;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

/// Looks at a counter before a thread sleeps: some tens of microseconds.
const LOOKS: u32 = 20_000;

/// Threads that share work with their caller.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One call at a time.
    turn: Mutex<()>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// How many jobs there were; a copy of that in the state, to look at without the lock.
    jobs: AtomicU64,
    /// The next item of the job.
    next: AtomicUsize,
    /// Workers that have not finished the job.
    busy: AtomicUsize,
    panicked: AtomicBool,
}

#[derive(Clone, Copy)]
struct State {
    jobs: u64,
    job: Option<Job>,
    stop: bool,
}

/// What to do with each of some items.
#[derive(Clone, Copy)]
struct Job {
    work: &'static (dyn Fn(usize) + Sync),
    items: usize,
}

impl Pool {
    /// A pool in which `threads` work together: the caller and the others.
    ///
    /// # Errors
    /// If the system starts no more threads.
    pub(crate) fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { jobs: 0, job: None, stop: false }),
            changed: Condvar::new(),
            jobs: AtomicU64::new(0),
            next: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
        });
        let mut pool = Self { shared, workers: Vec::new(), turn: Mutex::new(()) };
        for _ in 1..threads {
            let shared = Arc::clone(&pool.shared);
            pool.workers.push(std::thread::Builder::new().name("bitc".into()).spawn(move || shared.serve())?);
        }
        Ok(pool)
    }

    /// The threads that work together.
    pub(crate) fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` for every item, on all threads, and returns when all are done.
    pub(crate) fn each<T: Send>(&self, items: &mut [T], work: impl Fn(&mut T) + Sync) {
        let first = Items(items.as_mut_ptr());
        let len = items.len();
        let work = |index: usize| {
            assert!(index < len, "an item of the job");
            let first = &first;
            let item = first.0.wrapping_add(index);
            // SAFETY: within the slice by the assertion, which stays borrowed until `run` returns; `run` hands out every
            // index once, so nothing else refers to this item.
            work(unsafe { &mut *item });
        };
        self.run(len, &work);
    }

    /// Calls `work` once for every number below `items` and returns when all calls have.
    fn run(&self, items: usize, work: &(dyn Fn(usize) + Sync)) {
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: only the lifetime changes. Workers use the job between the increment of `jobs` and their decrement of
        // `busy`, and this function returns, or unwinds, after `busy` came down to 0.
        let work = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(work) };
        let job = Job { work, items };
        self.shared.next.store(0, Ordering::Relaxed);
        self.shared.busy.store(self.workers.len(), Ordering::Relaxed);
        self.shared.change(|state| {
            state.job = Some(job);
            state.jobs += 1;
        });
        let result = catch_unwind(AssertUnwindSafe(|| self.shared.work_on(job)));
        self.shared.wait(|shared| shared.busy.load(Ordering::Acquire) == 0);
        let panicked = self.shared.panicked.swap(false, Ordering::Relaxed);
        if let Err(panic) = result {
            resume_unwind(panic);
        }
        assert!(!panicked, "a worker panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.change(|state| {
            state.stop = true;
            state.jobs += 1;
        });
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its work.
            _ = worker.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        self.jobs.store(state.jobs, Ordering::Release);
        drop(state);
        self.changed.notify_all();
    }

    /// Returns when `done`: looks for a while, then sleeps until something changes.
    fn wait(&self, done: impl Fn(&Self) -> bool) {
        for _ in 0..LOOKS {
            if done(self) {
                return;
            }
            std::hint::spin_loop();
        }
        let mut state = self.lock();
        while !done(self) {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// What a worker does all its life.
    fn serve(&self) {
        let mut seen = 0;
        loop {
            self.wait(|shared| shared.jobs.load(Ordering::Acquire) != seen);
            let State { jobs, job, stop } = *self.lock();
            if stop {
                return;
            }
            seen = jobs;
            if let Some(job) = job {
                let result = catch_unwind(AssertUnwindSafe(|| self.work_on(job)));
                if result.is_err() {
                    self.panicked.store(true, Ordering::Relaxed);
                }
                if self.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
                    // Under the lock, so that a caller that is about to sleep does not miss it.
                    drop(self.lock());
                    self.changed.notify_all();
                }
            }
        }
    }

    fn work_on(&self, job: Job) {
        loop {
            let index = self.next.fetch_add(1, Ordering::Relaxed);
            if index >= job.items {
                return;
            }
            (job.work)(index);
        }
    }
}

/// The first of the items that threads take from.
struct Items<T>(*mut T);

// SAFETY: threads reach different items through it, and items may be sent.
unsafe impl<T: Send> Sync for Items<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_worked_on_once_per_call() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads).unwrap();
            assert_eq!(pool.threads(), threads);
            let mut items: Vec<usize> = (0..37).collect();
            for call in 1..200 {
                pool.each(&mut items, |item| *item += 100);
                assert!(items.iter().enumerate().all(|(i, &item)| item == i + 100 * call));
            }
            pool.each(&mut [0; 0], |_: &mut i32| panic!("there are no items"));
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3).unwrap();
        for bad in 0..8 {
            let mut items: Vec<usize> = (0..8).collect();
            let work = |item: &mut usize| assert_ne!(*item, bad);
            assert!(catch_unwind(AssertUnwindSafe(|| pool.each(&mut items, work))).is_err());
            pool.each(&mut items, |item| *item = 7);
            assert_eq!(items, [7; 8]);
        }
    }
}
