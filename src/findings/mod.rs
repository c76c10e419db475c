//! The `findings` room: what a data set holds, seen through its tokens: images that are there twice,
//! that stand in another set too, that show hardly anything or nothing like the others. Must not
//! know: models (pictures of codes come through [`Draw`](picture::Draw)), who calls.
//!
//! ```text
//! TokenFile ---> rows ---> Images ---> exact, near ---> groups ---> Findings ---> page
//! audit::        images    a column    signature,      keepers,    result        JSON
//!                          a fact      index, align    conflicts
//! ```
//!
//! Shards are read once in order. What is kept of an image is a few numbers in columns, which lie in
//! a file once they are many, and are looked at through a map of it.

mod align;
mod bits;
mod blocks;
mod chance;
mod cluster;
pub(crate) mod code_sheet;
mod codebook;
pub(crate) mod codes;
mod columns;
mod crowd;
pub(crate) mod diff;
mod drift;
mod evenness;
mod exact;
mod features;
mod frequencies;
mod groups;
mod images;
mod index;
mod leaks;
mod look;
mod low;
mod many;
mod near;
mod outliers;
mod padding;
mod page;
mod picture;
mod reconstructions;
mod result;
mod run;
mod saved;
mod seal;
mod signature;
mod sizes;
mod strangers;
#[cfg(test)]
mod testing;
mod threshold;
mod thumbnail;
mod thumbnails;
mod turned;
mod twins;
mod unlisted;

pub use bits::BitUse;
pub use codebook::{Codebook, Places};
pub use codes::{CodePicture, CodePictures};
pub use diff::Difference;
pub use drift::Drift;
pub use many::{Many, many};
pub(crate) use page::{About, Side, Small, Thumbnails, render, render_report, wanted};
pub(crate) use picture::{Draw, Picture};
pub use reconstructions::{
    Below, Margins, NotCompared, PrecisionFindings, Reconstruction, Reconstructions, TokenPair,
};
pub use result::{
    Duplicates, FailuresFound, Findings, Kind, Leak, LowInformation, Member, Outlier, Remark,
    Unreadable,
};
pub(crate) use run::{Event, Observer, Save, Settings, run};
pub(crate) use saved::{is_index, model_of as model_of_index};
pub use sizes::{Listed, OddImage, Sizes};
pub(crate) use threshold::COUNTED as SEARCHED_FROM;
pub(crate) use thumbnails::draw as draw_thumbnails;
