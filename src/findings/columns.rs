//! Owns columns of one fixed-size fact an image: in memory while they are short, in a file that
//! nobody else sees once they are long. Must not know: what the facts mean.

use std::fs::File;
use std::io::Write;
use std::marker::PhantomData;
use std::ops::{Deref, DerefMut};
use std::path::Path;

use bytemuck::Pod;
use memmap2::{Mmap, MmapMut};
use rayon::slice::ParallelSliceMut;

use crate::error::{Error, Result};
use crate::util::nameless_file;

/// Bytes of a column that stay in memory.
const IN_MEMORY: usize = 1 << 26;
/// Bytes that are written at once.
const BLOCK: usize = 1 << 20;

/// A column that grows.
#[derive(Debug)]
pub(super) struct Growing<T> {
    values: Vec<T>,
    file: Option<File>,
    len: usize,
    /// Bytes that stay in memory before there is a file.
    in_memory: usize,
}

/// A column that is complete.
#[derive(Debug)]
pub(super) enum Column<T> {
    Memory(Vec<T>),
    Mapped(Mmap, PhantomData<T>),
}

impl<T: Pod> Growing<T> {
    pub(super) fn new() -> Growing<T> {
        Growing { values: Vec::new(), file: None, len: 0, in_memory: IN_MEMORY }
    }

    /// Values so far.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// # Errors
    /// A file system that is full.
    pub(super) fn push(&mut self, value: T) -> Result<()> {
        self.values.push(value);
        self.len += 1;
        let bytes = self.values.len() * size_of::<T>();
        let spill = if self.file.is_some() { bytes >= BLOCK } else { bytes > self.in_memory };
        if spill { self.spill() } else { Ok(()) }
    }

    /// # Errors
    /// As for `push`.
    pub(super) fn extend(&mut self, values: &[T]) -> Result<()> {
        values.iter().try_for_each(|value| self.push(*value))
    }

    fn spill(&mut self) -> Result<()> {
        let folder = std::env::temp_dir();
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = nameless_file::create(&folder).map_err(Error::io(&folder))?;
                self.file.insert(file)
            }
        };
        file.write_all(bytemuck::cast_slice(&self.values)).map_err(Error::io(&folder))?;
        self.values.clear();
        Ok(())
    }

    /// # Errors
    /// As for `push`.
    pub(super) fn finish(mut self) -> Result<Column<T>> {
        if self.file.is_none() {
            return Ok(Column::Memory(self.values));
        }
        self.spill()?;
        match self.file {
            Some(file) => Column::map(&file, &std::env::temp_dir()),
            None => Ok(Column::Memory(self.values)),
        }
    }
}

impl<T: Pod> Column<T> {
    fn map(file: &File, folder: &Path) -> Result<Column<T>> {
        // SAFETY: the file has no name, so nothing else can write or shorten it while it is mapped.
        let map = unsafe { Mmap::map(file) }.map_err(Error::io(folder))?;
        Ok(Column::Mapped(map, PhantomData))
    }
}

impl<T: Pod> Deref for Column<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Column::Memory(values) => values,
            // A map begins at a page, and whole values were written.
            Column::Mapped(map, _) => bytemuck::cast_slice(map),
        }
    }
}

impl<T: Pod + Send> Column<T> {
    /// The same values in order.
    ///
    /// # Errors
    /// A map that can't be made.
    pub(super) fn sorted<K: Ord>(self, key: impl Fn(&T) -> K + Sync) -> Result<Column<T>> {
        let folder = std::env::temp_dir();
        match self {
            Column::Memory(mut values) => {
                values.par_sort_unstable_by_key(key);
                Ok(Column::Memory(values))
            }
            Column::Mapped(map, _) => {
                let mut map = map.make_mut().map_err(Error::io(&folder))?;
                bytemuck::cast_slice_mut::<u8, T>(&mut map).par_sort_unstable_by_key(key);
                Ok(Column::Mapped(map.make_read_only().map_err(Error::io(&folder))?, PhantomData))
            }
        }
    }
}

/// Values that can be changed in any order.
#[derive(Debug)]
pub(super) enum Scratch<T> {
    Memory(Vec<T>),
    Mapped(MmapMut, PhantomData<T>),
}

impl<T: Pod> Scratch<T> {
    /// So many, all zero.
    ///
    /// # Errors
    /// A file system that is full.
    pub(super) fn zeroed(len: usize) -> Result<Scratch<T>> {
        let bytes = len * size_of::<T>();
        if bytes <= IN_MEMORY {
            return Ok(Scratch::Memory(vec![T::zeroed(); len]));
        }
        let folder = std::env::temp_dir();
        let file = nameless_file::create(&folder).map_err(Error::io(&folder))?;
        file.set_len(bytes as u64).map_err(Error::io(&folder))?;
        // SAFETY: the file has no name, so nothing else can write or shorten it while it is mapped.
        let map = unsafe { MmapMut::map_mut(&file) }.map_err(Error::io(&folder))?;
        Ok(Scratch::Mapped(map, PhantomData))
    }
}

impl<T: Pod> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Scratch::Memory(values) => values,
            // A map begins at a page, and is as long as whole values.
            Scratch::Mapped(map, _) => bytemuck::cast_slice(map),
        }
    }
}

impl<T: Pod> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        match self {
            Scratch::Memory(values) => values,
            Scratch::Mapped(map, _) => bytemuck::cast_slice_mut(map),
        }
    }
}

/// Texts, one an image.
#[derive(Debug)]
pub(super) struct GrowingTexts {
    bytes: Growing<u8>,
    ends: Growing<u64>,
}

/// Texts that are complete.
#[derive(Debug)]
pub(super) struct Texts {
    bytes: Column<u8>,
    ends: Column<u64>,
}

impl GrowingTexts {
    pub(super) fn new() -> GrowingTexts {
        GrowingTexts { bytes: Growing::new(), ends: Growing::new() }
    }

    /// # Errors
    /// A file system that is full.
    pub(super) fn push(&mut self, text: &str) -> Result<()> {
        self.bytes.extend(text.as_bytes())?;
        self.ends.push(self.bytes.len() as u64)
    }

    /// # Errors
    /// As for `push`.
    pub(super) fn finish(self) -> Result<Texts> {
        Ok(Texts { bytes: self.bytes.finish()?, ends: self.ends.finish()? })
    }
}

impl Texts {
    /// Text `index`, below the number of texts.
    pub(super) fn get(&self, index: usize) -> &str {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] as usize);
        // What was written was text.
        std::str::from_utf8(&self.bytes[start..self.ends[index] as usize]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_column_lies_in_a_file_and_reads_the_same() {
        for in_memory in [0, 1000, usize::MAX] {
            let mut column = Growing { in_memory, ..Growing::<[u32; 3]>::new() };
            (0..200_000).for_each(|i| column.push([i, i * 2, 7]).unwrap());
            let column = column.finish().unwrap();
            assert_eq!(matches!(column, Column::Memory(_)), in_memory == usize::MAX);
            assert_eq!(
                (column.len(), column[199_999], column[3]),
                (200_000, [199_999, 399_998, 7], [3, 6, 7])
            );
        }
        let mut texts = GrowingTexts::new();
        ["", "ä", "b/c.png"].iter().for_each(|text| texts.push(text).unwrap());
        let texts = texts.finish().unwrap();
        assert_eq!([texts.get(0), texts.get(1), texts.get(2)], ["", "ä", "b/c.png"]);
    }
}
