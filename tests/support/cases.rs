//! Owns the walk over the reference cases of a folder, and their arrays. Must not know: engines.

#![allow(dead_code, unused_imports)]

use std::collections::BTreeMap;

use vqtok::internals::engine::{CodeGrid, Encoded};

use crate::support::{NpzArray, npz, shared};

#[path = "case.rs"]
mod case;

pub use case::{Case, family_word, folders, in_folder, largest_difference, pixel_batch};

/// The arrays of a file, by name.
pub type Arrays = BTreeMap<String, NpzArray>;

/// Every case of a folder, by name; empty where the data isn't there.
pub fn cases(root: &str) -> Vec<Case> {
    let Some(root) = shared(root) else { return vec![] };
    let mut cases = in_folder(&root);
    cases.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(!cases.is_empty(), "no case in the golden folder");
    cases
}

impl Case {
    /// What a decoder's case holds: the name of each file of arrays, the arrays, and the codes that
    /// `decoded` was made of. `factor` is the model's.
    pub fn decoded(&self, factor: [usize; 2]) -> Vec<(&'static str, Arrays, Encoded)> {
        let files = ["golden.npz", "golden_nonsquare.npz"];
        let there = files.into_iter().filter(|name| self.folder.join(name).exists());
        let read = |name| {
            let golden = npz(self.folder.join(name));
            let decoded = &golden["decoded"];
            let levels = code_levels(&golden, decoded, factor);
            let codes = Encoded { count: decoded.shape[0], levels, failed: Vec::new() };
            (name, golden, codes)
        };
        there.map(read).collect()
    }
}

/// Tokens `[N, h, w]`, or `[N, T]` of an image of `decoded`'s size.
fn code_grid(tokens: &NpzArray, decoded: &NpzArray, factor: [usize; 2]) -> CodeGrid {
    let codes: Vec<u32> =
        tokens.i64().into_iter().map(|t| u32::try_from(t).expect("a code")).collect();
    let (height, width) = match tokens.shape[..] {
        [_, height, width] => (height, width),
        _ => (decoded.shape[2] / factor[0], decoded.shape[3] / factor[1]),
    };
    CodeGrid { distances: vec![f32::NAN; codes.len()], codes, height, width }
}

/// The levels of codes that a decoder's case holds, the finest first.
fn code_levels(golden: &Arrays, decoded: &NpzArray, factor: [usize; 2]) -> Vec<CodeGrid> {
    if golden.contains_key("tokens_bottom") {
        let grid = |name: &str| code_grid(&golden[name], decoded, [1, 1]);
        return vec![grid("tokens_bottom"), grid("tokens_top")];
    }
    vec![code_grid(&golden["tokens"], decoded, factor)]
}
