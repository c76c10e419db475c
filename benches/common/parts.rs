//! Owns what each kind of layer of a VQGAN's step costs, and its share of the instruction peak.
//! Must not know: trainers, the peer.

use std::time::Instant;

use candle_core::{DType, Device, Tensor, Var};
use vqtok::internals::engine::cpu::kernels::{Isa, peak, thread_seconds};
use vqtok::internals::model::conv::{Padding, conv2d};
use vqtok::internals::model::layers::GroupNorm;
use vqtok::internals::model::topology::NormSpec;

/// Channels in and out, side of the window, stride, side of the picture, how many of it a step of the VQGAN f8 at
/// 128 px has (encoder and decoder, or the discriminator's in a pass).
type Layer = (usize, usize, usize, usize, usize, usize);

const LAYERS: [Layer; 11] = [
    (64, 64, 3, 1, 128, 11),
    (64, 64, 3, 1, 64, 11),
    (128, 128, 3, 1, 32, 9),
    (256, 256, 3, 1, 16, 17),
    (256, 128, 3, 1, 16, 1),
    (64, 64, 3, 2, 128, 1),
    (128, 128, 3, 2, 32, 1),
    (256, 256, 1, 1, 16, 24),
    (3, 64, 3, 1, 128, 1),
    (64, 128, 4, 2, 64, 1),
    (128, 256, 4, 1, 32, 1),
];

/// The best of some runs, in seconds of this thread's and the pool's one thread's time.
fn fastest(mut run: impl FnMut()) -> f64 {
    run();
    let times = (0..5).map(|_| {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

fn noise(shape: &[usize]) -> Tensor {
    Tensor::randn(0_f32, 1.0, shape, &Device::Cpu).expect("numbers")
}

/// Prints the table for batches of `batch` pictures; one thread is wanted, and a quiet machine.
pub fn print(batch: usize) {
    let isa = Isa::detect().expect("an instruction set");
    let peaks = (0..5).map(|_| {
        let start = thread_seconds();
        peak(isa) as f64 / (thread_seconds() - start)
    });
    let peak = peaks.fold(0.0, f64::max);
    println!(
        "instruction peak of one core, {}: {:.1} GFLOP/s; batch {batch}",
        isa.name(),
        peak / 1e9
    );
    println!(
        "| layer | of a step | forward, ms | input gradient, ms | weight gradient, ms | shares of the peak |"
    );
    println!("|---|---|---|---|---|---|");
    for layer in LAYERS {
        convolution(layer, batch, peak);
    }
    for (channels, side) in [(64, 128), (256, 16)] {
        norm(channels, side, batch);
    }
}

fn convolution((from, to, window, stride, side, count): Layer, batch: usize, peak: f64) {
    let x = noise(&[batch, from, side, side]);
    let weight = noise(&[to, from, window, window]);
    let (x_var, weight_var) =
        (Var::from_tensor(&x).expect("x"), Var::from_tensor(&weight).expect("w"));
    let padding = Padding::same((window - 1) / 2);
    let run = |x: &Tensor, w: &Tensor| conv2d(x, w, None, stride, padding).expect("a convolution");
    let y = run(&x, &weight);
    let forward = fastest(|| drop(run(&x, &weight)));
    let backward = |y: &Tensor| fastest(|| drop(y.backward().expect("gradients")));
    let (input, own) = (backward(&run(&x_var, &weight)), backward(&run(&x, &weight_var)));
    let places = y.elem_count() / to;
    let operations = (2 * places * to * from * window * window) as f64;
    let share = |seconds: f64| format!("{:.0} %", 100.0 * operations / seconds / peak);
    println!(
        "| {window}x{window}{}, {from} to {to}, {side}x{side} | {count} | {:.1} | {:.1} | {:.1} | {}, {}, {} |",
        if stride > 1 { " stride 2" } else { "" },
        1e3 * forward,
        1e3 * input,
        1e3 * own,
        share(forward),
        share(input),
        share(own),
    );
}

/// A GroupNorm moves numbers rather than multiplies them: two numbers read or written an element forward, three
/// backward.
fn norm(channels: usize, side: usize, batch: usize) {
    let x = noise(&[batch, channels, side, side]);
    let var = Var::from_tensor(&x).expect("x");
    let weight = Tensor::ones(channels, DType::F32, &Device::Cpu).expect("ones");
    let bias = weight.zeros_like().expect("zeros");
    let layer = GroupNorm { weight, bias, spec: NormSpec::new(32, 1e-6) };
    let forward = fastest(|| drop(layer.forward(&x).expect("a norm")));
    let y = layer.forward(&var).expect("a norm");
    let backward = fastest(|| drop(y.backward().expect("gradients")));
    let bytes = (4 * x.elem_count()) as f64;
    println!(
        "| GroupNorm, {channels}, {side}x{side} | | {:.1} | {:.1} | | {:.1} and {:.1} GB/s |",
        1e3 * forward,
        1e3 * backward,
        2e-9 * bytes / forward,
        3e-9 * bytes / backward,
    );
}
