//! Owns what MDS and LitData have in common: files of samples with their places in front, so that a
//! file's rows wait in memory for its end. Must not know: what a sample is.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::export::format::{Encoded, Part};
use crate::export::part::{Growing, Made};
use crate::export::row::Row;
use crate::util::numbers::bytes;
use crate::util::settings::SHARD_ROWS;

/// Bytes of a file at most: they wait in memory, and places are 32 bits wide.
const BYTES_MAX: usize = 1 << 30;

/// A file: `n`, `n + 1` places as u32 each, `config`, samples.
pub(super) struct Headed {
    folder: PathBuf,
    name: String,
    config: Vec<u8>,
    ends: Vec<u32>,
    samples: Vec<u8>,
}

impl Headed {
    pub(super) fn new(folder: &Path, name: String, config: Vec<u8>) -> Headed {
        let (ends, samples) = (Vec::new(), Vec::new());
        Headed { folder: folder.to_path_buf(), name, config, ends, samples }
    }
}

impl Part for Headed {
    fn push(&mut self, _row: &Row, row: &Encoded) -> Result<()> {
        self.samples.extend(&row.bytes);
        self.ends.push(self.samples.len() as u32);
        match self.samples.len() > BYTES_MAX {
            true => Err(Error::setting(
                SHARD_ROWS,
                format!(
                    "leads to files beyond {}, and one is written from memory: use less",
                    bytes(BYTES_MAX as u64)
                ),
            )),
            false => Ok(()),
        }
    }

    fn seal(self: Box<Self>) -> Result<Vec<Made>> {
        let mut file = Growing::create(&self.folder, &self.name)?;
        let head = 4 * (self.ends.len() + 2) + self.config.len();
        file.write(&(self.ends.len() as u32).to_le_bytes())?;
        for end in [0].iter().chain(&self.ends) {
            file.write(&(end + head as u32).to_le_bytes())?;
        }
        file.write(&self.config)?;
        file.write(&self.samples)?;
        Ok(vec![file.seal()?])
    }
}
