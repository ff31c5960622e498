//! Single weights: products against numbers written out.

use sbnc_format::Sbnc;
use sbnc_runtime::{Model, Weights};
use sbnc_tests::{Recipe, folder};

use crate::kit::platforms;

#[test]
fn products_are_those_written_out() {
    let folder = folder();
    let path = folder.path().join("model.sbnc");
    Recipe::small().write(&path);
    let file = Sbnc::open(std::fs::read(&path).unwrap()).unwrap();
    let view = file.tensor("layers.1.down").unwrap();
    let sbnc_format::Layout::Known(packing) = view.tensor().layout else { panic!("a known layout") };
    let (rows, cols) = (48, 96);
    let mut trits = vec![0i8; rows * cols];
    packing.decode(view.data(), cols, &mut trits);
    let scales = view.scales();

    // Integers up to 127, which quantise to themselves where 127 is among them.
    let x: Vec<f32> =
        (0..3 * cols).map(|i| if i % cols == 5 { 127.0 } else { (i * 37 % 255) as f32 - 127.0 }).collect();
    let dot = |token: usize, row: usize| -> f32 {
        (0..cols).map(|k| f32::from(trits[row * cols + k]) * x[token * cols + k]).sum()
    };
    for platform in platforms() {
        let weights = Model::options().platform(platform).threads(2).open_weights(&path).unwrap();
        let mut linear = weights.linear("layers.1.down").unwrap();
        // A batch that is larger than the one before, and one that is smaller.
        for tokens in [1, 3, 2] {
            let mut y = vec![0.0; tokens * rows];
            linear.forward(&x[..tokens * cols], &mut y).unwrap();
            for (i, y) in y.iter().enumerate() {
                let (token, row) = (i / rows, i % rows);
                let expected = dot(token, row) * scales[row];
                assert!((y - expected).abs() <= 1e-5 * expected.abs(), "token {token}, row {row}: {y}, not {expected}");
            }
        }
    }
    assert_eq!(Weights::open(&path).unwrap().names().count(), 14);
}
