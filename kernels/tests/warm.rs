//! A warm call allocates nothing, whatever the operation: an application that has opened a session runs in the memory that it has.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use sbnc_kernels::cpu::ops::{Activation, Cache, Half, Heads, Pairing, Rotation, Segment};
use sbnc_kernels::cpu::{Activations, Cpu, Dense, Platform, Rule};

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed to the system's allocator; counting changes nothing of what it gives.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`, which is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`, which is passed on.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn warm_calls_allocate_nothing() {
    let heads = Heads { heads: 8, kv_heads: 2, dim: 48, window: None };
    let (tokens, width, capacity) = (30, 300, 700);
    let rotation = Rotation { pairing: Pairing::Half, pairs: 24, cos: vec![0.6; 24 * 700], sin: vec![0.8; 24 * 700] };
    let segments = [
        Segment { rows: 0..27, position: 640, slot: 0 },
        Segment { rows: 27..28, position: 600, slot: 1 },
        Segment { rows: 28..30, position: 3, slot: 2 },
    ];
    for platform in Platform::available() {
        // One thread: with several, chance decides when each of them meets its first task of a kind.
        let cpu = Cpu::new(platform, 1).unwrap();
        let mut qkv = vec![0.1; tokens * heads.row()];
        let (mut keys, mut values) = (vec![0; 3 * 2 * capacity * 48], vec![0; 3 * 2 * capacity * 48]);
        let mut out = vec![0.0; tokens * width.max(heads.heads * heads.dim)];
        let (x, weight, gate_up) = (vec![0.5; tokens * width], vec![1.0; width], vec![0.3; 2 * tokens * width]);
        let mut sums = x.clone();
        let mut integers = Activations::with_capacity(tokens, width);
        let head = vec![0x3f80; 100 * width];
        let mut logits = vec![0.0; tokens * 100];
        let mut all = || {
            let norm = Some((&weight[..], 1e-5));
            let mut cache = Cache { half: Half::F16, capacity, keys: &mut keys, values: &mut values };
            cpu.rotate_and_store(&mut qkv, &heads, &rotation, &segments, &mut cache);
            cpu.attend(&qkv, &heads, &segments, &cache, &mut out[..tokens * heads.heads * heads.dim]);
            cpu.norm(&x, &weight, 1e-5, &mut out[..tokens * width]);
            cpu.quantise(&x, width, norm, Rule::A8, &mut integers);
            cpu.add_quantise(&mut sums, &x, width, norm, Rule::A4, &mut integers);
            cpu.gate_quantise(Activation::Silu, &gate_up, width, norm, Rule::A8, &mut integers);
            cpu.dense(&Dense::Bf16(&head), width, &x, &mut logits);
            cpu.dense(&Dense::Bf16(&head), width, &x[..width], &mut logits[..100]);
        };
        all();
        let before = COUNT.load(Ordering::Relaxed);
        all();
        assert_eq!(COUNT.load(Ordering::Relaxed), before, "{platform:?}");
    }
}
