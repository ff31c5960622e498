//! A decode step allocates nothing, and neither does a chunk of a prompt: everything is there when a session is opened, but for what threads keep for a task.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use sbnc_format::encoding::Packing;
use sbnc_format::{Encoding, Order};
use sbnc_runtime::{Isa, Model, Platform, Session, SessionOptions};
use sbnc_tests::{Recipe, folder};

/// The system's allocator, counting.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is handed to the system's allocator, whose guarantees are those asked for; counting touches no memory that is handed out.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise is the one that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as for `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A platform whose layers run in plain code, which is written to be read and allocates.
const PLAIN: Isa = Isa::Portable;

/// Rounds in a row that allocate nothing, and how many may pass until then: were one allocation made every few rounds, there would not be so many.
const CLEAN_ROUNDS: usize = 20;
const MOST_ROUNDS: usize = 500;

/// Of the first step, for each thread: what it keeps for tasks of a linear, of attention and of the head, and for a call.
const FIRST_ALLOCATIONS: usize = 4;
const THREADS: usize = 2;

/// The only test of this program, so that nobody else allocates.
#[test]
fn a_warm_session_allocates_nothing() {
    let folder = folder();
    let path = folder.path().join("model.sbnc");
    let mut recipe = Recipe::small().with(&["attn_sub_norm", "ffn_sub_norm", "q_norm", "k_norm", "q_bias"]);
    (recipe.model.hidden, recipe.model.intermediate, recipe.model.vocab) = (128, 256, 1000);
    recipe.dense = vec!["v"];
    for (encoding, order, pattern) in [
        (Encoding::T5, Order::Rows, None),
        (Encoding::Nm6b, Order::Rows, Some("2:4")),
        (Encoding::NmVi, Order::Fragments, Some("2:4")),
    ] {
        let pattern = pattern.map_or(sbnc_format::Pattern::DENSE, |pattern| pattern.parse().unwrap());
        recipe.packing = Packing { encoding, order, pattern };
        recipe.write(&path);
        for platform in Platform::available().filter(|p| p.isa() != PLAIN) {
            let model = Model::options().platform(platform).threads(THREADS).open(&path).unwrap();
            let options = SessionOptions { sequences: 2, chunk: 8, ..SessionOptions::default() };
            let mut session = model.session(&options).unwrap();
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            session.batch(&[(0, &[1])]).unwrap();
            let first = ALLOCATIONS.load(Ordering::Relaxed) - before;
            assert!(
                first <= FIRST_ALLOCATIONS * THREADS,
                "{encoding:?} on {}: {first} at first",
                platform.isa().name()
            );
            let round = |session: &mut Session| -> usize {
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                session.truncate(0, 0);
                session.truncate(1, 0);
                session.batch(&[(0, &[1])]).unwrap();
                session.batch(&[(1, &[1]), (0, &[2])]).unwrap();
                session.batch(&[(0, &[3; 11]), (1, &[4; 6])]).unwrap();
                session.forward_all(&[1, 2, 3], |_| ()).unwrap();
                ALLOCATIONS.load(Ordering::Relaxed) - before
            };
            // A thread keeps what it needs for a task from the first such task on, and which thread gets which task is chance.
            let mut clean = 0;
            for _ in 0..MOST_ROUNDS {
                clean = if round(&mut session) == 0 { clean + 1 } else { 0 };
                if clean == CLEAN_ROUNDS {
                    break;
                }
            }
            assert_eq!(clean, CLEAN_ROUNDS, "{encoding:?} on {}: rounds without allocations", platform.isa().name());
            let before = ALLOCATIONS.load(Ordering::Relaxed);
            session.copy_prefix(0, 1, 12).unwrap();
            session.truncate(0, 5);
            assert_eq!(session.reuse(1, &[1, 2]), 1);
            assert_eq!(ALLOCATIONS.load(Ordering::Relaxed), before, "the rest of a session");
        }
    }
}
