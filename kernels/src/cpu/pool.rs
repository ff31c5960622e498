//! One set of threads that share out the work of a kernel call and wait for it together.
//!
//! A decode step makes hundreds of short calls, so waiting threads spin for a while before they sleep. Work is cut into tasks that threads claim one
//! by one: a thread that is held up by other processes takes fewer. This is not a general executor: tasks do not spawn tasks.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Turns of the waiting loop before a thread sleeps: some tens of microseconds.
const SPINS: u32 = 20_000;

/// Threads that wait for work, the calling thread being one of them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One call at a time.
    turn: Mutex<()>,
}

/// What a thread needs of a call: the closure, and the tasks that are left.
struct Job<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    tasks: usize,
    next: AtomicUsize,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

struct Shared {
    /// The number of the current call; a worker that sees a new one takes part in it.
    call: AtomicU64,
    /// The job of the current call. Valid from the change of `call` until `busy` is back at zero.
    job: AtomicPtr<()>,
    /// Workers that have not finished the current call.
    busy: AtomicUsize,
    stop: AtomicBool,
    asleep: Mutex<usize>,
    wake: Condvar,
}

impl Pool {
    /// A pool of `threads` threads, the caller's among them (at least one).
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            call: AtomicU64::new(0),
            job: AtomicPtr::new(std::ptr::null_mut()),
            busy: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            asleep: Mutex::new(0),
            wake: Condvar::new(),
        });
        let mut pool = Self { shared, workers: Vec::new(), turn: Mutex::new(()) };
        for i in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let name = format!("sbnc-{i}");
            pool.workers.push(std::thread::Builder::new().name(name).spawn(move || shared.serve())?);
        }
        Ok(pool)
    }

    /// Threads that work, the caller's among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work` with every number below `tasks`, on all threads, and returns when all calls have returned. A panic of a task is handed on.
    pub fn run(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        if tasks <= 1 || self.workers.is_empty() {
            return (0..tasks).for_each(work);
        }
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let job = Job { work, tasks, next: AtomicUsize::new(0), panic: Mutex::new(None) };
        self.shared.start(&job, self.workers.len());
        job.work_through();
        self.shared.wait();
        drop(turn);
        if let Some(panic) = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }

    /// Cuts `out` into pieces of `size` elements (the last one may be shorter) and calls `work` with the number of each piece and the piece.
    pub fn chunks<T: Send>(&self, out: &mut [T], size: usize, work: &(dyn Fn(usize, &mut [T]) + Sync)) {
        let out = Shares::new(out);
        self.run(out.len().div_ceil(size.max(1)), &|i| {
            let start = i * size;
            // SAFETY: `run` hands every number out once, so the ranges of different calls do not overlap; this one lies within `out`.
            let piece = unsafe { out.range(start, size.min(out.len() - start)) };
            work(i, piece);
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.announce();
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // a worker cannot panic: tasks' panics are caught
        }
    }
}

impl Job<'_> {
    fn work_through(&self) {
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= self.tasks {
                return;
            }
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.work)(task))) {
                *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
                self.next.store(self.tasks, Ordering::Relaxed);
            }
        }
    }
}

impl Shared {
    fn start(&self, job: &Job<'_>, workers: usize) {
        self.busy.store(workers, Ordering::Relaxed);
        self.job.store(std::ptr::from_ref(job).cast_mut().cast(), Ordering::Relaxed);
        self.announce();
    }

    fn announce(&self) {
        self.call.fetch_add(1, Ordering::Release);
        let asleep = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        if *asleep > 0 {
            self.wake.notify_all();
        }
    }

    fn wait(&self) {
        let mut spins = 0u32;
        while self.busy.load(Ordering::Acquire) > 0 {
            spins += 1;
            // The others are within their last task; a thread that lost its processor needs this one.
            if spins.is_multiple_of(SPINS) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    }

    /// The life of a worker.
    fn serve(&self) {
        let mut seen = 0;
        loop {
            seen = self.next_call(seen);
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let job: *const Job<'_> = self.job.load(Ordering::Relaxed).cast();
            // SAFETY: `job` was stored before `call` changed (release, seen with acquire in `next_call`). It points to the frame of `Pool::run`,
            // which does not return before `busy` is zero, and this worker is counted there until the line after.
            unsafe { &*job }.work_through();
            self.busy.fetch_sub(1, Ordering::Release);
        }
    }

    /// Waits until the number of the call is not `seen`: spins, then sleeps.
    fn next_call(&self, seen: u64) -> u64 {
        for _ in 0..SPINS {
            let call = self.call.load(Ordering::Acquire);
            if call != seen {
                return call;
            }
            std::hint::spin_loop();
        }
        let mut asleep = self.asleep.lock().unwrap_or_else(PoisonError::into_inner);
        *asleep += 1;
        while self.call.load(Ordering::Acquire) == seen {
            asleep = self.wake.wait(asleep).unwrap_or_else(PoisonError::into_inner);
        }
        *asleep -= 1;
        self.call.load(Ordering::Acquire)
    }
}

/// A slice that tasks write to in parts that do not overlap.
pub(crate) struct Shares<'a, T> {
    start: *mut T,
    len: usize,
    owner: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: a `Shares` is a `&mut [T]` whose parts are handed out by `range`, whose callers promise that no two overlap; so sharing it between threads
// sends parts of a `&mut [T]` to them, which is sound where T is Send.
unsafe impl<T: Send> Sync for Shares<'_, T> {}

impl<'a, T> Shares<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), len: slice.len(), owner: std::marker::PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The part of `len` elements from `start` on; panics where the slice has no such part.
    ///
    /// # Safety
    ///
    /// No two parts that are alive at a time overlap.
    #[allow(clippy::mut_from_ref, reason = "the parts do not overlap, which is what the caller promises")]
    pub(crate) unsafe fn range(&self, start: usize, len: usize) -> &mut [T] {
        assert!(start <= self.len && len <= self.len - start, "a part of the slice");
        // SAFETY: `start` is within the slice, as checked above.
        let first = unsafe { self.start.add(start) };
        // SAFETY: the part lies within the slice, which is borrowed exclusively for as long as `self`; the caller keeps parts apart.
        unsafe { std::slice::from_raw_parts_mut(first, len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 3, 8] {
            let pool = Pool::new(threads).expect("threads");
            for tasks in [0, 1, 2, 7, 1000] {
                let mut counts = vec![0u32; tasks];
                pool.chunks(&mut counts, 1, &|i, piece| piece[0] += 1 + i as u32);
                assert!(counts.iter().enumerate().all(|(i, &c)| c == 1 + i as u32));
            }
        }
    }

    #[test]
    fn pieces_cover_a_slice_that_they_do_not_divide() {
        let pool = Pool::new(2).expect("threads");
        let mut out = vec![0usize; 103];
        pool.chunks(&mut out, 10, &|i, piece| piece.iter_mut().for_each(|v| *v = i + 1));
        assert!(out.iter().enumerate().all(|(i, &v)| v == i / 10 + 1));
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3).expect("threads");
        let panicked = catch_unwind(AssertUnwindSafe(|| pool.run(50, &|i| assert!(i != 17, "task 17"))));
        assert!(panicked.is_err());
        let count = AtomicUsize::new(0);
        pool.run(50, &|_| {
            count.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(count.into_inner(), 50);
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let pool = Pool::new(2).expect("threads");
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        pool.run(5, &|_| {
                            count.fetch_add(1, Ordering::Relaxed);
                        });
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 2000);
    }
}
