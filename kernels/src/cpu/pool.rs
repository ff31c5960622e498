//! One set of threads that share out the work of a kernel call and wait for it together.
//!
//! A decode step makes hundreds of short calls, so waiting threads spin for a while before they sleep. The tasks of a call are cut into a run for each
//! thread, so that a thread reads memory in order; one that has finished takes tasks of the others. A call waits for threads that have begun a task and
//! for no others: one that sleeps, or that lost its processor to another program, delays nobody. This is not a general executor: tasks do not spawn
//! tasks. Threads that wait may be told what to fetch meanwhile, so that memory is not idle while one thread works alone.

mod shares;
mod wish;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use self::wish::{Fetching, Wish};
pub(crate) use shares::Shares;
pub(crate) use wish::PLACES;

/// How long a thread waits before it sleeps: longer than what comes between two calls of a decode step.
const PATIENCE: Duration = Duration::from_micros(200);
/// The same where threads outnumber processors, so that waiting takes time from working.
const PATIENCE_OF_MANY: Duration = Duration::from_micros(5);
/// Turns of a waiting loop between two looks at the clock.
const TURNS: u32 = 32;

/// Threads that wait for work, the calling thread being one of them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// One call at a time.
    turn: Mutex<()>,
}

/// What a thread needs of a call.
struct Job<'a> {
    work: &'a (dyn Fn(usize) + Sync),
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

struct Shared {
    /// The number of the current call, whether threads may still join it, and how many have joined and not left: see [`State`].
    state: Padded<AtomicU64>,
    /// The job of the current call: valid while the call is open, and for those who joined it.
    job: AtomicPtr<()>,
    /// Tasks that are left, for each thread.
    runs: Box<[Padded<Run>]>,
    /// What each thread is to fetch while it waits.
    wishes: Box<[Padded<Wish>]>,
    patience: Duration,
    stop: AtomicBool,
    /// Threads that sleep or are about to.
    sleepers: AtomicUsize,
    lock: Mutex<()>,
    wake: Condvar,
}

/// Alone in its lines of a cache, of which processors fetch two at a time.
#[repr(align(128))]
struct Padded<T>(T);

/// Consecutive tasks.
#[derive(Default)]
struct Run {
    next: AtomicUsize,
    end: AtomicUsize,
}

/// `call · 2^16 + open · 2^15 + threads that work on it`.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State(u64);

impl State {
    const OPEN: u64 = 1 << 15;

    fn call(self) -> u64 {
        self.0 >> 16
    }

    fn is_open(self) -> bool {
        self.0 & Self::OPEN != 0
    }

    fn threads(self) -> u64 {
        self.0 & (Self::OPEN - 1)
    }
}

impl Pool {
    /// A pool of `threads` threads, the caller's among them (at least one, at most 1024).
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let threads = threads.clamp(1, 1024);
        let shared = Arc::new(Shared {
            state: Padded(AtomicU64::new(0)),
            job: AtomicPtr::new(std::ptr::null_mut()),
            runs: (0..threads).map(|_| Padded(Run::default())).collect(),
            wishes: (0..threads).map(|_| Padded(Wish::default())).collect(),
            patience: if threads <= super::available_threads() { PATIENCE } else { PATIENCE_OF_MANY },
            stop: AtomicBool::new(false),
            sleepers: AtomicUsize::new(0),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        });
        let mut pool = Self { shared, workers: Vec::new(), turn: Mutex::new(()) };
        for i in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let name = format!("sbnc-{i}");
            pool.workers.push(std::thread::Builder::new().name(name).spawn(move || shared.serve(i))?);
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
        let job = Job { work, panic: Mutex::new(None) };
        self.shared.open(&job, tasks);
        self.shared.work_through(&job, 0);
        self.shared.close();
        drop(turn);
        if let Some(panic) = job.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
    }

    /// Has thread `i` fetch so many bytes from each place on, if it waits. Thread 0, which is the caller, never does.
    pub(crate) fn wish(&self, i: usize, places: [*const u8; PLACES], bytes: usize) {
        self.shared.wishes[i].0.make(places, bytes);
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
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.announce(0, self.workers.len());
        for worker in self.workers.drain(..) {
            let _ = worker.join(); // a worker cannot panic: tasks' panics are caught
        }
    }
}

impl Shared {
    /// Begins a call. The one before is closed and nobody works on it.
    fn open(&self, job: &Job<'_>, tasks: usize) {
        let threads = self.runs.len();
        for (i, Padded(run)) in self.runs.iter().enumerate() {
            run.next.store(tasks * i / threads, Ordering::Relaxed);
            run.end.store(tasks * (i + 1) / threads, Ordering::Relaxed);
        }
        self.job.store(std::ptr::from_ref(job).cast_mut().cast(), Ordering::Relaxed);
        self.announce(State::OPEN, tasks - 1);
    }

    /// Shows a new call to all, and wakes up to `helpers` sleepers.
    fn announce(&self, open: u64, helpers: usize) {
        let call = State(self.state.0.load(Ordering::Relaxed)).call() + 1;
        // A thread that goes to sleep adds itself to `sleepers` and then looks at `state`; here it is the other way round. In whatever order all
        // four happen, one of the two sees the other.
        self.state.0.store(call << 16 | open, Ordering::SeqCst);
        let sleepers = self.sleepers.load(Ordering::SeqCst);
        if sleepers > 0 {
            // Whoever holds the lock has not looked at `state` yet, or waits already.
            drop(self.lock.lock().unwrap_or_else(PoisonError::into_inner));
            (0..sleepers.min(helpers)).for_each(|_| self.wake.notify_one());
        }
    }

    /// Ends the current call when all who joined it have left.
    fn close(&self) {
        self.state.0.fetch_and(!State::OPEN, Ordering::Relaxed);
        let mut turns = 0u32;
        // Acquire: what they wrote is seen.
        while State(self.state.0.load(Ordering::Acquire)).threads() > 0 {
            turns += 1;
            // They are within their last task; if one has lost its processor, perhaps it takes this one.
            if turns.is_multiple_of(256) { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    }

    /// Works on tasks until all are taken: first those of thread `i`, then those of the threads after it.
    fn work_through(&self, job: &Job<'_>, i: usize) {
        let (before, after) = self.runs.split_at(i);
        for Padded(run) in after.iter().chain(before) {
            let end = run.end.load(Ordering::Relaxed);
            while run.next.load(Ordering::Relaxed) < end {
                let task = run.next.fetch_add(1, Ordering::Relaxed);
                if task >= end {
                    break;
                }
                if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (job.work)(task))) {
                    *job.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
                    self.runs.iter().for_each(|Padded(run)| run.next.store(usize::MAX / 2, Ordering::Relaxed));
                }
            }
        }
    }

    /// The life of worker `i`.
    fn serve(&self, i: usize) {
        let mut seen = 0;
        loop {
            seen = self.next_call(i, seen);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            if !self.join(seen) {
                continue;
            }
            let job: *const Job<'_> = self.job.load(Ordering::Relaxed).cast();
            // SAFETY: `job` was stored before `state` became that of this call (release, seen with acquire in `join`). It points to the frame of
            // `Pool::run`, which does not return before nobody is counted in `state`, and this thread is counted there until the line after next.
            let job = unsafe { &*job };
            self.work_through(job, i);
            self.state.0.fetch_sub(1, Ordering::Release);
        }
    }

    /// Has this thread counted among those who work on a call, unless that is over.
    fn join(&self, call: u64) -> bool {
        let joined = |state| {
            let state = State(state);
            (state.is_open() && state.call() == call).then_some(state.0 + 1)
        };
        self.state.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, joined).is_ok()
    }

    /// Has thread `i` wait until the number of the call is not `seen`: spins and fetches, then sleeps.
    fn next_call(&self, i: usize, seen: u64) -> u64 {
        let mut fetching = Fetching::default();
        let began = Instant::now();
        loop {
            for _ in 0..TURNS {
                let call = State(self.state.0.load(Ordering::Relaxed)).call();
                if call != seen {
                    return call;
                }
                if !fetching.go_on(&self.wishes[i].0) {
                    std::hint::spin_loop();
                }
            }
            if began.elapsed() >= self.patience {
                break;
            }
        }
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let mut guard = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let call = loop {
            let call = State(self.state.0.load(Ordering::SeqCst)).call();
            if call != seen {
                break call;
            }
            guard = self.wake.wait(guard).unwrap_or_else(PoisonError::into_inner);
        };
        drop(guard);
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        call
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

    #[test]
    fn sleepers_are_woken() {
        let pool = Pool::new(3).expect("threads");
        for round in 0..30 {
            // Longer than their patience, about as long, and shorter.
            std::thread::sleep([PATIENCE * 5, PATIENCE, PATIENCE / 4][round % 3]);
            let gate = std::sync::Barrier::new(3);
            // Returns only if three threads take one task each.
            pool.run(3, &|_| {
                gate.wait();
            });
        }
    }

    #[test]
    fn a_call_does_not_wait_for_threads_that_have_not_begun() {
        let pool = Pool::new(64).expect("threads");
        let count = AtomicUsize::new(0);
        for _ in 0..2000 {
            pool.run(2, &|_| {
                count.fetch_add(1, Ordering::Relaxed);
            });
        }
        assert_eq!(count.into_inner(), 4000);
    }

    #[test]
    fn idle_threads_take_the_tasks_of_busy_ones() {
        let pool = Pool::new(2).expect("threads");
        let done = AtomicUsize::new(0);
        // The first task of the caller's run ends when all others are done, so that another thread must take the rest of that run.
        pool.run(10, &|task| {
            while task == 0 && done.load(Ordering::Relaxed) < 9 {
                std::thread::yield_now();
            }
            done.fetch_add(1, Ordering::Relaxed);
        });
        assert_eq!(done.into_inner(), 10);
    }
}
