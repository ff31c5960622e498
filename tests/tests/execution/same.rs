//! How a text is cut, batched, cached and shared out does not change what a model computes.

use sbnc_runtime::{CacheType, Model, SessionOptions};

use crate::kit::{Golden, NAMES, assert_same, best, distance, name, platforms};

/// A text that is longer than any golden prompt.
fn text(len: usize, seed: usize) -> Vec<u32> {
    (0..len).map(|i| ((i * i * 7 + i * 31 + seed * 101) % 384) as u32).collect()
}

fn options(chunk: usize, sequences: usize) -> SessionOptions {
    SessionOptions { chunk, sequences, context: 200, ..SessionOptions::default() }
}

/// The logits of all positions, the text being run in pieces of these lengths.
fn logits(model: &Model, chunk: usize, pieces: &[&[u32]]) -> Vec<f32> {
    let mut session = model.session(&options(chunk, 1)).unwrap();
    let mut all = Vec::new();
    for piece in pieces {
        session.forward_all(piece, |rows| all.extend_from_slice(rows.values)).unwrap();
    }
    all
}

#[test]
fn chunks_do_not_change_the_result() {
    for model in NAMES {
        let Some(golden) = Golden::compile(model, &[]) else { return };
        let text = text(40, 1);
        for platform in platforms() {
            let opened = golden.open(platform, 2);
            let whole = logits(&opened, 512, &[&text]);
            let tokens: Vec<&[u32]> = text.chunks(1).collect();
            for (chunk, pieces) in [(7, vec![&text[..]]), (16, vec![&text[..23], &text[23..]]), (512, tokens)] {
                let what = format!("{model}, {}, chunk {chunk}, {} pieces", name(platform), pieces.len());
                assert_same(&logits(&opened, chunk, &pieces), &whole, opened.config().vocab, &what);
            }
        }
    }
}

#[test]
fn batches_do_not_change_the_result() {
    let Some(golden) = Golden::compile("sparsebitnet-6of8", &[]) else { return };
    let texts = [text(40, 1), text(3, 2), text(25, 3)];
    for platform in platforms() {
        let model = golden.open(platform, 2);
        let width = model.config().vocab;
        let alone: Vec<Vec<f32>> = texts.iter().map(|text| logits(&model, 512, &[text])).collect();
        // The chunk of 16 ends within every text but the second.
        for chunk in [512, 16] {
            let mut session = model.session(&options(chunk, 4)).unwrap();
            // Sequences in any order, with one unused.
            let work: Vec<(usize, &[u32])> = [3, 0, 1].into_iter().zip(texts.iter().map(|text| &text[..])).collect();
            let together = session.batch(&work).unwrap().to_vec();
            let mut all = vec![Vec::new(); 4];
            (0..4).for_each(|sequence| session.truncate(sequence, 0));
            session.batch_all(&work, |rows| all[rows.sequence].extend_from_slice(rows.values)).unwrap();
            for (((sequence, _), alone), last) in work.iter().zip(&alone).zip(together.chunks_exact(width)) {
                let what = format!("{}, chunk {chunk}, sequence {sequence}", name(platform));
                assert_same(&all[*sequence], alone, width, &what);
                // Of few rows the head adds up in another order than of many.
                let end = all[*sequence].len() - width;
                assert_same(last, &all[*sequence][end..], width, &format!("{what}, last row"));
            }
        }
    }
}

#[test]
fn a_copied_prefix_is_as_good_as_a_computed_one() {
    let Some(golden) = Golden::compile("hf-bitnet-latent-2of4", &[]) else { return };
    let model = golden.open(best(), 2);
    let width = model.config().vocab;
    let (prefix, first, second) = (text(30, 1), text(9, 2), text(11, 3));
    // The rows of the second text behind the prefix.
    let alone = logits(&model, 512, &[&[&prefix[..], &second].concat()]).split_off(prefix.len() * width);
    let mut session = model.session(&options(512, 3)).unwrap();
    session.forward(&[&prefix[..], &first].concat()).unwrap();
    session.copy_prefix(0, 2, prefix.len()).unwrap();
    assert_eq!(session.tokens(2), prefix);
    let mut shared = Vec::new();
    session.batch_all(&[(2, &second)], |rows| shared.extend_from_slice(rows.values)).unwrap();
    assert_same(&shared, &alone, width, "copied");

    // Going back on the same sequence.
    let again = [&prefix[..], &second].concat();
    assert_eq!(session.longest_prefix(&again), (2, again.len()));
    assert_eq!(session.reuse(0, &again), prefix.len());
    let mut back = Vec::new();
    session.forward_all(&second, |rows| back.extend_from_slice(rows.values)).unwrap();
    assert_eq!(back, shared, "the same work on the same keys and values");

    // A text that is cached whole still needs its last token run.
    assert_eq!(session.reuse(0, &again), again.len() - 1);
    let last = session.forward(&again[again.len() - 1..]).unwrap();
    assert!(distance(last, &back[back.len() - width..]) < 0.1);
}

#[test]
fn threads_do_not_change_a_bit() {
    let Some(golden) = Golden::compile("hf-llama-packed-bitlinear", &[]) else { return };
    let text = text(20, 1);
    for platform in platforms() {
        let one = logits(&golden.open(platform, 1), 8, &[&text]);
        for threads in [2, 3] {
            assert!(logits(&golden.open(platform, threads), 8, &[&text]) == one, "{threads} threads");
        }
    }
}

#[test]
fn every_encoding_gives_the_same_model() {
    let cases: [(&str, &[&[&str]]); 2] = [
        (
            "hf-bitnet-latent-2of4",
            &[&["--encoding", "t2"], &["--encoding", "t5"], &["--encoding", "nm-6b"], &["--encoding", "nm-vi"]],
        ),
        ("sparsebitnet-6of8", &[&["--encoding", "t2"], &["--encoding", "nm-vi", "--order", "windows"]]),
    ];
    for (model, forms) in cases {
        let Some(golden) = Golden::compile(model, &[]) else { return };
        let tokens = text(20, 4);
        for platform in platforms() {
            let first = logits(&golden.open(platform, 2), 512, &[&tokens]);
            for form in forms {
                let other = Golden::compile(model, form).unwrap();
                let found = logits(&other.open(platform, 2), 512, &[&tokens]);
                assert!(found == first, "{model}, {form:?}: equal sums give equal logits");
            }
        }
    }
}

#[test]
fn keys_and_values_in_16_bits_are_near() {
    let Some(golden) = Golden::compile("hf-llama-packed-bitlinear", &[]) else { return };
    let text = text(30, 5);
    for platform in platforms() {
        let model = golden.open(platform, 2);
        let with = |cache| {
            let mut session = model.session(&SessionOptions { cache, ..options(512, 1) }).unwrap();
            assert_eq!(session.cache(), cache);
            let mut all = Vec::new();
            session.forward_all(&text, |rows| all.extend_from_slice(rows.values)).unwrap();
            all
        };
        let exact = with(CacheType::F32);
        // What rounding to 11 or 8 bits does in a random model, whose inputs jump between integers.
        for (cache, most) in [(CacheType::F16, 0.1), (CacheType::Bf16, 0.2)] {
            let error = distance(&with(cache), &exact);
            assert!(error > 0.0 && error < most, "{}, {cache:?}: {error}", name(platform));
        }
    }
    let limited = SessionOptions { memory: Some(1 << 30), ..options(512, 1) };
    assert_eq!(golden.open(best(), 1).session(&limited).unwrap().cache(), CacheType::F16);
}
