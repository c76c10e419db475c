//! Holds networks whose convolutions read bfloat16 against those that read float32, and who may round to TF32.

use std::cell::Cell;
use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};

use super::tests::{model, settings};
use crate::model::tf32::tf32 as may_round;
use crate::train::network::autoencoder::build;
use crate::train::network::parameters::{Parameters, flat};
use crate::train::network::reductions::mean_by_rows;
use crate::train::settings::TrainSettings;
use crate::train::trainer::Trainer;
use crate::util::random::units;

fn images() -> Tensor {
    Tensor::from_vec(units(7, 2 * 3 * 16 * 16), (2, 3, 16, 16), &Device::Cpu).unwrap()
}

/// By weight, of the mean squared error of a network without a quantizer.
fn gradients(read: DType) -> BTreeMap<String, Vec<f32>> {
    let parameters = Parameters::new(&Device::Cpu);
    let network = build(&model(16, 32), parameters.builder(read)).unwrap();
    parameters.initialize(3).unwrap();
    let (x, vars) = (images(), parameters.vars());
    let y = network.decode(&network.encode(&x).unwrap()).unwrap();
    assert_eq!(y.dtype(), DType::F32);
    let store = mean_by_rows(&(y - x).unwrap().sqr().unwrap()).unwrap().backward().unwrap();
    let gradient = |(name, var): (String, candle_core::Var)| {
        let gradient = store.get(&var).unwrap();
        assert_eq!((var.dtype(), gradient.dtype()), (DType::F32, DType::F32), "{name}");
        (name, flat(gradient).unwrap())
    };
    vars.into_iter().map(gradient).collect()
}

fn length(values: impl Iterator<Item = f32>) -> f64 {
    values.map(|v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt()
}

#[test]
fn gradients_are_those_of_float32_within_the_rounding_of_what_is_read() {
    let [wide, narrow] = [DType::F32, DType::BF16].map(gradients);
    assert!(wide.keys().eq(narrow.keys()) && wide.len() > 40);
    let lengths = |all: &BTreeMap<String, Vec<f32>>| -> Vec<f64> {
        all.values().map(|g| length(g.iter().copied())).collect()
    };
    let largest = lengths(&wide).into_iter().fold(0.0, f64::max);
    // Each convolution reads what is rounded by up to 2^-9 of it; norms keep what is off in proportion.
    let convolutions = wide.keys().filter(|name| name.contains("conv") && name.ends_with("weight"));
    let most = convolutions.count() as f64 / 512.0;
    let mut worst = 0.0f64;
    for ((name, wide), narrow) in wide.iter().zip(narrow.values()) {
        let off = length(wide.iter().zip(narrow).map(|(a, b)| a - b));
        // Biases in front of norms have no gradient but rounding.
        let share = off / (length(wide.iter().copied()) + 1e-3 * largest);
        assert!(share < 2.0 * most, "{name} is off by {share:.2e} of {most:.2e}");
        worst = worst.max(share);
    }
    let both = wide.values().flatten().zip(narrow.values().flatten());
    let all = length(both.map(|(a, b)| a - b)) / length(wide.values().flatten().copied());
    println!("the worst gradient is off by {worst:.2e}, all together by {all:.2e} of {most:.2e}");
    assert!(all < most, "{all:.2e} of {most:.2e}");
    // An input is rounded by 2^-9 of it.
    assert!(worst > 1.0 / 2048.0, "nothing was rounded: {worst:.2e}");
}

#[test]
fn a_trainer_that_is_told_to_reads_bfloat16() {
    let [wide, narrow] = [false, true].map(|narrow| {
        let settings = TrainSettings { narrow, adversarial: None, ..settings() };
        let trainer = Trainer::new(&model(16, 32), &settings, 1.0).unwrap();
        flat(&trainer.network.encode(&images()).unwrap()).unwrap()
    });
    let off = length(wide.iter().zip(&narrow).map(|(a, b)| a - b)) / length(wide.into_iter());
    assert!((1.0 / 2048.0..0.02).contains(&off), "{off:.2e}");
}

#[test]
fn a_step_may_round_to_tf32_where_it_is_told_so_and_nothing_after_it() {
    for tf32 in [false, true] {
        let settings = TrainSettings { tf32, adversarial: None, ..settings() };
        let mut trainer = Trainer::new(&model(16, 32), &settings, 1.0).unwrap();
        let within = Cell::new(None);
        let look = || {
            within.set(Some(may_round()));
            false
        };
        trainer.step_on(&images(), &look).unwrap();
        assert_eq!((within.get(), may_round()), (Some(tf32), false));
    }
}
