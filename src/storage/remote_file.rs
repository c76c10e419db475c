//! Owns reading a remote file by places: whole blocks, of which the latest are kept, and the next
//! ones asked for while it is read in its order.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::bytes_at::BytesAt;
use super::coming::Coming;
use super::stores::Store;

/// Bytes of a block.
const BLOCK: u64 = 1 << 20;
/// Blocks that are kept.
const KEPT: usize = 12;
/// Blocks that are asked for ahead.
const AHEAD: u64 = 6;

/// A file in a store.
pub(super) struct RemoteFile {
    store: Arc<dyn Store>,
    address: PathBuf,
    size: u64,
    blocks: Mutex<Blocks>,
    /// Told when a block has arrived.
    arrived: Condvar,
}

#[derive(Default)]
struct Blocks {
    by_index: HashMap<u64, Block>,
    /// Counts uses.
    clock: u64,
    /// The block that was used last.
    last: Option<u64>,
}

enum Block {
    /// Asked for.
    Coming(Coming),
    /// Somebody waits for it.
    Awaited,
    /// There, and when it was used last.
    There(Bytes, u64),
}

impl RemoteFile {
    /// Of a size that the store has told; nothing of it is read.
    pub(super) fn new(store: Arc<dyn Store>, address: &Path, size: u64) -> RemoteFile {
        let address = address.to_path_buf();
        let (blocks, arrived) = (Mutex::default(), Condvar::new());
        RemoteFile { store, address, size, blocks, arrived }
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, index: u64) -> Block {
        let start = index * BLOCK;
        let range = start..(start + BLOCK).min(self.size);
        Block::Coming(self.store.begin(&self.address, Some(range), BLOCK))
    }

    fn block(&self, index: u64) -> io::Result<Bytes> {
        let mut blocks = self.lock();
        blocks.clock += 1;
        let in_order = blocks.last.is_some_and(|last| last + 1 == index);
        if blocks.last != Some(index) {
            blocks.last = Some(index);
            let ahead = if in_order { AHEAD } else { 0 };
            let end = self.size.div_ceil(BLOCK).min(index + 1 + ahead);
            for next in index..end {
                blocks.by_index.entry(next).or_insert_with(|| self.ask(next));
            }
            blocks.forget();
        }
        loop {
            let clock = blocks.clock;
            match blocks.by_index.get_mut(&index) {
                Some(Block::There(bytes, used)) => {
                    *used = clock;
                    return Ok(bytes.clone());
                }
                Some(Block::Awaited) => {
                    blocks = self.arrived.wait(blocks).unwrap_or_else(PoisonError::into_inner);
                }
                Some(block @ Block::Coming(_)) => {
                    let Block::Coming(coming) = std::mem::replace(block, Block::Awaited) else {
                        continue;
                    };
                    drop(blocks);
                    let bytes = coming.wait();
                    return self.take(index, bytes);
                }
                None => {
                    let block = self.ask(index);
                    blocks.by_index.insert(index, block);
                }
            }
        }
    }

    /// Puts what has arrived in its place, for those who wait for it as well.
    fn take(&self, index: u64, bytes: io::Result<Bytes>) -> io::Result<Bytes> {
        let mut blocks = self.lock();
        let clock = blocks.clock;
        match &bytes {
            Ok(bytes) => blocks.by_index.insert(index, Block::There(bytes.clone(), clock)),
            // The next one asks again.
            Err(_) => blocks.by_index.remove(&index),
        };
        drop(blocks);
        self.arrived.notify_all();
        bytes
    }
}

impl Blocks {
    /// Gives up the blocks that were used longest ago, over those that are kept.
    fn forget(&mut self) {
        while self.by_index.len() > KEPT {
            let there = self.by_index.iter().filter_map(|(index, block)| match block {
                Block::There(_, used) => Some((*used, *index)),
                _ => None,
            });
            let Some((_, oldest)) = there.min() else { return };
            self.by_index.remove(&oldest);
        }
    }
}

impl BytesAt for RemoteFile {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if offset >= self.size || buffer.is_empty() {
            return Ok(0);
        }
        let block = self.block(offset / BLOCK)?;
        let rest = block.get((offset % BLOCK) as usize..).unwrap_or_default();
        if rest.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the object has become shorter while it was read",
            ));
        }
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::facts::{Facts, Listing};
    use std::ops::Range;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::sync_channel;

    /// A store of one object, every third request of which fails.
    #[derive(Default)]
    struct Faulty {
        content: Vec<u8>,
        requests: AtomicUsize,
        fail: bool,
    }

    impl Store for Faulty {
        fn facts(&self, _: &Path) -> io::Result<Facts> {
            let bytes = self.content.len() as u64;
            Ok(Facts { bytes, is_folder: false, is_file: true, written: None })
        }

        fn begin(&self, _: &Path, range: Option<Range<u64>>, _: u64) -> Coming {
            let number = self.requests.fetch_add(1, Ordering::Relaxed);
            let range = range.unwrap();
            let part = self.content[range.start as usize..range.end as usize].to_vec();
            let (sender, receiver) = sync_channel(1);
            let failed = self.fail && number % 3 == 2;
            sender
                .send(if failed { Err(io::Error::other("503")) } else { Ok(part.into()) })
                .unwrap();
            Coming::new(receiver, Box::new(()))
        }

        fn open(self: Arc<Self>, _: &Path) -> io::Result<Arc<dyn BytesAt>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn list(&self, _: &Path) -> io::Result<Listing> {
            Ok(Listing::default())
        }

        fn put(&self, _: &Path, _: Bytes, _: bool) -> io::Result<()> {
            Ok(())
        }

        fn remove(&self, _: &Path) -> io::Result<()> {
            Ok(())
        }
    }

    fn content(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    #[test]
    fn every_byte_is_the_files_and_comes_once() {
        let content = content(20 * BLOCK as usize + 77);
        let store = Arc::new(Faulty { content: content.clone(), ..Faulty::default() });
        let file = RemoteFile::new(store.clone(), Path::new("s3://b/k"), content.len() as u64);
        let mut read = vec![0; content.len() + 5];
        assert_eq!(file.fill_at(0, &mut read).unwrap(), content.len());
        assert!(read[..content.len()] == content);
        assert_eq!(store.requests.load(Ordering::Relaxed), 21, "each block once");
        assert!(file.lock().by_index.len() <= KEPT);
        let mut some = [0; 9];
        for offset in [3 * BLOCK - 4, 0, 20 * BLOCK + 70, 7 * BLOCK] {
            let filled = file.fill_at(offset, &mut some).unwrap();
            let end = content.len().min(offset as usize + 9);
            assert_eq!(some[..filled], content[offset as usize..end]);
        }
        assert_eq!(file.read_at(content.len() as u64, &mut some).unwrap(), 0);
    }

    #[test]
    fn threads_share_blocks_and_a_failure_is_one_readers() {
        let content = content(30 * BLOCK as usize);
        let store = Arc::new(Faulty { content: content.clone(), fail: true, ..Faulty::default() });
        let file = RemoteFile::new(store, Path::new("s3://b/k"), content.len() as u64);
        let read = |thread: usize| {
            for step in 0..60 {
                let offset = ((step + thread * 7) % 59) * (BLOCK as usize / 2);
                let mut buffer = vec![0; 1000];
                while let Err(error) = file.fill_at(offset as u64, &mut buffer) {
                    assert_eq!(error.to_string(), "503");
                }
                assert!(buffer[..] == content[offset..offset + 1000]);
            }
        };
        std::thread::scope(|scope| {
            (0..4).for_each(|thread| drop(scope.spawn(move || read(thread))));
        });
    }
}
