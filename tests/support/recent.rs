//! Owns the walk over the reference cases of the families from 2024 on, and what their arrays mean.
//! Must not know: engines that are tested.

#![allow(dead_code)]

use vqtok::internals::engine::{CodeGrid, Encoded, PixelBatch};

use crate::support::cases::{Case, folders, in_folder};
use crate::support::{NpzArray, shared};

/// Every case of the families from 2024 on, in a folder for each family, that vqtok reads.
pub fn family_cases() -> Vec<Case> {
    let Some(root) = shared("golden_families") else { return vec![] };
    let mut cases: Vec<Case> = folders(&root).iter().flat_map(|family| in_folder(family)).collect();
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!cases.is_empty(), "no case in the golden folder");
    cases
}

/// Whether a case's arrays are of books side by side.
fn of_books(case: &Case) -> bool {
    case.json["family"] == "unitok"
}

/// Latents as `[N, D, h, w]`: those of books are `[N, L, D]`.
pub fn latents(case: &Case, z: &NpzArray) -> Vec<f32> {
    let values = z.f32();
    if !of_books(case) {
        return values;
    }
    let [_, tokens, dim] = z.shape[..] else { panic!("latents are [N, L, D]") };
    let image = |rows: &[f32]| -> Vec<f32> {
        (0..dim).flat_map(|d| (0..tokens).map(move |t| t * dim + d)).map(|at| rows[at]).collect()
    };
    values.chunks(tokens * dim).flat_map(image).collect()
}

/// The levels of codes of `[N, h, w]`, `[N, h, w, depth]`, of several scales `[N, L]` or, of books,
/// `[N, books, L]`.
pub fn levels(case: &Case, tokens: &NpzArray) -> Vec<Vec<i64>> {
    if of_books(case) {
        let [_, books, length] = tokens.shape[..] else { panic!("tokens are [N, books, L]") };
        let all = tokens.i64();
        let book = |book: usize| {
            let rows = all.chunks(length).skip(book).step_by(books);
            rows.flatten().copied().collect()
        };
        return (0..books).map(book).collect();
    }
    let depth = if tokens.shape.len() == 4 { tokens.shape[3] } else { 1 };
    let all = tokens.i64();
    (0..depth).map(|level| all.iter().skip(level).step_by(depth).copied().collect()).collect()
}

/// The same as an engine decodes them.
pub fn encoded(case: &Case, tokens: &NpzArray) -> Encoded {
    let (count, height, width) = match tokens.shape[..] {
        [count, length] => (count, 1, length),
        [count, _, length] if of_books(case) => (count, length.isqrt(), length.isqrt()),
        [count, height, width, ..] => (count, height, width),
        _ => panic!("tokens are [N, h, w]"),
    };
    let level = |codes: Vec<i64>| CodeGrid {
        codes: codes.into_iter().map(|code| u32::try_from(code).expect("a code")).collect(),
        distances: vec![f32::NAN; count * height * width],
        height,
        width,
    };
    let levels = levels(case, tokens).into_iter().map(level).collect();
    Encoded { count, levels, failed: Vec::new() }
}

/// The part of pictures `[N, H, W, C]` that isn't padding, as the case says.
pub fn cropped(case: &Case, pictures: &PixelBatch) -> Vec<u8> {
    let crop = case.json["crop"].as_array();
    let crop: Vec<usize> =
        crop.into_iter().flatten().map(|v| v.as_u64().unwrap() as usize).collect();
    let &[top, left, bottom, right] = &crop[..] else { return pictures.pixels.clone() };
    let PixelBatch { count, height, width, channels, .. } = *pictures;
    let rows = (0..count).flat_map(|i| (top..bottom).map(move |y| i * height + y));
    let row = |row: usize| {
        let start = row * width;
        pictures.pixels[(start + left) * channels..(start + right) * channels].to_vec()
    };
    rows.flat_map(row).collect()
}
