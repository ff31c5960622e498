//! One call of a hot kernel, for counting its instructions: `instructions` lists the calls, `instructions PLATFORM CALL` makes one.
//!
//! `cargo xtask callgrind` runs every call under valgrind, which counts inside [`counted`] and nowhere else. It prints over how many weights (or keys and values, or activations) the
//! instructions are to be shared out. One thread, shapes of BitNet b1.58 2B-4T but for fewer rows.
#![allow(clippy::unwrap_used, reason = "a measurement may panic")]

use std::hint::black_box;

use sbnc_format::{Encoding, Order, Packing, Pattern};
use sbnc_kernels::cpu::ops::{Cache, Half, Heads, Segment};
use sbnc_kernels::cpu::{Activations, Cpu, Dense, Isa, Linear, Output, Packed, Platform, Rule};

const COLS: usize = 2560;
const ROWS: usize = 256;
/// Tokens of a prompt.
const MANY: usize = 64;
const HEADS: Heads = Heads { heads: 20, kv_heads: 5, dim: 128, window: None };
/// Positions that attention looks at.
const CONTEXT: usize = 512;

const FORMS: [(&str, Encoding, Order, (u8, u8)); 5] = [
    ("t2", Encoding::T2, Order::Rows, (0, 0)),
    ("t5", Encoding::T5, Order::Rows, (0, 0)),
    ("nm-6b 2:4", Encoding::Nm6b, Order::Rows, (2, 4)),
    ("nm-vi 2:4", Encoding::NmVi, Order::Fragments, (2, 4)),
    ("nm-vi 6:8", Encoding::NmVi, Order::Windows, (6, 8)),
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [platform, call] = &arguments[..] else {
        for (form, ..) in FORMS {
            println!("{form}, 1 token\n{form}, {MANY} tokens");
        }
        println!("bf16 head, 1 token\nint8 head, 1 token\nattention, 1 token\nquantising, 1 token");
        return;
    };
    let isa = Isa::ALL.into_iter().find(|isa| isa.name() == platform).unwrap();
    let cpu = Cpu::new(Platform::new(isa).unwrap(), 1).unwrap();
    let (name, tokens) = call.split_once(", ").unwrap();
    let tokens = tokens.split(' ').next().unwrap().parse().unwrap();
    let units = match name {
        "bf16 head" => head(&cpu, &Dense::Bf16(&vec![0x3C11; ROWS * COLS])),
        "int8 head" => head(&cpu, &Dense::I8(&vec![3; ROWS * COLS], &vec![0.1; ROWS])),
        "attention" => attention(&cpu),
        "quantising" => quantising(&cpu),
        form => linear(&cpu, FORMS.iter().find(|(name, ..)| *name == form).unwrap(), tokens),
    };
    println!("{units}");
}

/// What is counted: the second of two calls, so that nothing is done for the first time.
fn twice(mut work: impl FnMut()) {
    work();
    counted(&mut work);
}

#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
    black_box(());
}

fn floats(len: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 37 % 101) as f32 - 50.0) / 7.0).collect()
}

fn linear(cpu: &Cpu, &(_, encoding, order, (n, m)): &(&str, Encoding, Order, (u8, u8)), tokens: usize) -> usize {
    let pattern = Pattern::from_ids(n, m).unwrap();
    // Two of four are no zeros, which every pattern allows; the kernels do not look.
    let trits: Vec<i8> = (0..ROWS * COLS).map(|i| [1, -1, 0, 0, 1, 0, -1, 0][i % 8]).collect();
    let packed = Packed::new(Packing { encoding, order, pattern }, &trits, COLS, vec![0.01; ROWS]).unwrap();
    let x = Activations::quantise(&floats(tokens * COLS), COLS, Rule::A8);
    let mut out = vec![0.0; tokens * ROWS];
    twice(|| {
        let layer = [Linear { weight: packed.matrix(), bias: None, offset: 0 }];
        cpu.linear(&layer, &x, &mut Output { values: &mut out, stride: ROWS });
    });
    ROWS * COLS * tokens
}

fn head(cpu: &Cpu, weight: &Dense<'_>) -> usize {
    let (x, mut out) = (floats(COLS), vec![0.0; ROWS]);
    twice(|| cpu.dense(weight, COLS, &x, &mut out));
    ROWS * COLS
}

fn attention(cpu: &Cpu) -> usize {
    let one = 0x3C00; // as f16
    let (mut keys, mut values) =
        (vec![one; HEADS.kv_heads * CONTEXT * HEADS.dim], vec![one; HEADS.kv_heads * CONTEXT * HEADS.dim]);
    let cache = Cache { half: Half::F16, capacity: CONTEXT, keys: &mut keys, values: &mut values };
    let (qkv, mut out) = (floats(HEADS.row()), vec![0.0; HEADS.heads * HEADS.dim]);
    let segments = [Segment { rows: 0..1, position: CONTEXT - 1, slot: 0 }];
    twice(|| cpu.attend(&qkv, &HEADS, &segments, &cache, &mut out));
    2 * HEADS.heads * CONTEXT * HEADS.dim
}

fn quantising(cpu: &Cpu) -> usize {
    let (x, mut out) = (floats(COLS), Activations::with_capacity(1, COLS));
    twice(|| cpu.quantise(&x, COLS, None, Rule::A8, &mut out));
    COLS
}
