//! Owns AVX2 kernels for libjpeg's three slowest portable loops: the slow integer inverse DCT,
//! fancy upsampling by two both ways, YCbCr to RGB. They stand in where libjpeg was built without
//! assembler (no nasm at hand), and give its pixels bit for bit. Must not know: files, limits.
//!
//! libjpeg calls them through tables of function pointers, as it does its own assembler; [`install`]
//! swaps the entries after checking that the portable functions stand there.

mod color;

#[allow(clippy::wildcard_imports, reason = "instructions, each named for itself")]
use std::arch::x86_64::*;
use std::ffi::{c_int, c_void};
use std::mem::size_of;

use mozjpeg_sys as ffi;

use self::color::convert_row;

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

#[cfg(test)]
mod tests;
