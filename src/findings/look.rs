//! Owns what one image looks like in numbers: its signature, by which it is compared, and features, by
//! which it is judged. Must not know: other images.

use super::features::Features;
use super::picture::Picture;
use crate::audit::Grid;
use crate::audit::patterns::CommonCodes;

/// An image in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Default, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Look {
    /// By which it is judged.
    pub features: Features,
}

/// What looks are made with.
#[derive(Debug)]
pub(super) struct Looks {
    /// By level, K; empty where nothing says it.
    pub codes: Vec<u64>,
    /// How common the codes of the first level are in the set.
    pub common: Option<CommonCodes>,
    /// Whether small pictures are kept by label.
    pub turned: bool,
}

impl Looks {
    /// Why a row's grids can't be looked at, in a few words.
    pub(super) fn problem(&self, levels: &[Grid]) -> Option<String> {
        levels.iter().zip(&self.codes).find_map(|(level, &codes)| {
            let beyond = level.codes.iter().find(|&&code| u64::from(code) >= codes)?;
            Some(format!("holds {beyond}, which is beyond the {codes} codes"))
        })
    }

    /// The look of an image by its first level.
    pub(super) fn of(&self, grid: Option<&Grid>, picture: Option<&Picture>) -> Look {
        let features = match grid {
            Some(grid) => Features::of(grid, picture, self.common.as_ref()),
            None => Features::default(),
        };
        Look { features }
    }
}
