//! Owns exporting tokens to what trainers read, as a job. Must not know: formats.

use std::path::PathBuf;

use super::events::{Observer, Relay};
use super::places;
use crate::error::Result;
use crate::export::{
    self, ExportSummary, Fields, Header, LevelChoice, RowOrder, Settings, Splits, Target,
};
use crate::storage;
use crate::util::settings::OUT;

/// Tokens on their way into the files that trainers read. The same job again goes on behind the last
/// file that is whole.
///
/// ```no_run
/// use vqtok::{Export, ExportFormat};
///
/// let done = Export::new("tokens/", ExportFormat::WebDataset, "tars/").run(&mut ())?;
/// println!("{} rows in {} files", done.rows, done.files);
/// # Ok::<(), vqtok::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Export {
    settings: Settings,
}

impl Export {
    /// An output folder of vqtok, or any Parquet file with a column of tokens, into the folder `out`.
    pub fn new(input: impl Into<PathBuf>, to: Target, out: impl Into<PathBuf>) -> Export {
        Export { settings: Settings::new(input.into(), out.into(), to) }
    }

    /// The order of the rows. By default that of the shards.
    pub fn order(mut self, order: RowOrder) -> Export {
        self.settings.order = order;
        self
    }

    /// Splits with their shares, a folder each. By default there are none.
    pub fn split(mut self, splits: impl Into<Option<Splits>>) -> Export {
        self.settings.split = splits.into();
        self
    }

    /// What is added to every code, in formats of sequences. By default nothing.
    pub fn vocab_offset(mut self, offset: u32) -> Export {
        self.settings.vocab_offset = offset;
        self
    }

    /// The id that every sequence begins with. By default none.
    pub fn bos(mut self, id: impl Into<Option<u32>>) -> Export {
        self.settings.bos = id.into();
        self
    }

    /// The id that every sequence ends with. By default none.
    pub fn eos(mut self, id: impl Into<Option<u32>>) -> Export {
        self.settings.eos = id.into();
        self
    }

    /// The id of class 0: that of a row's class stands before its codes. By default none does.
    pub fn class_tokens(mut self, first: impl Into<Option<u32>>) -> Export {
        self.settings.class_tokens = first.into();
        self
    }

    /// A file of class names and their ids. By default an id is the rows' `label_id`, or where they have
    /// none a name's place among the sorted ones.
    pub fn label_map(mut self, file: impl Into<Option<PathBuf>>) -> Export {
        self.settings.label_map = file.into();
        self
    }

    /// Which levels are taken. It must be said where there are several.
    pub fn levels(mut self, levels: impl Into<Option<LevelChoice>>) -> Export {
        self.settings.levels = levels.into();
        self
    }

    /// The size of the codebook, for files that don't say it.
    pub fn codes(mut self, codes: impl Into<Option<u64>>) -> Export {
        self.settings.codes = codes.into();
        self
    }

    /// Rows of a file, in formats of many. By default as many as suit the format.
    pub fn shard_rows(mut self, rows: impl Into<Option<u64>>) -> Export {
        self.settings.shard_rows = rows.into();
        self
    }

    /// What an object of JSON lines holds, and what that is called, by default `class_id,tokens`; what
    /// the tokens of open-muse are called, by default `tokens`.
    pub fn fields(mut self, fields: impl Into<Option<Fields>>) -> Export {
        self.settings.fields = fields.into();
        self
    }

    /// What stands before bare ids, in the format of these. By default nothing does.
    pub fn header(mut self, header: impl Into<Option<Header>>) -> Export {
        self.settings.header = header.into();
        self
    }

    /// Columns of tokens, as [`Decode::columns`](super::Decode::columns).
    pub fn columns<C: Into<String>>(mut self, names: impl IntoIterator<Item = C>) -> Export {
        self.settings.columns = names.into_iter().map(Into::into).collect();
        self
    }

    /// Height and width, in tokens, of rows that don't say theirs. By default they are squares.
    pub fn grid(mut self, grid: impl Into<Option<(usize, usize)>>) -> Export {
        self.settings.grid = grid.into();
        self
    }

    /// Whether what is written is read back and compared. By default it is.
    pub fn check(mut self, check: bool) -> Export {
        self.settings.check = check;
        self
    }

    /// Whether rows that can't be used are left out, and an unfinished output is taken as it is. By
    /// default both are refused.
    pub fn partial(mut self, partial: bool) -> Export {
        self.settings.partial = partial;
        self
    }

    /// Runs the job.
    ///
    /// # Errors
    /// Settings that the format has no place for; a source that isn't whole; a folder with anything
    /// else in it; [`Error::Interrupted`](crate::Error::Interrupted) where the observer says so.
    pub fn run(&self, observer: &mut dyn Observer) -> Result<ExportSummary> {
        places::check_outside(OUT, &self.settings.out)?;
        storage::opening(|| export::run(&self.settings, &mut Relay(observer)))
    }
}
