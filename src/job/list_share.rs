//! Owns listing a share of the files of an input that hold many images, for who writes the plan.

use super::listings::Listings;
use super::share::Share;
use super::tokenize::Tokenize;
use super::tokenizer::Tokenizer;
use crate::data::source::file_kind::FileKind;
use crate::error::{Error, Result};
use crate::storage;
use crate::tokens::PLAN_FILE;

/// What was listed of an input's files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ListedShare {
    /// Tars, Parquet files, zips and lists of the input.
    pub files: u64,
    /// Those of our share.
    pub ours: u64,
    /// How many of these are listed now; the others are damaged or hold no image.
    pub listed: u64,
}

impl Tokenize {
    /// Lists the tars, Parquet files, zips and lists of a share of the inputs, every `of`-th in their order,
    /// into the output folder. [`Tokenize::run`] and [`Tokenize::write_plan`] take what is there, and give
    /// the same plan as without.
    ///
    /// # Errors
    /// Those of [`Tokenize::check`]; inputs that can't be listed.
    pub fn list_share(&self, tokenizer: &mut Tokenizer, share: Share) -> Result<ListedShare> {
        self.check(&tokenizer.path)?;
        storage::opening(|| {
            let mut found = ListedShare::default();
            let plan = self.out.join(PLAN_FILE);
            if storage::exists(&plan).map_err(Error::io(&plan))? {
                return Ok(found);
            }
            let (_, settings, identity) = self.prepared(tokenizer)?;
            let listings = Listings::new(&self.out, self.inputs.taken(), &settings.preparation);
            let fields = self.inputs.all_fields();
            for file in self.inputs.walk()? {
                let file = file?;
                if file.kind == FileKind::Image {
                    continue;
                }
                if share.has(found.files as usize) {
                    found.ours += 1;
                    found.listed += u64::from(listings.list(&file, &fields, &identity)?);
                }
                found.files += 1;
            }
            Ok(found)
        })
    }
}
