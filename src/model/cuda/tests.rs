//! Holds the kernels of training against the CPU side of the same operations, on emulated threads.

use std::ffi::{CString, c_int};

use candle_core::{DType, Device, Tensor, Var};
use half::bf16;

use super::launches::{self, Argument, BLOCK, Groups, Plan};
use crate::engine::Precision;
use crate::engine::cuda::host::{Buffer, emulator};
use crate::model::conv::{Padding, conv_transpose2d, conv2d};
use crate::model::conv_sizes::ConvSizes;
use crate::model::group_norm::group_norm;
use crate::model::pool::max_pool2;
use crate::model::relu::leaky_relu;
use crate::model::topology::NormSpec;
use crate::train::network::optimizer::AdamW;
use crate::train::network::parameters::{Tensors, flat};
use crate::train::network::reductions::sum_of_squares;
use crate::train::quantizer::nearest::search;
use crate::util::random::SplitMix64;

/// Carries out a plan with the threads of a block in one order or the other; `output` is what an operation
/// in place changes, else not a number everywhere.
fn carry_out(plan: &Plan, inputs: &[&[u8]], output: &[u8], width: usize, reverse: bool) -> Vec<u8> {
    let filled = |bytes: &[u8]| {
        let mut buffer = Buffer::new(bytes.len(), 0);
        buffer.all()[..bytes.len()].copy_from_slice(bytes);
        buffer
    };
    let mut inputs: Vec<Buffer> = inputs.iter().map(|bytes| filled(bytes)).collect();
    let mut output = filled(output);
    let mut scratch = Buffer::new(plan.scratch_bytes, 0xff);
    for launch in &plan.launches {
        let word = |argument: &Argument| match *argument {
            Argument::Input(index) => inputs[index].get().as_ptr() as u64,
            Argument::Output => output.get().as_ptr() as u64,
            Argument::OutputFrom(at) => output.get()[at * width..].as_ptr() as u64,
            Argument::Scratch => scratch.get().as_ptr() as u64,
            Argument::Int(value) => u64::from(value as u32),
            Argument::Wide(value) => value as u64,
            Argument::Float(value) => u64::from(value.to_bits()),
        };
        let words: Vec<u64> = launch.arguments.iter().map(word).collect();
        let name = CString::new(launch.kernel).unwrap();
        let emulate = emulator(Precision::F32).lock().unwrap();
        let (grid, block) = (launch.grid.as_ptr(), BLOCK as u32);
        let count = words.len() as c_int;
        // SAFETY: addresses of live buffers; kernels that leave them are found by the guards.
        let status = unsafe {
            emulate(name.as_ptr(), grid, block, words.as_ptr(), count, c_int::from(reverse))
        };
        assert_eq!(status, 0, "{launch:?}");
    }
    for buffer in inputs.iter_mut().chain([&mut output, &mut scratch]) {
        assert!(buffer.is_whole(), "{plan:?} writes past a buffer");
    }
    output.get().to_vec()
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// So many bytes of output: the same whatever the order of threads.
fn computed_bytes(plan: &Plan, inputs: &[&[f32]], output: &[u8], width: usize) -> Vec<u8> {
    let inputs: Vec<Vec<u8>> = inputs.iter().map(|values| bytes(values)).collect();
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let [one, other] =
        [false, true].map(|reverse| carry_out(plan, &inputs, output, width, reverse));
    assert!(one == other, "{plan:?} depends on the order of threads");
    one
}

fn computed(plan: &Plan, inputs: &[&[f32]], count: usize) -> Vec<f32> {
    floats(&computed_bytes(plan, inputs, &vec![0xff; 4 * count], 4))
}

fn in_place(plan: &Plan, inputs: &[&[f32]], values: &[f32]) -> Vec<f32> {
    floats(&computed_bytes(plan, inputs, &bytes(values), 4))
}

struct Random(SplitMix64);

impl Random {
    fn floats(&mut self, count: usize) -> Vec<f32> {
        (0..count).map(|_| (self.0.next() >> 40) as f32 / (1 << 23) as f32 - 1.0).collect()
    }

    fn var(&mut self, shape: &[usize]) -> Var {
        let values = self.floats(shape.iter().product());
        Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
    }
}

/// Within a share of the largest value.
fn near(what: &str, mine: &[f32], wanted: &[f32], share: f32) {
    assert_eq!(mine.len(), wanted.len(), "{what}");
    let largest = wanted.iter().fold(1e-30f32, |m, v| m.max(v.abs()));
    for (i, (mine, wanted)) in mine.iter().zip(wanted).enumerate() {
        let off = (mine - wanted).abs();
        assert!(off <= share * largest, "{what}[{i}]: {mine} for {wanted}");
    }
}

fn same(what: &str, mine: &[f32], wanted: &[f32]) {
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    assert!(bits(mine) == bits(wanted), "{what}: {mine:?} for {wanted:?}");
}

fn values(tensor: &Tensor) -> Vec<f32> {
    flat(tensor).unwrap()
}

/// y, and the gradients of `vars` under `dy`, on the CPU.
fn on_the_cpu(y: &Tensor, dy: &Tensor, vars: &[&Var]) -> (Vec<f32>, Vec<Vec<f32>>) {
    let store = (y * dy).unwrap().sum_all().unwrap().backward().unwrap();
    (values(y), vars.iter().map(|var| values(store.get(var).unwrap())).collect())
}

#[test]
fn convolutions_and_their_gradients_are_those_of_the_cpu() {
    let mut random = Random(SplitMix64(5));
    // Images, channels, height, width, filters, window, stride, padding before and after.
    let shapes = [
        [2, 3, 9, 11, 5, 3, 1, 1, 1],
        [1, 17, 8, 7, 70, 3, 2, 0, 1],
        [3, 5, 12, 12, 4, 4, 2, 1, 1],
        [2, 66, 5, 6, 3, 1, 1, 0, 0],
        [1, 2, 40, 37, 6, 4, 1, 1, 1],
        [1, 4, 7, 9, 2, 5, 3, 1, 2],
    ];
    for [n, c, h, w, o, k, stride, before, after] in shapes {
        let padding = Padding { before, after };
        let [x, weight, bias] = [&[n, c, h, w][..], &[o, c, k, k], &[o]].map(|s| random.var(s));
        let g = ConvSizes::of(x.dims(), weight.dims(), stride, padding).unwrap();
        let y = conv2d(&x, &weight, Some(&bias), stride, padding).unwrap();
        let dy = random.var(y.dims());
        let (wanted, gradients) = on_the_cpu(&y, &dy, &[&x, &weight, &bias]);
        let [xs, ws, bs, dys] = [&x, &weight, &bias, &dy].map(|t| values(t));
        let zeros = vec![0.0; c];
        near(
            "y",
            &computed(&launches::conv_forward(&g, false), &[&xs, &ws, &bs], wanted.len()),
            &wanted,
            1e-5,
        );
        let plan = launches::conv_input_gradient(&g);
        near("dx", &computed(&plan, &[&dys, &ws, &zeros], xs.len()), &gradients[0], 1e-5);
        let plan = launches::conv_weight_gradient(&g, false);
        near("dw", &computed(&plan, &[&xs, &dys], ws.len()), &gradients[1], 1e-5);
        let map = [n, o, g.out_h * g.out_w];
        near("db", &computed(&launches::channel_sums(map), &[&dys], o), &gradients[2], 1e-5);
        // What cuDNN's products get their bias by.
        let bare = values(&conv2d(&x, &weight, None, stride, padding).unwrap());
        let mine = in_place(&launches::add_to_channels(map), &[&bs], &bare);
        near("y and its bias", &mine, &wanted, 1e-5);
    }
    // A transposed one is the second of these.
    let [x, weight, bias] = [&[2, 5, 4, 3][..], &[5, 7, 4, 4], &[7]].map(|s| random.var(s));
    let y = conv_transpose2d(&x, &weight, Some(&bias), 2, 1).unwrap();
    let g = ConvSizes::of(y.dims(), weight.dims(), 2, Padding::same(1)).unwrap();
    let inputs = [&x, &weight, &bias].map(|t| values(t));
    let plan = launches::conv_input_gradient(&g);
    let mine = computed(&plan, &inputs.each_ref().map(Vec::as_slice), y.elem_count());
    near("transposed", &mine, &values(&y), 1e-5);
}

#[test]
fn convolutions_of_bfloat16_and_their_gradients_are_those_of_the_cpu() {
    let mut random = Random(SplitMix64(15));
    for [n, c, h, w, o, k, stride, before, after] in
        [[2, 3, 9, 11, 5, 3, 1, 1, 1], [1, 17, 8, 7, 70, 3, 2, 0, 1], [2, 66, 5, 6, 3, 1, 1, 0, 0]]
    {
        let padding = Padding { before, after };
        let [x, weight, bias] = [&[n, c, h, w][..], &[o, c, k, k], &[o]].map(|s| random.var(s));
        let g = ConvSizes::of(x.dims(), weight.dims(), stride, padding).unwrap();
        let narrowed = x.to_dtype(DType::BF16).unwrap();
        let y = conv2d(&narrowed, &weight, Some(&bias), stride, padding).unwrap();
        assert_eq!(y.dtype(), DType::F32);
        let dy = random.var(y.dims());
        let (wanted, gradients) = on_the_cpu(&y, &dy, &[&x, &weight, &bias]);
        let [ws, bs, dys] = [&weight, &bias, &dy].map(|t| bytes(&values(t)));
        let elements = narrowed.flatten_all().unwrap().to_vec1::<bf16>().unwrap();
        let xs: Vec<u8> = elements.iter().flat_map(|v| v.to_le_bytes()).collect();
        let run = |plan: &Plan, inputs: &[&[u8]], count: usize| {
            floats(&carry_out(plan, inputs, &vec![0xff; 4 * count], 4, false))
        };
        let mine = run(&launches::conv_forward(&g, true), &[&xs, &ws, &bs], wanted.len());
        near("y", &mine, &wanted, 1e-5);
        let plan = launches::conv_weight_gradient(&g, true);
        near("dw", &run(&plan, &[&xs, &dys], weight.elem_count()), &gradients[1], 1e-5);
    }
}

#[test]
fn rectifiers_and_pools_are_those_of_the_cpu_to_the_bit() {
    let mut random = Random(SplitMix64(6));
    for [n, c, h, w] in [[2, 3, 6, 8], [1, 2, 7, 5], [1, 1, 2, 3], [1, 3, 33, 17]] {
        let planes = [n * c, h, w];
        let mut xs = random.floats(n * c * h * w);
        // Ties, zeros and no number at all.
        xs.iter_mut().step_by(3).for_each(|v| *v = (*v * 2.0).round());
        xs[0] = 0.0;
        let finite = xs.clone();
        let at = xs.len() / 2;
        xs[at] = f32::NAN;
        let x = Tensor::from_vec(xs.clone(), (n, c, h, w), &Device::Cpu).unwrap();
        let count = n * c * (h / 2) * (w / 2);
        same(
            "pool",
            &computed(&launches::max_pool_2(planes), &[&xs], count),
            &values(&max_pool2(&x).unwrap()),
        );
        let x = Var::from_vec(finite.clone(), (n, c, h, w), &Device::Cpu).unwrap();
        let y = max_pool2(&x).unwrap();
        let dy = random.var(y.dims());
        let (_, gradients) = on_the_cpu(&y, &dy, &[&x]);
        let plan = launches::max_pool_2_gradient(planes);
        let mine = computed(&plan, &[&finite, &values(&dy)], finite.len());
        near("pool's gradient", &mine, &gradients[0], 0.0);
        for slope in [0.0, 0.2] {
            let y = leaky_relu(&x, slope).unwrap();
            let dy = random.var(x.dims());
            let (wanted, gradients) = on_the_cpu(&y, &dy, &[&x]);
            let plan = launches::leaky_relu(finite.len(), slope);
            near("relu", &computed(&plan, &[&finite], finite.len()), &wanted, 0.0);
            let plan = launches::leaky_relu_gradient(finite.len(), slope);
            let mine = computed(&plan, &[&finite, &values(&dy)], finite.len());
            near("relu's gradient", &mine, &gradients[0], 0.0);
        }
        let mine = computed(&launches::leaky_relu(xs.len(), 0.0), &[&xs], xs.len());
        assert!(mine[at].is_nan() && mine[0] == 0.0);
    }
}

#[test]
fn norms_and_their_gradients_are_those_of_the_cpu() {
    let mut random = Random(SplitMix64(7));
    for (images, groups, channels, side, silu) in
        [(2, 3, 2, (5, 7), true), (1, 1, 4, (16, 17), false), (3, 8, 1, (4, 4), true)]
    {
        let all = groups * channels;
        let spec = NormSpec::new(groups, 1e-6);
        let x = random.var(&[images, all, side.0, side.1]);
        let [w, b] = [(); 2].map(|()| random.var(&[all]));
        let y = group_norm(&x, (&w, &b), spec, silu).unwrap().unwrap();
        let dy = random.var(y.dims());
        let (wanted, gradients) = on_the_cpu(&y, &dy, &[&x, &w, &b]);
        let pixels = side.0 * side.1;
        let g = Groups { images, groups, channels, pixels, epsilon: spec.eps, silu };
        let [xs, ws, bs, dys] = [&x, &w, &b, &dy].map(|t| values(t));
        let mine = computed(&launches::group_norm(&g), &[&xs, &ws, &bs], xs.len());
        near("y", &mine, &wanted, 1e-5);
        let affine = [ws, bs].concat();
        let plan = launches::group_norm_gradient(&g);
        let mine = computed(&plan, &[&xs, &affine, &dys], xs.len() + 2 * all);
        near("dx", &mine[..xs.len()], &gradients[0], 2e-5);
        near("dw", &mine[xs.len()..][..all], &gradients[1], 2e-5);
        near("db", &mine[xs.len() + all..], &gradients[2], 2e-5);
    }
    // What overflows is no number.
    let g = Groups { images: 1, groups: 1, channels: 1, pixels: 4, epsilon: 1e-6, silu: false };
    let x = [1e30, -1e30, 0.0, 1.0];
    let mine = computed(&launches::group_norm(&g), &[&x, &[1.0], &[0.0]], 4);
    assert!(mine.iter().all(|v| v.is_nan()), "{mine:?}");
}

#[test]
fn updates_are_those_of_the_cpu_to_the_bit() {
    let mut random = Random(SplitMix64(8));
    let count = 1000;
    let (p, gradient) = (random.var(&[10, 100]), random.floats(count));
    let start = values(&p);
    let vars = std::collections::BTreeMap::from([("p".to_string(), p.clone())]);
    let named = Tensor::from_slice(&gradient, count, &Device::Cpu).unwrap();
    let named = Tensors::from([("p".to_string(), named)]);
    let (b1, b2, rate, decay, epsilon) = (0.9f64, 0.95f64, 1e-3, 0.01, 1e-8);
    let mut adam = AdamW::new((b1, b2), epsilon, decay);
    let (mut mine, mut m, mut v) = (start, vec![0.0; count], vec![0.0; count]);
    for t in 1..=3 {
        adam.step(&vars, &named, rate).unwrap();
        let plan = launches::blend(false, count, b1 as f32, (1.0 - b1) as f32);
        m = in_place(&plan, &[&gradient], &m);
        let plan = launches::blend(true, count, b2 as f32, (1.0 - b2) as f32);
        v = in_place(&plan, &[&gradient], &v);
        let numbers =
            [1.0 - rate * decay, rate / (1.0 - b1.powi(t)), 1.0 / (1.0 - b2.powi(t)), epsilon];
        let plan = launches::descend(count, numbers.map(|number| number as f32));
        mine = in_place(&plan, &[&m, &v], &mine);
        same("m", &m, &values(&adam.moment1["p"]));
        same("v", &v, &values(&adam.moment2["p"]));
        same("p", &mine, &values(&p));
    }
    let halved: Vec<f32> = mine.iter().map(|v| v * 0.37).collect();
    same("scaled", &in_place(&launches::scale(count, 0.37), &[], &mine), &halved);
}

#[test]
fn sums_and_searches_are_those_of_the_cpu() {
    let mut random = Random(SplitMix64(9));
    for count in [1, 255, 300_000] {
        let (a, b) = (random.floats(count), random.floats(count));
        let tensor = Tensor::from_slice(&a, count, &Device::Cpu).unwrap();
        let wanted = sum_of_squares(&tensor).unwrap();
        let difference: f64 =
            a.iter().zip(&b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        for (inputs, wanted) in [(vec![&a[..]], wanted), (vec![&a[..], &b[..]], difference)] {
            let plan = launches::squares(inputs.len(), count);
            let sum = computed_bytes(&plan, &inputs, &[0xff; 8], 8);
            let sum = f64::from_le_bytes(sum.try_into().unwrap());
            assert!((sum - wanted).abs() <= 1e-12 * wanted, "{sum} for {wanted}");
        }
    }
    for (count, codes, dim) in [(3, 5, 4), (130, 200, 8), (64, 64, 40)] {
        let mut rows = random.floats(count * dim);
        let mut book = random.floats(codes * dim);
        // The last code again is no other: of equal distances the lower index.
        let (first, last) = (book[..dim].to_vec(), (codes - 1) * dim);
        book[last..].copy_from_slice(&first);
        rows[..dim].copy_from_slice(&first);
        rows[dim] = f32::NAN;
        let tensor = |values: &[f32]| {
            Tensor::from_slice(values, (values.len() / dim, dim), &Device::Cpu).unwrap()
        };
        let wanted = search(&tensor(&rows), &tensor(&book)).unwrap();
        let plan = launches::nearest_codes(count, codes, dim);
        let mine = computed_bytes(&plan, &[&rows, &book], &vec![0xff; 4 * count], 4);
        let mine: Vec<u32> =
            mine.chunks_exact(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect();
        assert_eq!(mine, wanted);
        assert_eq!(mine[..2], [0, 0]);
        let mut unit = rows.clone();
        crate::model::quantizer::normalise_rows(&mut unit, dim);
        let mine = computed(&launches::unit_rows([count, dim]), &[&rows], rows.len());
        assert!(mine[dim..2 * dim].iter().all(|v| v.is_nan()));
        near("unit rows", &mine[2 * dim..], &unit[2 * dim..], 1e-6);
    }
}
