//! Owns the walk over the reference cases of the families from 2024 on, and what their arrays mean.
//! Must not know: engines that are tested.

#![allow(dead_code)]

use vqtok::internals::engine::{CodeGrid, Encoded, PixelBatch};

use crate::cases::{Case, folders, in_folder};
use crate::support::{NpzArray, shared};

/// Every case of the families from 2024 on, in a folder for each family, that vqtok reads.
pub fn family_cases() -> Vec<Case> {
    let Some(root) = shared("golden_families") else { return vec![] };
    let mut cases: Vec<Case> = folders(&root).iter().flat_map(|family| in_folder(family)).collect();
    cases.retain(|case| !UNREAD.contains(&case.json["family"].as_str().expect("a family")));
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!cases.is_empty(), "no case in the golden folder");
    cases
}

/// Families that vqtok doesn't read yet.
const UNREAD: [&str; 1] = ["unitok"];

/// The levels of codes of `[N, h, w]`, `[N, h, w, depth]` or, of several scales, `[N, L]`.
pub fn levels(tokens: &NpzArray) -> Vec<Vec<i64>> {
    let depth = if tokens.shape.len() == 4 { tokens.shape[3] } else { 1 };
    let all = tokens.i64();
    (0..depth).map(|level| all.iter().skip(level).step_by(depth).copied().collect()).collect()
}

/// The same as an engine decodes them.
pub fn encoded(tokens: &NpzArray) -> Encoded {
    let (count, height, width) = match tokens.shape[..] {
        [count, length] => (count, 1, length),
        [count, height, width, ..] => (count, height, width),
        _ => panic!("tokens are [N, h, w]"),
    };
    let level = |codes: Vec<i64>| CodeGrid {
        codes: codes.into_iter().map(|code| u32::try_from(code).expect("a code")).collect(),
        distances: vec![f32::NAN; count * height * width],
        height,
        width,
    };
    let levels = levels(tokens).into_iter().map(level).collect();
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
