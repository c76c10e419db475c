//! Reads what was written back, by code of its own, and compares it with what was read. Must not know:
//! how the formats are written; it imports nothing of `formats/`.

mod arrays;
mod bytes;
mod flat;
mod headed;
mod hf;
mod jsonl;
mod megatron;
mod npy;
mod scattered;
mod tars;
mod tfrecord;
mod torch;
mod webdataset;

use std::path::PathBuf;

use self::bytes::Source;
use super::fields::{Field, Fields};
use super::format::Facts;
use super::ids::Ids;
use super::row::{Given, RowDigest};
use super::settings::Header;
use super::target::Target;

/// What reads a format back.
pub(super) struct Reader {
    target: Target,
    ids: Ids,
    fields: Fields,
    header: Option<Header>,
}

impl Reader {
    pub(super) fn of(target: Target, facts: &Facts) -> Reader {
        let (ids, fields) = (facts.ids.clone(), facts.fields.clone());
        Reader { target, ids, fields, header: facts.header }
    }

    /// Compares a part's files with the digest of its rows; the first one has so many codes.
    ///
    /// # Errors
    /// The first difference, in a few words.
    pub(super) fn compare(
        &self,
        files: &[Vec<PathBuf>],
        codes: usize,
        expected: RowDigest,
    ) -> Result<(), String> {
        let mut found = RowDigest::default();
        let mut each = |given: Given| found.add(given.class, given.sides, &given.codes);
        match self.target {
            Target::LlamaGen => scattered::llamagen(files, &mut each)?,
            Target::Emu3 => scattered::emu3(files, &mut each)?,
            _ => self.whole_files(files, codes, &mut each)?,
        }
        let ((found, found_rows), (expected, rows)) = (found.finish(), expected.finish());
        if found_rows != rows {
            return Err(format!("it holds {found_rows} rows, of {rows} that were written"));
        }
        match found == expected {
            true => Ok(()),
            false => Err("its codes, labels or grids differ from the source's".into()),
        }
    }

    /// Reads a part of whole files.
    fn whole_files(
        &self,
        files: &[Vec<PathBuf>],
        codes: usize,
        each: &mut dyn FnMut(Given),
    ) -> Result<(), String> {
        let mut files: Vec<Source> =
            files.iter().flatten().map(|path| Source::open(path)).collect::<Result<_, _>>()?;
        match (self.target, &mut files[..]) {
            (Target::WebDataset, [tar]) => webdataset::read(tar, &mut *each)?,
            (Target::Megatron, [ids, index]) => {
                megatron::read(ids, index, &mut |ids| self.undo(ids).map(&mut *each))?;
            }
            (Target::Datatrove, [ids, ends, metadata]) => {
                let files = [ids, ends, metadata];
                flat::documents(files, &mut |ids| self.undo(ids).map(&mut *each))?;
            }
            (Target::Bin, [file]) => self.bare(file, codes, each)?,
            (Target::LitData, [chunk]) => {
                headed::items(chunk, &mut |ids| self.undo(ids).map(&mut *each))?;
            }
            (Target::Hf, [stream]) => hf::read(stream, &mut |ids, class, sides| {
                each(Given { class, sides, ..self.undo(ids)? });
                Ok(())
            })?,
            (Target::TfRecord, [file]) => tfrecord::read(file, &mut |ids, class, sides| {
                each(Given { class, sides, ..self.undo(ids)? });
                Ok(())
            })?,
            (Target::Npy, [tokens, rest @ ..]) => arrays::read(tokens, rest, each)?,
            (Target::FourM, tars) => tars::four_m(tars, each)?,
            (Target::OpenMuse, [tar]) => tars::open_muse(tar, each)?,
            (Target::Mds, [shard]) => headed::mds(shard, &mut *each)?,
            (Target::Jsonl, [lines]) => {
                let class = self.fields.name_of(Field::ClassId);
                let tokens = self.fields.name_of(Field::Tokens).unwrap_or("tokens");
                jsonl::read(lines, class, tokens, &mut |class, ids| {
                    let given = self.undo(ids)?;
                    each(Given { class: class.or(given.class), ..given });
                    Ok(())
                })?;
            }
            _ => return Err("it has other files than were written".into()),
        }
        Ok(())
    }

    /// Reads bare ids, behind a header where there is one.
    fn bare(
        &self,
        file: &mut Source,
        codes: usize,
        each: &mut dyn FnMut(Given),
    ) -> Result<(), String> {
        if let Some(Header::Llmc) = self.header {
            flat::llmc(file)?;
        }
        let Ids { bos, eos, class_first, largest, .. } = self.ids;
        let width = if largest > 0xffff { 4 } else { 2 };
        let specials = [bos, eos, class_first].into_iter().flatten().count();
        let undo = &mut |ids| self.undo(ids).map(&mut *each);
        let both = eos.is_some() && bos == eos;
        flat::rows(file, width, eos, both, codes + specials, undo)
    }

    /// Takes from a sequence what was added to its codes.
    fn undo(&self, mut ids: Vec<u32>) -> Result<Given, String> {
        let Ids { offset, bos, eos, class_first, codes, .. } = self.ids;
        if eos.is_some() && ids.pop() != eos {
            return Err("a sequence doesn't end with its last id".into());
        }
        let mut rest = ids.as_slice();
        let mut first = |what: &str| {
            let (first, behind) =
                rest.split_first().ok_or(format!("a sequence lacks its {what}"))?;
            rest = behind;
            Ok::<u32, String>(*first)
        };
        if bos.is_some() && bos != Some(first("first id")?) {
            return Err("a sequence doesn't begin with its first id".into());
        }
        let class = match class_first {
            None => None,
            Some(zero) => Some(i64::from(first("class")?) - i64::from(zero)),
        };
        let code = |id: &u32| {
            let code = id.checked_sub(offset).filter(|code| u64::from(*code) < codes);
            code.ok_or_else(|| format!("{id} is no code's id"))
        };
        let codes = rest.iter().map(code).collect::<Result<_, _>>()?;
        Ok(Given { class, sides: None, codes })
    }
}
