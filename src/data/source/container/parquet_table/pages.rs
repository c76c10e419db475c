//! Owns what a page may claim of itself before its values are decoded, so that no number in it
//! makes the decoder allocate what the page can't hold. Must not know: what any column means.

use parquet::basic::Encoding;
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::schema::types::ColumnDescriptor;

use super::delta;

/// Levels of a nested column that are taken whatever its pages weigh: a run of equal ones, however
/// long, is a few bytes.
const LEVELS_FREE: u64 = 1 << 24;
/// Levels to a byte of the pages beyond that.
const LEVELS_A_BYTE: u64 = 64;

/// A column chunk's pages.
pub(super) struct Guarded<P> {
    pages: P,
    max_rep: i16,
    max_def: i16,
    levels: u64,
    bytes: u64,
}

impl<P: PageReader> Guarded<P> {
    pub(super) fn new(pages: P, column: &ColumnDescriptor) -> Guarded<P> {
        let (max_rep, max_def) = (column.max_rep_level(), column.max_def_level());
        Guarded { pages, max_rep, max_def, levels: 0, bytes: 0 }
    }

    fn checked(&mut self, page: Page) -> Result<Page> {
        let bytes = page.buffer().len() as u64;
        if let Page::DictionaryPage { num_values, .. } = &page {
            return match u64::from(*num_values) > bytes {
                true => Err(refused("its dictionary claims more values than it has bytes")),
                false => Ok(page),
            };
        }
        if self.max_rep > 0 {
            self.levels = self.levels.saturating_add(u64::from(page.num_values()));
            self.bytes = self.bytes.saturating_add(bytes);
            if self.levels > LEVELS_FREE + self.bytes.saturating_mul(LEVELS_A_BYTE) {
                return Err(refused("its lists claim more values than its bytes can hold"));
            }
        }
        let (from, values) = self.values_from(&page)?;
        let values = page.buffer().get(from..).map(|bytes| (bytes, values));
        let (bytes, values) = values.ok_or_else(|| refused("a page ends within its levels"))?;
        let sound = match page.encoding() {
            // A page of nulls alone.
            _ if bytes.is_empty() => Some(()),
            Encoding::DELTA_BINARY_PACKED | Encoding::DELTA_LENGTH_BYTE_ARRAY => {
                delta::passes(bytes, values).map(|_| ())
            }
            Encoding::DELTA_BYTE_ARRAY => delta::passes(bytes, values)
                .and_then(|rest| delta::passes(rest, values))
                .map(|_| ()),
            _ => Some(()),
        };
        sound.ok_or_else(|| refused("a page claims more values than it holds")).map(|()| page)
    }

    /// Where a page's values begin behind its levels, and how many there are at most.
    fn values_from(&self, page: &Page) -> Result<(usize, u64)> {
        if let Page::DataPageV2 { def_levels_byte_len, rep_levels_byte_len, num_values, .. } = page
        {
            let from = u64::from(*def_levels_byte_len) + u64::from(*rep_levels_byte_len);
            return Ok((from as usize, u64::from(*num_values)));
        }
        let bytes = page.buffer();
        let mut from = 0_usize;
        for max in [self.max_rep, self.max_def] {
            if max > 0 {
                let length = bytes.get(from..).and_then(|rest| rest.first_chunk::<4>());
                let length = length.ok_or_else(|| refused("a page ends within its levels"))?;
                from = from.saturating_add(4).saturating_add(u32::from_le_bytes(*length) as usize);
            }
        }
        Ok((from, u64::from(page.num_values())))
    }
}

fn refused(why: &str) -> ParquetError {
    ParquetError::General(why.into())
}

impl<P: PageReader> Iterator for Guarded<P> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Result<Page>> {
        self.get_next_page().transpose()
    }
}

impl<P: PageReader> PageReader for Guarded<P> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.pages.get_next_page()?.map(|page| self.checked(page)).transpose()
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.pages.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>> {
        self.pages.take_deferred_dictionary()?.map(|page| self.checked(page)).transpose()
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.pages.at_record_boundary()
    }
}
