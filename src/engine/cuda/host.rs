//! Owns carrying out programs on the host, for the tests: our kernels on emulated threads, the
//! libraries' products and convolutions as plain loops, guards behind every buffer.

use std::ffi::{CString, c_char, c_int, c_uint, c_void};
use std::path::Path;
use std::process::Command as Process;
use std::sync::{Mutex, OnceLock};

use half::bf16;

#[allow(clippy::wildcard_imports, reason = "every operation there is")]
use super::program::*;
use super::weights::DeviceWeights;
use crate::engine::device::Precision;

/// Behind every buffer, and checked after every run.
const GUARD: u8 = 0xa5;
const GUARD_BYTES: usize = 4096;
/// Float32 and bfloat16 not-a-numbers: what a map holds before something is written.
const UNWRITTEN: u8 = 0xff;

pub(crate) type Emulate =
    unsafe extern "C" fn(*const c_char, *const c_uint, c_uint, *const u64, c_int, c_int) -> c_int;

/// `emulate.c` for an element type, compiled and loaded once; it isn't reentrant.
pub(crate) fn emulator(element: Precision) -> &'static Mutex<Emulate> {
    static LOADED: [OnceLock<Mutex<Emulate>>; 2] = [OnceLock::new(), OnceLock::new()];
    LOADED[usize::from(element == Precision::Bf16)].get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/engine/cuda/emulate.c");
        let library = folder.path().join("emulate.so");
        let mut compiler = Process::new(std::env::var("CC").unwrap_or_else(|_| "cc".into()));
        compiler.args(["-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-shared"]);
        // Undefined behaviour, misaligned packs among it, ends the test.
        compiler.args(["-fsanitize=undefined", "-fsanitize-undefined-trap-on-error", "-fPIC"]);
        // Fortified long jumps refuse to change stacks.
        compiler.arg("-U_FORTIFY_SOURCE");
        if element == Precision::Bf16 {
            compiler.arg("-DVQTOK_BF16");
        }
        let status = compiler.arg("-o").args([&library, &source]).arg("-lm").status().unwrap();
        assert!(status.success(), "emulate.c doesn't compile");
        let name = CString::new(library.to_str().unwrap()).unwrap();
        // SAFETY: the library has no constructors; the symbol's type is the one in `emulate.c`.
        let emulate = unsafe {
            let handle = libc::dlopen(name.as_ptr(), libc::RTLD_NOW);
            assert!(!handle.is_null(), "emulate.so doesn't load");
            let symbol = libc::dlsym(handle, c"vqtok_emulate".as_ptr());
            assert!(!symbol.is_null());
            std::mem::transmute::<*mut c_void, Emulate>(symbol)
        };
        Mutex::new(emulate)
    })
}

/// Memory that is aligned as a device's.
pub(crate) struct Buffer {
    words: Vec<u128>,
    bytes: usize,
}

impl Buffer {
    pub(crate) fn new(bytes: usize, fill: u8) -> Buffer {
        let words = (bytes + GUARD_BYTES).div_ceil(16);
        let mut buffer = Buffer { words: vec![u128::from_ne_bytes([fill; 16]); words], bytes };
        buffer.all()[bytes..].fill(GUARD);
        buffer
    }

    pub(crate) fn all(&mut self) -> &mut [u8] {
        let (start, len) = (self.words.as_mut_ptr().cast::<u8>(), self.words.len() * 16);
        // SAFETY: the same memory as bytes.
        unsafe { std::slice::from_raw_parts_mut(start, len) }
    }

    /// Whether nothing has written behind it.
    pub(crate) fn is_whole(&mut self) -> bool {
        let bytes = self.bytes;
        self.all()[bytes..].iter().all(|b| *b == GUARD)
    }

    pub(crate) fn get(&self) -> &[u8] {
        // SAFETY: the same memory as bytes, of which there are at least so many.
        unsafe { std::slice::from_raw_parts(self.words.as_ptr().cast(), self.bytes) }
    }
}

/// Carries out commands as a device would.
pub(super) struct Host {
    element: Precision,
    weights: Vec<Buffer>,
    maps: Vec<Buffer>,
    /// Whether threads of a block run backwards: a missing barrier then changes results.
    pub reverse: bool,
}

impl Host {
    /// With every map unwritten.
    pub(super) fn new(packed: &DeviceWeights, program: &Program) -> Host {
        let weights = packed.blobs().iter().map(|blob| {
            let mut buffer = Buffer::new(blob.len(), 0);
            buffer.all()[..blob.len()].copy_from_slice(blob);
            buffer
        });
        Host {
            element: packed.precision(),
            weights: weights.collect(),
            maps: program.maps.iter().map(|bytes| Buffer::new(*bytes, UNWRITTEN)).collect(),
            reverse: false,
        }
    }

    fn buffer(&self, place: Place) -> &Buffer {
        match place {
            Place::Weight(i) => &self.weights[i],
            Place::Map(i) => &self.maps[i],
        }
    }

    /// Runs a program on images' bytes.
    pub(super) fn run(&mut self, program: &Program, pixels: &[u8]) {
        let Place::Map(input) = program.input else { panic!("the input is a map") };
        self.maps[input].all()[..pixels.len()].copy_from_slice(pixels);
        for command in &program.commands {
            match &command.work {
                Work::Launch(launch) => self.launch(launch),
                Work::Gemm(gemm) => self.gemm(gemm),
                Work::Convolve(convolve) => self.convolve(convolve),
            }
            for buffer in self.maps.iter_mut().chain(&mut self.weights) {
                let whole = buffer.is_whole();
                assert!(whole, "{} {:?} writes past a buffer", command.layer, command.work);
            }
        }
    }

    fn launch(&mut self, launch: &Launch) {
        let words = launch.arguments.iter().map(|argument| match *argument {
            Arg::At(place, offset) => self.buffer(place).get()[offset..].as_ptr() as u64,
            Arg::Null => 0,
            Arg::Int(value) => value as u32 as u64,
            Arg::Float(value) => u64::from(value.to_bits()),
        });
        let words: Vec<u64> = words.collect();
        let name = CString::new(launch.kernel).unwrap();
        let emulate = emulator(self.element).lock().unwrap();
        // SAFETY: addresses of live buffers; kernels that leave them are found by the guards.
        let status = unsafe {
            emulate(
                name.as_ptr(),
                launch.grid.as_ptr(),
                launch.block,
                words.as_ptr(),
                words.len() as c_int,
                c_int::from(self.reverse),
            )
        };
        assert_eq!(status, 0, "{launch:?}");
    }

    /// As BLAS reads it: column-major.
    fn gemm(&mut self, gemm: &Gemm) {
        let call = gemm.column_major();
        for index in 0..gemm.batch {
            let (m, n, k) = (call.m, call.n, call.k);
            let (rows, length) = if call.transpose_first { (m, k) } else { (k, m) };
            let first = self.floats(call.first, index, (rows - 1) * call.first.row + length);
            let second = self.floats(call.second, index, (n - 1) * call.second.row + k);
            for column in 0..call.n {
                for row in 0..call.m {
                    let a = |k: usize| match call.transpose_first {
                        true => first[row * call.first.row + k],
                        false => first[k * call.first.row + row],
                    };
                    let b = |k: usize| second[column * call.second.row + k];
                    let sum = (0..call.k).fold(0.0f32, |sum, k| sum + a(k) * b(k));
                    let at = gemm.c.offset + index * gemm.c.step + column * gemm.c.row + row;
                    self.store(gemm.c.place, at, gemm.alpha * sum, gemm.c.element);
                }
            }
        }
    }

    fn convolve(&mut self, convolve: &Convolve) {
        assert_eq!(self.element, Precision::Bf16, "float32 has our own kernel");
        let s = convolve.shape;
        let whole = |place: Place| decode(self.buffer(place).get(), Precision::Bf16);
        let map = whole(convolve.from);
        let weights = whole(convolve.weights);
        let bias = whole(convolve.bias);
        let residual = convolve.residual.map(whole);
        assert_eq!(residual.is_some(), s.residual);
        assert_eq!(weights.len(), s.outputs * s.kernel * s.kernel * s.inputs);
        let (height, width) = s.output();
        for pixel in 0..s.images * height * width {
            let (image, y, x) = (pixel / (height * width), pixel / width % height, pixel % width);
            for o in 0..s.outputs {
                let mut sum = 0.0f32;
                for at in 0..s.kernel * s.kernel {
                    let (y, x) = (y * s.stride + at / s.kernel, x * s.stride + at % s.kernel);
                    let (Some(y), Some(x)) = (y.checked_sub(s.before), x.checked_sub(s.before))
                    else {
                        continue;
                    };
                    if y >= s.height || x >= s.width {
                        continue;
                    }
                    let from = ((image * s.height + y) * s.width + x) * s.inputs;
                    let with = (o * s.kernel * s.kernel + at) * s.inputs;
                    let pairs = map[from..from + s.inputs].iter().zip(&weights[with..]);
                    sum = pairs.fold(sum, |sum, (a, b)| sum + a * b);
                }
                let at = pixel * s.outputs + o;
                let added = residual.as_ref().map_or(0.0, |residual| residual[at]);
                self.store(convolve.to, at, sum + added + bias[o], Precision::Bf16);
            }
        }
    }

    /// So many elements behind a matrix' start, as float32.
    fn floats(&self, matrix: Matrix, index: usize, count: usize) -> Vec<f32> {
        let width = matrix.element.bytes();
        let start = (matrix.offset + index * matrix.step) * width;
        decode(&self.buffer(matrix.place).get()[start..][..count * width], matrix.element)
    }

    fn store(&mut self, place: Place, at: usize, value: f32, element: Precision) {
        let Place::Map(index) = place else { panic!("weights are constant") };
        let (buffer, width) = (&mut self.maps[index], element.bytes());
        assert!((at + 1) * width <= buffer.bytes);
        let to = &mut buffer.all()[at * width..][..width];
        match element {
            Precision::F32 => to.copy_from_slice(&value.to_le_bytes()),
            Precision::Bf16 => to.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
        }
    }

    /// The first elements of a map.
    pub(super) fn elements(&self, place: Place, count: usize) -> Vec<f32> {
        decode(&self.buffer(place).get()[..count * self.element.bytes()], self.element)
    }

    /// The first 32-bit words of a buffer.
    pub(super) fn result(&self, place: Place, count: usize) -> Vec<f32> {
        decode(&self.buffer(place).get()[..count * 4], Precision::F32)
    }
}

fn decode(bytes: &[u8], element: Precision) -> Vec<f32> {
    match element {
        Precision::F32 => {
            bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
        }
        Precision::Bf16 => bytes
            .chunks_exact(2)
            .map(|b| bf16::from_le_bytes(b.try_into().unwrap()).to_f32())
            .collect(),
    }
}
