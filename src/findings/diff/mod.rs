//! Comparing two outputs by the keys of their rows: which tokens differ and where, which images came,
//! went or changed, which settings differ.
//!
//! Both are read once, side by side. While both have their keys in one order, which two outputs of one
//! input do, rows meet as they come; a row that the other has passed by waits in columns that lie in a
//! file once they are many, and meets the other's at the end.

mod meeting;
mod result;
mod run;
mod settings;
mod side;
mod tally;
mod waiting;

pub use result::{
    ByShare, Difference, Images, LevelDifference, MendedImage, Place, SettingDifference, Sharing,
    Worst,
};
pub(crate) use run::run;
