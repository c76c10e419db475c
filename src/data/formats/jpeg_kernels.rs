//! Owns AVX2 kernels for libjpeg's three slowest portable loops: the slow integer inverse DCT,
//! fancy upsampling by two both ways, YCbCr to RGB. They stand in where libjpeg was built without assembler (no nasm at hand), and
//! give its pixels bit for bit. Must not know: files, limits.
//!
//! libjpeg calls them through tables of function pointers, as it does its own assembler; [`install`]
//! swaps the entries after checking that the portable functions stand there.

#[allow(clippy::wildcard_imports, reason = "instructions, each named for itself")]
use std::arch::x86_64::*;
use std::ffi::{c_int, c_void};
use std::mem::size_of;

use mozjpeg_sys as ffi;

unsafe extern "C" {
    /// libjpeg's portable inverse DCT; only its address is used.
    fn jpeg_idct_islow();
}

type Decompressor = ffi::jpeg_decompress_struct;
type Component = ffi::jpeg_component_info;
type InverseDct =
    unsafe extern "C-unwind" fn(*mut Decompressor, *mut Component, *const i16, *const *mut u8, u32);
type Convert = unsafe extern "C-unwind" fn(
    *mut Decompressor,
    *const *const *const u8,
    u32,
    *const *mut u8,
    c_int,
);

/// `struct jpeg_inverse_dct` of jpegint.h.
#[repr(C)]
struct InverseDctTable {
    start_pass: *const c_void,
    inverse_dct: [InverseDct; 10],
}

/// `struct jpeg_color_deconverter` of jpegint.h.
#[repr(C)]
struct ConvertTable {
    start_pass: *const c_void,
    convert: Convert,
}

type Upsample = unsafe extern "C-unwind" fn(
    *mut Decompressor,
    *mut Component,
    *const *const u8,
    *const *const *mut u8,
);

/// The start of `my_upsampler` of jdsample.c.
#[repr(C)]
struct UpsampleTable {
    start_pass: *const c_void,
    upsample: *const c_void,
    need_context_rows: c_int,
    color_buf: [*const c_void; 10],
    methods: [Upsample; 10],
}

/// Puts the kernels in place of libjpeg's portable loops; does nothing where those aren't in use.
///
/// # Safety
/// `cinfo` must be between `jpeg_start_decompress` and the first row read.
pub(crate) unsafe fn install(cinfo: &mut Decompressor) {
    if !std::is_x86_feature_detected!("avx2") {
        return;
    }
    let pointers = size_of::<Decompressor>() / size_of::<*mut c_void>();
    let end = (&raw mut *cinfo).cast::<*mut c_void>();
    // SAFETY: the structure ends in pointers to idct, upsample, cconvert, cquantize (jpeglib.h;
    // private in the binding). libjpeg itself compared the structure's size at creation, and all
    // tables are set by `jpeg_start_decompress`.
    let (dct, upsample, convert) = unsafe {
        let dct = (*end.add(pointers - 4)).cast::<InverseDctTable>();
        let upsample = (*end.add(pointers - 3)).cast::<UpsampleTable>();
        (dct, upsample, (*end.add(pointers - 2)).cast::<ConvertTable>())
    };
    let components = usize::try_from(cinfo.num_components).unwrap_or(0).min(10);
    let mut portable = components > 0;
    for index in 0..components {
        // SAFETY: the table is valid as above; entries are set for every component.
        let entry = unsafe { &mut (*dct).inverse_dct[index] };
        if *entry as usize == jpeg_idct_islow as *const () as usize {
            *entry = inverse_dct;
        } else {
            portable = false;
        }
    }
    let from_ycc = cinfo.jpeg_color_space == ffi::J_COLOR_SPACE::JCS_YCbCr
        && cinfo.out_color_space == ffi::J_COLOR_SPACE::JCS_RGB;
    if portable && from_ycc {
        // SAFETY: as above. Without merged upsampling, which fancy upsampling excludes, the table
        // is a `my_upsampler`; chroma of a 4:2:0 image wider than four goes through
        // `h2v2_fancy_upsample` (`jinit_upsampler`).
        unsafe {
            (*convert).convert = ycc_to_rgb;
            for index in 1..components {
                let (luma, chroma) = (&*cinfo.comp_info, &*cinfo.comp_info.add(index));
                let halves = (luma.h_samp_factor, luma.v_samp_factor) == (2, 2)
                    && (chroma.h_samp_factor, chroma.v_samp_factor) == (1, 1);
                let wide = cinfo.image_width > 4 && cinfo.do_fancy_upsampling != 0;
                if halves && wide && cinfo.scale_num == cinfo.scale_denom {
                    (*upsample).methods[index] = upsample_both;
                }
            }
        }
    }
}

/// Dequantizes a block of 64 coefficients (natural order) and writes 8 x 8 samples: the pixels of
/// `jpeg_idct_islow` of jidctint.c, and where coefficients are beyond what an encoder writes, those
/// of libjpeg-turbo's assembler, which computes in 16 bits that wrap and saturate.
unsafe extern "C-unwind" fn inverse_dct(
    _cinfo: *mut Decompressor,
    component: *mut Component,
    coefficients: *const i16,
    out: *const *mut u8,
    column: u32,
) {
    // SAFETY: libjpeg passes a whole block, the component's latched quantization table and eight
    // rows with room for eight samples from `column` on; `install` checked for AVX2.
    unsafe {
        // Without any scan of this component there is no table, and libjpeg's stays all zero.
        let quant = (*component).quant_table.as_ref().map_or(&[0; 64], |table| &table.quantval);
        let coefficients = &*coefficients.cast::<[i16; 64]>();
        let block = block(coefficients, quant);
        for (row, samples) in block.iter().enumerate() {
            (*out.add(row)).add(column as usize).cast::<[u8; 8]>().write_unaligned(*samples);
        }
    }
}

/// `jsimd_idct_islow_avx2` of jidctint-avx2.asm, step for step. Names like `in0_4` mean row 0 in the
/// lower half and row 4 in the upper, eight 16-bit values each.
#[target_feature(enable = "avx2")]
fn block(coefficients: &[i16; 64], quant: &[u16; 64]) -> [[u8; 8]; 8] {
    // Without any coefficient below the first row all columns are flat, and wrap where they don't
    // fit, which the sums below would not.
    let flat = coefficients[8..].iter().fold(0, |all, &value| all | value) == 0;
    let rows = [0, 1, 2, 3].map(|pair| {
        // SAFETY: sixteen values from sixteen times the pair on, of 64, unaligned loads.
        unsafe {
            let values = _mm256_loadu_si256(coefficients[pair * 16..].as_ptr().cast());
            let steps = _mm256_loadu_si256(quant[pair * 16..].as_ptr().cast());
            _mm256_mullo_epi16(values, steps)
        }
    });
    let columns = match flat {
        true => flat_columns(_mm256_castsi256_si128(rows[0])),
        false => {
            let [in0_1, in2_3, in4_5, in6_7] = rows;
            transpose(pass::<11>([
                _mm256_permute2x128_si256::<0x20>(in0_1, in4_5),
                _mm256_permute2x128_si256::<0x31>(in2_3, in0_1),
                _mm256_permute2x128_si256::<0x20>(in2_3, in6_7),
                _mm256_permute2x128_si256::<0x31>(in6_7, in4_5),
            ]))
        }
    };
    let [in0_4, in1_5, in2_6, in3_7] = columns;
    let [data0_4, data1_5, data2_6, data3_7] = transpose(pass::<18>([
        in0_4,
        _mm256_permute2x128_si256::<0x20>(in3_7, in1_5),
        in2_6,
        _mm256_permute2x128_si256::<0x31>(in3_7, in1_5),
    ]));
    let center = _mm256_set1_epi8(-128);
    let upper = _mm256_add_epi8(_mm256_packs_epi16(data0_4, data1_5), center);
    let lower = _mm256_add_epi8(_mm256_packs_epi16(data2_6, data3_7), center);
    let mut bytes = [[0u8; 32]; 2];
    // SAFETY: 32 bytes each, unaligned stores.
    unsafe {
        _mm256_storeu_si256(bytes[0].as_mut_ptr().cast(), upper);
        _mm256_storeu_si256(bytes[1].as_mut_ptr().cast(), lower);
    }
    // Rows 0, 1, 4, 5 and 2, 3, 6, 7.
    let row =
        |half: usize, at: usize| -> [u8; 8] { std::array::from_fn(|x| bytes[half][at * 8 + x]) };
    [row(0, 0), row(0, 1), row(1, 0), row(1, 1), row(0, 2), row(0, 3), row(1, 2), row(1, 3)]
}

/// The columns of a block with nothing below its first row, as [`transpose`] hands them out.
#[inline]
#[target_feature(enable = "avx2")]
fn flat_columns(first: __m128i) -> [__m256i; 4] {
    // PASS1_BITS is 2.
    let first = _mm_slli_epi16::<2>(first);
    let (low, high) = (_mm_unpacklo_epi16(first, first), _mm_unpackhi_epi16(first, first));
    let both = _mm256_inserti128_si256::<1>(_mm256_castsi128_si256(low), high);
    [
        _mm256_shuffle_epi32::<0x00>(both),
        _mm256_shuffle_epi32::<0x55>(both),
        _mm256_shuffle_epi32::<0xAA>(both),
        _mm256_shuffle_epi32::<0xFF>(both),
    ]
}

/// Pairs of factors for `_mm256_madd_epi16`, those of the lower half and of the upper.
#[inline]
#[target_feature(enable = "avx2")]
fn factors(low: [i16; 2], high: [i16; 2]) -> __m256i {
    let pair = |[a, b]: [i16; 2]| i32::from(a as u16) | i32::from(b) << 16;
    let (low, high) = (pair(low), pair(high));
    _mm256_setr_epi32(low, low, low, low, high, high, high, high)
}

/// One dimension of the transform on eight columns, from `in0_4, in3_1, in2_6, in7_5` to
/// `data0_1, data3_2, data4_5, data7_6`; the factors are jidctint.c's FIX_ constants.
#[inline]
#[target_feature(enable = "avx2")]
fn pass<const SHIFT: i32>(input: [__m256i; 4]) -> [__m256i; 4] {
    let [in0_4, in3_1, in2_6, in7_5] = input;
    let swapped = |value| _mm256_permute2x128_si256::<0x01>(value, value);
    let pairs = |a, b| (_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b));
    let both = |(a, b), factors| (_mm256_madd_epi16(a, factors), _mm256_madd_epi16(b, factors));
    let sum = |(a, b), (c, d)| (_mm256_add_epi32(a, c), _mm256_add_epi32(b, d));
    let difference = |(a, b), (c, d)| (_mm256_sub_epi32(a, c), _mm256_sub_epi32(b, d));

    let tmp3_2 = both(pairs(in2_6, swapped(in2_6)), factors([10703, 4433], [-10704, 4433]));
    let signs = _mm256_setr_epi32(
        0x0001_0001,
        0x0001_0001,
        0x0001_0001,
        0x0001_0001, //
        -1,
        -1,
        -1,
        -1,
    );
    let even = _mm256_add_epi16(swapped(in0_4), _mm256_sign_epi16(in0_4, signs));
    // In the upper 16 bits, then down to 13 more than they had.
    let zero = _mm256_setzero_si256();
    let tmp0_1 = (
        _mm256_srai_epi32::<3>(_mm256_unpacklo_epi16(zero, even)),
        _mm256_srai_epi32::<3>(_mm256_unpackhi_epi16(zero, even)),
    );
    let tmp10_11 = sum(tmp0_1, tmp3_2);
    let tmp13_12 = difference(tmp0_1, tmp3_2);

    let z3_4 = _mm256_add_epi16(in7_5, in3_1);
    let z3_4 = both(pairs(z3_4, swapped(z3_4)), factors([-6436, 9633], [6437, 9633]));
    let odd = pairs(in7_5, swapped(in3_1));
    let tmp0_1 = sum(both(odd, factors([-4927, -7373], [-4176, -20995])), z3_4);
    let z4_3 = (swapped(z3_4.0), swapped(z3_4.1));
    let tmp3_2 = sum(both(odd, factors([-7373, 4926], [-20995, 4177])), z4_3);

    let round = _mm256_set1_epi32(1 << (SHIFT - 1));
    let narrow = |(a, b)| {
        let down = |value| _mm256_srai_epi32::<SHIFT>(_mm256_add_epi32(value, round));
        _mm256_packs_epi32(down(a), down(b))
    };
    [
        narrow(sum(tmp10_11, tmp3_2)),
        narrow(sum(tmp13_12, tmp0_1)),
        narrow(difference(tmp13_12, tmp0_1)),
        narrow(difference(tmp10_11, tmp3_2)),
    ]
}

/// From `data0_1, data3_2, data4_5, data7_6` to the transposed `data0_4, data1_5, data2_6, data3_7`.
#[inline]
#[target_feature(enable = "avx2")]
fn transpose(data: [__m256i; 4]) -> [__m256i; 4] {
    let a = _mm256_permute4x64_epi64::<0xD8>(data[0]);
    let b = _mm256_permute4x64_epi64::<0x72>(data[1]);
    let c = _mm256_permute4x64_epi64::<0xD8>(data[2]);
    let d = _mm256_permute4x64_epi64::<0x72>(data[3]);
    let (e, f) = (_mm256_unpacklo_epi16(a, b), _mm256_unpackhi_epi16(a, b));
    let (g, h) = (_mm256_unpacklo_epi16(c, d), _mm256_unpackhi_epi16(c, d));
    let (a, b) = (_mm256_unpacklo_epi16(e, f), _mm256_unpacklo_epi16(g, h));
    let (c, d) = (_mm256_unpackhi_epi16(e, f), _mm256_unpackhi_epi16(g, h));
    [
        _mm256_unpacklo_epi64(a, b),
        _mm256_unpackhi_epi64(a, b),
        _mm256_unpacklo_epi64(c, d),
        _mm256_unpackhi_epi64(c, d),
    ]
}

/// `h2v2_fancy_upsample` of jdsample.c for one row group: from one row and its neighbours, two.
unsafe extern "C-unwind" fn upsample_both(
    cinfo: *mut Decompressor,
    _component: *mut Component,
    input: *const *const u8,
    out: *const *const *mut u8,
) {
    // SAFETY: libjpeg passes a pointer into rows with one above and one below, each of at least
    // half the output width (rounded up), and two output rows of room for twice that (the buffer
    // is rounded up to the sampling factor); `install` checked for AVX2.
    unsafe {
        let width = ((*cinfo).output_width as usize).div_ceil(2);
        let row = |at: isize| std::slice::from_raw_parts(*input.offset(at), width);
        for (index, far) in [row(-1), row(1)].into_iter().enumerate() {
            let out = std::slice::from_raw_parts_mut(*(*out).add(index), width * 2);
            upsample_row(row(0), far, out);
        }
    }
}

/// 9/16, 3/16, 3/16, 1/16 of the four nearest samples, rounded up and down in turn.
#[target_feature(enable = "avx2")]
fn upsample_row(near: &[u8], far: &[u8], out: &mut [u8]) {
    const BLOCK: usize = 64;
    let sum = |at: usize| u16::from(near[at]) * 3 + u16::from(far[at]);
    let last = near.len() - 1;
    for (index, out) in out.chunks_mut(2 * BLOCK).enumerate() {
        let start = index * BLOCK;
        let count = out.len() / 2;
        // With the sums left and right of the block; at the borders those are the border's own.
        let mut sums = [0u16; BLOCK + 2];
        sums[0] = sum(start.saturating_sub(1));
        let inputs = near[start..start + count].iter().zip(&far[start..start + count]);
        for (sum, (&near, &far)) in sums[1..].iter_mut().zip(inputs) {
            *sum = u16::from(near) * 3 + u16::from(far);
        }
        sums[count + 1] = sum((start + count).min(last));
        let (left, middle, right) = (&sums[..count], &sums[1..=count], &sums[2..count + 2]);
        let pairs = out.as_chunks_mut::<2>().0;
        for (((out, &left), &sum), &right) in pairs.iter_mut().zip(left).zip(middle).zip(right) {
            let pair = (sum * 3 + left + 8) >> 4 | ((sum * 3 + right + 7) >> 4) << 8;
            *out = pair.to_le_bytes();
        }
    }
}

/// `ycc_rgb_convert` of jdcolor.c.
unsafe extern "C-unwind" fn ycc_to_rgb(
    cinfo: *mut Decompressor,
    input: *const *const *const u8,
    input_row: u32,
    out: *const *mut u8,
    rows: c_int,
) {
    // SAFETY: libjpeg passes three planes with `rows` rows from `input_row` on, each of the output
    // width, and as many output rows of three times that; `install` checked for AVX2.
    unsafe {
        let width = (*cinfo).output_width as usize;
        for row in 0..rows as usize {
            let plane = |index: usize| {
                let start = *(*input.add(index)).add(input_row as usize + row);
                std::slice::from_raw_parts(start, width)
            };
            let out = std::slice::from_raw_parts_mut(*out.add(row), width * 3);
            convert_row(plane(0), plane(1), plane(2), out);
        }
    }
}

/// 16-bit fixed-point factors of jdcolor.c: 1.402, 0.71414, 0.34414, 1.772.
const FACTORS: [i32; 4] = [91881, 46802, 22554, 116130];
const HALF: i32 = 1 << 15;

#[target_feature(enable = "avx2")]
fn convert_row(y: &[u8], cb: &[u8], cr: &[u8], out: &mut [u8]) {
    let factors = FACTORS.map(|factor| _mm256_set1_epi32(factor));
    let (half, center) = (_mm256_set1_epi32(HALF), _mm256_set1_epi32(128));
    let order = _mm256_setr_epi8(
        0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1, //
        0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1,
    );
    let (zero, most) = (_mm256_setzero_si256(), _mm256_set1_epi32(255));
    let (ys, y_rest) = y.as_chunks::<8>();
    let cbs = cb.as_chunks::<8>().0;
    let crs = cr.as_chunks::<8>().0;
    // Each step writes 28 bytes, of which 24 are its own, so the last must leave four.
    let steps = if y_rest.len() >= 2 { ys.len() } else { ys.len().saturating_sub(1) };
    let mut done = 0;
    while done < steps {
        let load = |eight: &[u8; 8]| i64::from_le_bytes(*eight);
        let y = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(load(&ys[done])));
        let cb = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(load(&cbs[done])));
        let cr = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(load(&crs[done])));
        let (cb, cr) = (_mm256_sub_epi32(cb, center), _mm256_sub_epi32(cr, center));
        let red = _mm256_add_epi32(_mm256_mullo_epi32(cr, factors[0]), half);
        let red = _mm256_add_epi32(y, _mm256_srai_epi32::<16>(red));
        let green = _mm256_sub_epi32(half, _mm256_mullo_epi32(cr, factors[1]));
        let green = _mm256_sub_epi32(green, _mm256_mullo_epi32(cb, factors[2]));
        let green = _mm256_add_epi32(y, _mm256_srai_epi32::<16>(green));
        let blue = _mm256_add_epi32(_mm256_mullo_epi32(cb, factors[3]), half);
        let blue = _mm256_add_epi32(y, _mm256_srai_epi32::<16>(blue));
        let red = _mm256_min_epi32(_mm256_max_epi32(red, zero), most);
        let green = _mm256_min_epi32(_mm256_max_epi32(green, zero), most);
        let blue = _mm256_min_epi32(_mm256_max_epi32(blue, zero), most);
        let pixels = _mm256_or_si256(red, _mm256_slli_epi32::<8>(green));
        let pixels = _mm256_or_si256(pixels, _mm256_slli_epi32::<16>(blue));
        let bytes = _mm256_shuffle_epi8(pixels, order);
        let target = &mut out[done * 24..][..28];
        // SAFETY: 16 bytes at 0 and at 12 of a slice of 28.
        unsafe {
            _mm_storeu_si128(target.as_mut_ptr().cast(), _mm256_castsi256_si128(bytes));
            let high = _mm256_extracti128_si256::<1>(bytes);
            _mm_storeu_si128(target.as_mut_ptr().add(12).cast(), high);
        }
        done += 1;
    }
    let start = done * 8;
    let planes = y[start..].iter().zip(&cb[start..]).zip(&cr[start..]);
    for (((&y, &cb), &cr), out) in planes.zip(out[start * 3..].as_chunks_mut::<3>().0) {
        *out = convert_pixel(y, cb, cr);
    }
}

fn convert_pixel(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let [to_red, from_cr, from_cb, to_blue] = FACTORS;
    let (y, cb, cr) = (i32::from(y), i32::from(cb) - 128, i32::from(cr) - 128);
    let red = y + ((to_red * cr + HALF) >> 16);
    let green = y + ((HALF - from_cr * cr - from_cb * cb) >> 16);
    let blue = y + ((to_blue * cb + HALF) >> 16);
    [red, green, blue].map(|value| value.clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// jidctint.c, word for word in 64 bits.
    fn reference(coefficients: &[i16; 64], quant: &[u16; 64]) -> [[u8; 8]; 8] {
        let mut work: Vec<i64> =
            coefficients.iter().zip(quant).map(|(&c, &q)| i64::from(c) * i64::from(q)).collect();
        for column in 0..8 {
            let out = one(std::array::from_fn(|i| work[i * 8 + column]), 11);
            (0..8).for_each(|i| work[i * 8 + column] = out[i]);
        }
        let mut samples = [[0; 8]; 8];
        for (row, samples) in samples.iter_mut().enumerate() {
            let out = one(std::array::from_fn(|i| work[row * 8 + i]), 18);
            *samples = out.map(|value| (value + 128).clamp(0, 255) as u8);
        }
        samples
    }

    fn one(i: [i64; 8], shift: u32) -> [i64; 8] {
        let z1 = (i[2] + i[6]) * 4433;
        let (t2, t3) = (z1 - i[6] * 15137, z1 + i[2] * 6270);
        let (t0, t1) = ((i[0] + i[4]) << 13, (i[0] - i[4]) << 13);
        let even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];
        let (z1, z2, z3, z4) = (i[7] + i[1], i[5] + i[3], i[7] + i[3], i[5] + i[1]);
        let z5 = (z3 + z4) * 9633;
        let (z1, z2, z3, z4) = (z1 * -7373, z2 * -20995, z3 * -16069 + z5, z4 * -3196 + z5);
        let odd = [
            i[1] * 12299 + z1 + z4,
            i[3] * 25172 + z2 + z3,
            i[5] * 16819 + z2 + z4,
            i[7] * 2446 + z1 + z3,
        ];
        let round = 1 << (shift - 1);
        std::array::from_fn(|k| match k {
            0..4 => (even[k] + odd[k] + round) >> shift,
            _ => (even[7 - k] - odd[7 - k] + round) >> shift,
        })
    }

    fn numbers(seed: u64) -> impl FnMut() -> u32 {
        let mut state = seed;
        move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as u32
        }
    }

    #[test]
    fn the_transform_equals_jidctint() {
        if !std::is_x86_feature_detected!("avx2") {
            return;
        }
        let mut next = numbers(7);
        for round in 0..20_000 {
            // No larger than an encoder makes them out of 8-bit samples.
            let quant: [u16; 64] = std::array::from_fn(|_| 1 + (next() % 10) as u16);
            let keep = 1 + next() % 64;
            let coefficients: [i16; 64] = std::array::from_fn(|k| match k as u32 {
                0 => (next() % 200) as i16 - 100,
                k if k < keep => (next() % 41) as i16 - 20,
                _ => 0,
            });
            let expected = reference(&coefficients, &quant);
            // SAFETY: AVX2 was checked for.
            assert_eq!(unsafe { block(&coefficients, &quant) }, expected, "round {round}");
        }
    }

    /// jidctint-avx2.asm in plain numbers: 16 bits that wrap on the way in and in the sums of two
    /// inputs, and saturate on the way out.
    fn in_sixteen_bits(coefficients: &[i16; 64], quant: &[u16; 64]) -> [[u8; 8]; 8] {
        let pass = |i: [i16; 8], shift: u32| -> [i16; 8] {
            let (z3, z4) = (i[7].wrapping_add(i[3]), i[5].wrapping_add(i[1]));
            let (t0, t1) = (i[0].wrapping_add(i[4]), i[0].wrapping_sub(i[4]));
            let w = |value: i16| i32::from(value);
            let (t0, t1) = (w(t0) << 13, w(t1) << 13);
            let t3 = w(i[2]) * 10703 + w(i[6]) * 4433;
            let t2 = w(i[2]) * 4433 - w(i[6]) * 10704;
            let even = [t0 + t3, t1 + t2, t1 - t2, t0 - t3];
            let (z3, z4) = (w(z4) * 9633 - w(z3) * 6436, w(z3) * 9633 + w(z4) * 6437);
            let odd = [
                (w(i[1]) * 4926 - w(i[7]) * 7373).wrapping_add(z4),
                (w(i[3]) * 4177 - w(i[5]) * 20995).wrapping_add(z3),
                (-w(i[5]) * 4176 - w(i[3]) * 20995).wrapping_add(z4),
                (-w(i[7]) * 4927 - w(i[1]) * 7373).wrapping_add(z3),
            ];
            std::array::from_fn(|k| {
                let sum = match k {
                    0..4 => even[k].wrapping_add(odd[k]),
                    _ => even[7 - k].wrapping_sub(odd[7 - k]),
                };
                let down = sum.wrapping_add(1 << (shift - 1)) >> shift;
                down.clamp(i16::MIN.into(), i16::MAX.into()) as i16
            })
        };
        let mut work: Vec<i16> =
            coefficients.iter().zip(quant).map(|(&c, &q)| c.wrapping_mul(q as i16)).collect();
        let flat = coefficients[8..].iter().all(|&value| value == 0);
        for column in 0..8 {
            let out = match flat {
                true => [work[column].wrapping_mul(4); 8],
                false => pass(std::array::from_fn(|i| work[i * 8 + column]), 11),
            };
            (0..8).for_each(|i| work[i * 8 + column] = out[i]);
        }
        std::array::from_fn(|row| {
            let out = pass(std::array::from_fn(|i| work[row * 8 + i]), 18);
            out.map(|value| (value.clamp(-128, 127) + 128) as u8)
        })
    }

    #[test]
    fn coefficients_of_any_size_clamp_as_in_libjpeg_turbo() {
        if !std::is_x86_feature_detected!("avx2") {
            return;
        }
        let mut next = numbers(13);
        for round in 0..60_000 {
            let bits = next() % 17;
            let mut value = || ((next() << 1 ^ next()) as u16 as i16) >> (16 - bits).min(15);
            let mut coefficients: [i16; 64] = std::array::from_fn(|_| value());
            let quant: [u16; 64] = std::array::from_fn(|_| value() as u16);
            let keep = 1 + next() as usize % 64;
            coefficients[keep..].fill(0);
            let expected = in_sixteen_bits(&coefficients, &quant);
            // SAFETY: AVX2 was checked for.
            assert_eq!(unsafe { block(&coefficients, &quant) }, expected, "round {round}");
        }
    }

    #[test]
    fn upsampling_equals_jdsample() {
        if !std::is_x86_feature_detected!("avx2") {
            return;
        }
        let mut next = numbers(11);
        for width in [3usize, 4, 5, 31, 63, 64, 65, 66, 127, 128, 129, 500] {
            let near: Vec<u8> = (0..width).map(|_| next() as u8).collect();
            let far: Vec<u8> = (0..width).map(|_| next() as u8).collect();
            let sum = |at: usize| i32::from(near[at]) * 3 + i32::from(far[at]);
            let mut expected = vec![0; width * 2];
            for at in 0..width {
                let (left, right) = (sum(at.saturating_sub(1)), sum((at + 1).min(width - 1)));
                expected[at * 2] = ((sum(at) * 3 + left + 8) >> 4) as u8;
                expected[at * 2 + 1] = ((sum(at) * 3 + right + 7) >> 4) as u8;
            }
            let mut out = vec![0; width * 2];
            // SAFETY: AVX2 was checked for.
            unsafe { upsample_row(&near, &far, &mut out) };
            assert_eq!(out, expected, "width {width}");
        }
    }

    #[test]
    fn the_conversion_equals_jdcolor_on_every_colour() {
        if !std::is_x86_feature_detected!("avx2") {
            return;
        }
        let all: Vec<u8> = (0..=255).collect();
        for width in [1usize, 7, 8, 9, 10, 15, 16, 17, 255, 256] {
            for cb in 0..=255u8 {
                let cbs = vec![cb; width];
                let crs: Vec<u8> = (0..width).map(|x| (x as u8).wrapping_mul(37)).collect();
                let mut out = vec![0; width * 3];
                // SAFETY: AVX2 was checked for.
                unsafe { convert_row(&all[..width], &cbs, &crs, &mut out) };
                for x in 0..width {
                    assert_eq!(out[x * 3..x * 3 + 3], convert_pixel(all[x], cb, crs[x]));
                }
            }
        }
    }
}
