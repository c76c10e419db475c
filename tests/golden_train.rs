//! Owns the comparison of the trainer with the float64 reference: single operations, the VQ-VAE of
//! protocol P step by step, the VQGAN's forward pass; and of every gradient of the two networks
//! with central differences in float64. Must not know: how the trainer is used.
//!
//! With `VQTOK_TEST_DEVICE=cuda`, in a build with the feature candle-cuda, what is in float32 runs on a card.

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Tensor, Var};
use vqtok::internals::model;
use vqtok::internals::model::config::{Architecture, VqvaeConfig};
use vqtok::internals::model::conv::{Padding, conv_transpose2d, conv2d};
use vqtok::internals::model::layers::{GroupNorm, double_nearest};
use vqtok::internals::model::relu::relu;
use vqtok::internals::model::topology::{Io, NormSpec};
use vqtok::internals::train::network::autoencoder::Autoencoder;
use vqtok::internals::train::network::optimizer::{AdamW, gradients};
use vqtok::internals::train::network::parameters::{Parameters, Tensors, flat, set_flat};
use vqtok::internals::train::network::random::{fnv1a64, unit};
use vqtok::internals::train::quantizer::ema::{Averages, EmaCodebook};
use vqtok::internals::train::quantizer::estimator::{code_loss, commitment, straight_through};
use vqtok::internals::train::quantizer::layout::{lookup, to_rows};
use vqtok::internals::train::quantizer::nearest::nearest;

#[path = "../src/train/golden.rs"]
mod golden;
#[path = "../src/testing.rs"]
mod testing;

use golden::{Case, device, vqgan};

/// The output and all gradients of `f` under the stored upstream gradient.
fn check_op(case: &Case, op: &str, inputs: &[&str], f: impl Fn(&[Tensor]) -> Tensor) {
    let vars: Vec<Var> = inputs
        .iter()
        .map(|i| Var::from_tensor(&case.tensor(&format!("{op}.{i}"))).unwrap())
        .collect();
    let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
    let out = f(&tensors);
    case.check_tensor(&format!("{op}.out"), &out);
    let loss = (out * case.tensor(&format!("{op}.upstream"))).unwrap().sum_all().unwrap();
    let store = loss.backward().unwrap();
    for (name, var) in inputs.iter().zip(&vars) {
        let gradient = store.get(var).unwrap_or_else(|| panic!("{op}: no gradient of {name}"));
        case.check_tensor(&format!("{op}.grad_{name}"), gradient);
    }
}

#[test]
fn golden_convolutions() {
    let Some(case) = Case::open("ops") else { return };
    let conv = |stride, before, after| {
        move |t: &[Tensor]| {
            conv2d(&t[0], &t[1], Some(&t[2]), stride, Padding { before, after }).unwrap()
        }
    };
    let xwb = ["x", "w", "b"];
    for size in ["8x8", "7x7", "7x8", "8x7"] {
        check_op(&case, &format!("conv2d_s2_pad0101_{size}"), &xwb, conv(2, 0, 1));
        check_op(&case, &format!("conv2d_s2_p1_{size}"), &xwb, conv(2, 1, 1));
        // As the VQGAN has it: zeros first.
        check_op(&case, &format!("conv2d_s2_pad0101_{size}"), &xwb, |t| {
            let x = t[0].pad_with_zeros(2, 0, 1).unwrap().pad_with_zeros(3, 0, 1).unwrap();
            conv2d(&x, &t[1], Some(&t[2]), 2, Padding::same(0)).unwrap()
        });
    }
    check_op(&case, "conv2d_4x4_s2_p1", &xwb, conv(2, 1, 1));
    check_op(&case, "conv2d_3x3_p1", &xwb, conv(1, 1, 1));
    check_op(&case, "conv2d_1x1", &xwb, conv(1, 0, 0));
    check_op(&case, "conv_transpose2d_4_2_1", &xwb, |t| {
        conv_transpose2d(&t[0], &t[1], Some(&t[2]), 2, 1).unwrap()
    });
}

#[test]
fn golden_plain_operations() {
    let Some(case) = Case::open("ops") else { return };
    check_op(&case, "silu", &["x"], |t| t[0].silu().unwrap());
    check_op(&case, "softmax_last", &["x"], |t| candle_nn::ops::softmax(&t[0], D::Minus1).unwrap());
    check_op(&case, "upsample_nearest_x2", &["x"], |t| double_nearest(&t[0]).unwrap());
    let pad = |t: &Tensor| t.pad_with_zeros(2, 0, 6).unwrap().pad_with_zeros(3, 0, 8).unwrap();
    check_op(&case, "upsample_nearest_skip", &["x", "y"], |t| {
        let near = double_nearest(&t[0]).unwrap();
        let tanh = double_nearest(&t[0].tanh().unwrap()).unwrap();
        (((near * &t[1]).unwrap() + tanh).unwrap() + pad(&t[0])).unwrap()
    });
    check_op(&case, "upsample_nearest_chain", &["x", "w"], |t| {
        let h = conv2d(&t[0], &t[1], None, 1, Padding::same(1)).unwrap();
        let near = (double_nearest(&h).unwrap() * 0.5).unwrap();
        (near + pad(&h.sqr().unwrap())).unwrap()
    });
    for (op, groups) in [("group_norm_g4", 4), ("group_norm_one_channel_a_group", 8)] {
        check_op(&case, op, &["x", "w", "b"], |t| {
            let spec = NormSpec::new(groups, 1e-6);
            let norm = GroupNorm { weight: t[1].clone(), bias: t[2].clone(), spec };
            norm.forward(&t[0]).unwrap()
        });
    }
    check_op(&case, "attention_one_head", &["q", "k", "v"], |t| {
        let q = t[0].transpose(1, 2).unwrap().contiguous().unwrap();
        let scores = (q.matmul(&t[1]).unwrap() * 6f64.powf(-0.5)).unwrap();
        let weights = candle_nn::ops::softmax(&scores, D::Minus1).unwrap();
        t[2].matmul(&weights.transpose(1, 2).unwrap().contiguous().unwrap()).unwrap()
    });
}

#[test]
fn golden_gradient_codebook() {
    let Some(case) = Case::open("vq_gradient") else { return };
    let z = Var::from_tensor(&case.tensor("z")).unwrap();
    let codes = Var::from_tensor(&case.tensor("codebook")).unwrap();
    let (indices, _) = nearest(&to_rows(&case.f32("z"), 8, 16), &case.f32("codebook"), 8);
    let as_i64: Vec<i64> = indices.iter().map(|i| i64::from(*i)).collect();
    assert_eq!(as_i64, case.i64("indices"));
    let picked = Tensor::from_vec(indices, 32, device()).unwrap();
    let quantized = codes.index_select(&picked, 0).unwrap().reshape((2, 4, 4, 8)).unwrap();
    let quantized = quantized.permute((0, 3, 1, 2)).unwrap().contiguous().unwrap();
    case.check_tensor("quantized", &quantized);
    for (tag, weight, beta) in [("", 1.0, 0.25), ("taming_legacy_", 0.25, 1.0)] {
        let code_loss = code_loss(&z, &quantized, weight).unwrap();
        let commitment = commitment(&z, &quantized, beta).unwrap();
        let loss = (&code_loss + &commitment).unwrap();
        case.check_scalar(&format!("{tag}codebook_loss"), value(&code_loss));
        case.check_scalar(&format!("{tag}commitment_loss"), value(&commitment));
        case.check_scalar(&format!("{tag}vq_loss"), value(&loss));
        let through = straight_through(&z, &quantized).unwrap();
        let upstream = (through * case.tensor("upstream")).unwrap().sum_all().unwrap();
        let store = (loss + upstream).unwrap().backward().unwrap();
        case.check_tensor(&format!("{tag}grad_z"), store.get(&z).unwrap());
        case.check_tensor(&format!("{tag}grad_codebook"), store.get(&codes).unwrap());
    }
}

const PROTOCOL_P: VqvaeConfig =
    VqvaeConfig { hidden: 16, downsamples: 2, res_blocks: 2, res_hidden: 32 };

/// The network of protocol P with the stored weights.
fn protocol_p(case: &Case) -> (Parameters, Autoencoder) {
    let parameters = Parameters::new(device());
    let vb = parameters.builder(DType::F32);
    let network =
        Autoencoder::load(vb, &Architecture::Vqvae(PROTOCOL_P), Io { channels: 3, dim: 8 })
            .unwrap();
    for (name, var) in parameters.vars() {
        let stored = case.tensor(&format!("param.{name}"));
        assert_eq!(stored.dims(), var.dims(), "{name}");
        set_flat(&var, flat(&stored).unwrap()).unwrap();
    }
    let stored = case.tensors.keys().filter(|k| k.starts_with("param.")).count();
    assert_eq!(stored, parameters.vars().len(), "a stored weight has no place");
    (parameters, network)
}

/// What one step of protocol P computes before its gradients.
struct Forward {
    z: Tensor,
    rows: Vec<f32>,
    indices: Vec<u32>,
    codes: Tensor,
    y: Tensor,
    commitment: Tensor,
    mse: Tensor,
    loss: Tensor,
}

impl Forward {
    /// With the quantizer or without.
    fn new(
        network: &Autoencoder,
        codebook: &EmaCodebook,
        x: &Tensor,
        variance: f64,
        quantized: bool,
    ) -> Forward {
        let z = network.encode(x).unwrap();
        let rows = to_rows(&flat(&z).unwrap(), 8, 64);
        let (indices, _) = nearest(&rows, &codebook.embedding, 8);
        let codes = lookup(&codebook.embedding, 8, &indices, 64);
        let codes = Tensor::from_vec(codes, z.shape(), z.device()).unwrap();
        let through = straight_through(&z, &codes).unwrap();
        let commitment = commitment(&z, &codes, 0.25).unwrap();
        let y = network.decode(if quantized { &through } else { &z }).unwrap();
        let mse = (x - &y).unwrap().sqr().unwrap().mean_all().unwrap();
        let mut loss = (&mse / variance).unwrap();
        if quantized {
            loss = (loss + &commitment).unwrap();
        }
        Forward { z, rows, indices, codes, y, commitment, mse, loss }
    }

    /// Holds the first step's against the reference.
    fn check(&self, case: &Case) {
        case.check_tensor("z", &self.z);
        case.check_tensor("quantized", &self.codes);
        case.check_tensor("x_rec", &self.y);
        case.check_scalar("mse", value(&self.mse));
        case.check_scalar("vq_loss", value(&self.commitment));
        case.check_scalar("loss", value(&self.loss));
    }
}

fn value(t: &Tensor) -> f64 {
    f64::from(t.to_scalar::<f32>().unwrap())
}

/// Twenty steps of protocol P, with the quantizer or without, each as the trainer does it.
fn twenty_steps(case: &Case, quantized: bool) {
    let tag = if quantized { "" } else { "autoencoder_" };
    let (parameters, network) = protocol_p(case);
    let vars = parameters.vars();
    let x = case.tensor("images");
    let variance = case.scalars("variance")[0];
    let book = case.f32("codebook");
    let mut codebook = EmaCodebook {
        dim: 8,
        sum: book.iter().map(|v| v * 4.0).collect(),
        embedding: book,
        count: vec![4.0; 32],
        averages: Averages { decay: 0.99, epsilon: 1e-5 },
    };
    let mut adam = AdamW::new((0.9, 0.999), 1e-8, 0.0);
    let (mut losses, mut mses, mut all_indices) = (vec![], vec![], vec![]);
    for step in 0..20 {
        let forward = Forward::new(&network, &codebook, &x, variance, quantized);
        losses.push(value(&forward.loss));
        mses.push(value(&forward.mse));
        all_indices.extend(forward.indices.iter().map(|i| i64::from(*i)));
        let mut store = forward.loss.backward().unwrap();
        let named = gradients(&mut store, &vars).unwrap();
        assert_eq!(named.len(), vars.len(), "a weight without gradient");
        if step == 0 {
            if quantized {
                forward.check(case);
            }
            for (name, gradient) in &named {
                case.check(&format!("{tag}grad.{name}"), &flat(gradient).unwrap());
            }
        }
        adam.step(&vars, &named, 1e-3).unwrap();
        codebook.update(&forward.rows, &forward.indices);
    }
    case.check_scalars(&format!("{tag}loss_curve"), &losses);
    for (name, values) in parameters.values().unwrap() {
        let norm = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        case.check_scalar(&format!("{tag}norm_after_20.{name}"), norm);
    }
    if quantized {
        assert_eq!(all_indices, case.i64("indices_per_step"));
        case.check_scalars("mse_curve", &mses);
        case.check("codebook_after_20", &codebook.embedding);
        case.check("ema_count_after_20", &codebook.count);
    }
}

#[test]
fn golden_protocol_p_with_quantizer() {
    let Some(case) = Case::open("protocol_p") else { return };
    twenty_steps(&case, true);
}

#[test]
fn golden_protocol_p_autoencoder() {
    let Some(case) = Case::open("protocol_p") else { return };
    twenty_steps(&case, false);
}

/// Weights by the reference's recipe, from their names.
fn recipe_weights(parameters: &Parameters) {
    for (name, var) in parameters.vars() {
        let dims = var.dims();
        let (centre, scale) = match dims.len() {
            4 => (0.0, (3.0 / dims[1..].iter().product::<usize>() as f64).sqrt()),
            _ if name.ends_with(".bias") => (0.0, 0.05),
            _ => (1.0, 0.1),
        };
        let key = fnv1a64(&name);
        let values =
            (0..var.elem_count()).map(|i| centre + unit(key, i as u64) * scale as f32).collect();
        set_flat(&var, values).unwrap();
    }
}

#[test]
fn golden_vqgan_forward() {
    let Some(case) = Case::open("vqgan_step") else { return };
    let config = vqgan(32, 8, 32);
    let parameters = Parameters::new(device());
    let vb = parameters.builder(DType::F32);
    let network =
        Autoencoder::load(vb, &Architecture::Vqgan(config.clone()), Io { channels: 3, dim: 8 })
            .unwrap();
    recipe_weights(&parameters);
    let x = case.tensor("images").get(0).unwrap();
    let z = network.encode(&x).unwrap();
    case.check_tensor("step1.z", &z);
    let plane = z.dim(2).unwrap() * z.dim(3).unwrap();
    let codes = case.f32("codebook");
    let (indices, _) = nearest(&to_rows(&flat(&z).unwrap(), 8, plane), &codes, 8);
    let as_i64: Vec<i64> = indices.iter().map(|i| i64::from(*i)).collect();
    assert_eq!(as_i64, case.i64("step1.indices"));
    let quantized = lookup(&codes, 8, &indices, plane);
    let quantized = Tensor::from_vec(quantized, z.shape(), z.device()).unwrap();
    case.check_tensor("step1.quantized", &quantized);
    let through = straight_through(&z, &quantized).unwrap();
    let commitment = commitment(&z, &quantized, 0.25).unwrap();
    let y = network.decode(&through).unwrap();
    case.check_tensor("step1.x_rec", &y);
    let first = |name: &str, mine: &Tensor| {
        let tol = case.json["scalars"][name]["tol"].as_f64().unwrap();
        let mine = f64::from(mine.to_scalar::<f32>().unwrap());
        golden::assert_close(name, &[mine], &case.scalars(name)[..1], tol);
    };
    first("nll_l1", &(x - y).unwrap().abs().unwrap().mean_all().unwrap());
    first("vq_loss", &commitment);
}

/// Compares, tensor by tensor, the gradient of a random linear function of the reconstruction and
/// of the latents with central differences along a random direction, all in float64.
fn check_network(name: &str, parameters: &Parameters, network: &Autoencoder, x: &Tensor) {
    let random = |key: &str, like: &Tensor| {
        let key = fnv1a64(key);
        let values: Vec<f64> =
            (0..like.elem_count()).map(|i| f64::from(unit(key, i as u64))).collect();
        Tensor::from_vec(values, like.shape(), &Device::Cpu).unwrap()
    };
    // Biases of convolutions and norms start where nothing is special.
    let vars: BTreeMap<String, Var> = parameters.vars();
    for (key, var) in &vars {
        let moved = (var.as_tensor().detach() + (random(key, var) * 0.1).unwrap()).unwrap();
        var.set(&moved).unwrap();
    }
    let loss = || {
        let z = network.encode(x).unwrap();
        let y = network.decode(&z).unwrap();
        let of = |t: &Tensor, key: &str| (t * random(key, t)).unwrap().sum_all().unwrap();
        (of(&z, "z") + of(&y, "y")).unwrap()
    };
    let store = loss().backward().unwrap();
    let analytic: Vec<(String, f64)> = vars
        .iter()
        .map(|(key, var)| {
            let gradient = store.get(var).unwrap_or_else(|| panic!("{name}: {key} has none"));
            let along = (gradient * random(&format!("{key} direction"), var)).unwrap();
            (key.clone(), along.sum_all().unwrap().to_scalar::<f64>().unwrap())
        })
        .collect();
    let largest = analytic.iter().fold(0f64, |m, (_, g)| m.max(g.abs()));
    for (key, gradient) in analytic {
        let var = &vars[&key];
        let start = var.as_tensor().detach().copy().unwrap();
        let direction = random(&format!("{key} direction"), var);
        let h = 1e-6;
        let at = |sign: f64| {
            var.set(&(&start + (&direction * (sign * h)).unwrap()).unwrap()).unwrap();
            loss().to_scalar::<f64>().unwrap()
        };
        let difference = (at(1.0) - at(-1.0)) / (2.0 * h);
        var.set(&start).unwrap();
        let off = (difference - gradient).abs();
        // The second term is for gradients that are zero in exact arithmetic (keys' biases).
        assert!(
            off <= 1e-5 * gradient.abs() + 1e-9 * largest,
            "{name}: {key}: {gradient} against {difference}"
        );
    }
}

fn noise(shape: (usize, usize, usize, usize)) -> Tensor {
    let count = shape.0 * shape.1 * shape.2 * shape.3;
    let values: Vec<f64> =
        (0..count).map(|i| 0.5 * f64::from(unit(fnv1a64("image"), i as u64))).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

#[test]
fn every_gradient_of_the_vqvae_equals_central_differences() {
    for (downsamples, channels, height, width) in [(1, 3, 6, 8), (2, 1, 8, 12), (3, 3, 16, 16)] {
        let config = VqvaeConfig { hidden: 6, downsamples, res_blocks: 2, res_hidden: 5 };
        let parameters = Parameters::new(&Device::Cpu);
        let vb = parameters.builder(DType::F64);
        let network =
            Autoencoder::load(vb, &Architecture::Vqvae(config), Io { channels, dim: 3 }).unwrap();
        parameters.initialize(3).unwrap();
        let x = noise((2, channels, height, width));
        assert_eq!(network.decode(&network.encode(&x).unwrap()).unwrap().dims(), x.dims());
        check_network(&format!("vqvae {downsamples}"), &parameters, &network, &x);
    }
}

#[test]
fn every_gradient_of_the_vqgan_equals_central_differences() {
    let config = vqgan(8, 4, 4);
    let parameters = Parameters::new(&Device::Cpu);
    let vb = parameters.builder(DType::F64);
    let network =
        Autoencoder::load(vb, &Architecture::Vqgan(config.clone()), Io { channels: 3, dim: 3 })
            .unwrap();
    parameters.initialize(3).unwrap();
    check_network("vqgan", &parameters, &network, &noise((2, 3, 8, 12)));
}

#[test]
fn relu_has_no_gradient_at_zero() {
    let x = Var::new(&[-1f32, 0.0, 2.0], &Device::Cpu).unwrap();
    let store = relu(&x).unwrap().sum_all().unwrap().backward().unwrap();
    assert_eq!(store.get(&x).unwrap().to_vec1::<f32>().unwrap(), [0.0, 0.0, 1.0]);
}

#[test]
fn frozen_weights_get_no_gradient() {
    let x = Var::new(&[[[[1f32, 2.0], [3.0, 4.0]]]], &Device::Cpu).unwrap();
    let w = Tensor::ones((1, 1, 2, 2), DType::F32, &Device::Cpu).unwrap();
    let y = conv2d(&x, &w, None, 1, Padding::same(0)).unwrap();
    let store = y.sum_all().unwrap().backward().unwrap();
    assert!(store.get(&w).is_none());
    assert_eq!(store.get(&x).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap(), [1.0; 4]);
}

#[test]
fn golden_clip_and_adamw_of_a_vqgan_step() {
    let Some(case) = Case::open("vqgan_step") else { return };
    let config = vqgan(32, 8, 32);
    let parameters = Parameters::new(device());
    let vb = parameters.builder(DType::F32);
    Autoencoder::load(vb, &Architecture::Vqgan(config.clone()), Io { channels: 3, dim: 8 })
        .unwrap();
    recipe_weights(&parameters);
    let vars = parameters.vars();
    let zero: Vec<&str> = case.json["zero_gradient_tensors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect();
    let gradient = |name: &String| (name.clone(), case.tensor(&format!("step1.grad.{name}")));
    let mut named: Tensors = vars.keys().map(gradient).collect();
    let norm = vqtok::internals::train::network::optimizer::clip(&mut named, 1.0).unwrap();
    let stored = case.scalars("generator_grad_norm")[0];
    golden::assert_close("norm", &[norm], &[stored], 3e-5);
    // This reference decays every tensor, ours only those with two and more dimensions: the rest
    // is compared with its decay undone.
    let mut adam = AdamW::new((0.9, 0.95), 1e-8, 0.01);
    let before = parameters.values().unwrap();
    adam.step(&vars, &named, 1e-3).unwrap();
    for (name, values) in parameters.values().unwrap() {
        if zero.iter().any(|z| *z == name) {
            continue;
        }
        let golden = case.f32(&format!("step1.param.{name}"));
        let decayed = vars[&name].dims().len() > 1;
        for (i, (mine, golden)) in values.iter().zip(&golden).enumerate() {
            let undone = if decayed { 0.0 } else { before[&name][i] * 1e-5 };
            assert!((mine - undone - golden).abs() <= 1e-6, "{name}[{i}]: {mine} and {golden}");
        }
    }
}
