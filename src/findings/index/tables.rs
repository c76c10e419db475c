//! Owns tables of images by some of their signs. Must not know: what is asked for.

use std::ops::Range;

use crate::util::random::SplitMix64;

/// Tables, each of another choice of signs.
const TABLES: usize = 32;
/// Signs that tables choose from: those of the strongest values.
pub(super) const CHOSEN_FROM: usize = 64;
/// Signs that a table knows at most.
const MOST_SIGNS: u32 = 24;
/// A table is asked for an image's signs and for all that differ from them in its weakest so many.
pub(super) const WEAKEST: usize = 4;
/// Images that are looked at for one question to a table, however many there are.
pub(super) const BUCKET: usize = 64;
/// Bytes of tables that are in memory together.
const TOGETHER: usize = 512 << 20;

/// Images by some of their signs: those of key k are `rows[starts[k]..starts[k + 1]]`.
pub(super) struct Table {
    signs: Vec<usize>,
    starts: Vec<u32>,
    pub(super) rows: Vec<u32>,
}

impl Table {
    /// Table `number` of the images that `taken` names, from the signs of all.
    pub(super) fn new(
        number: usize,
        signs: u32,
        bits: &[u128],
        taken: &(dyn Fn(usize) -> bool + Sync),
    ) -> Table {
        let mut random = SplitMix64(number as u64);
        let mut order: Vec<usize> = (0..CHOSEN_FROM).collect();
        for at in 0..signs as usize {
            order.swap(at, at + random.next() as usize % (CHOSEN_FROM - at));
        }
        order.truncate(signs as usize);
        let mut table = Table { signs: order, starts: vec![0; (1 << signs) + 1], rows: Vec::new() };
        let taken = || (0..bits.len()).filter(|&at| taken(at));
        for at in taken() {
            let key = table.key(bits[at]);
            table.starts[key + 1] += 1;
        }
        for key in 1..table.starts.len() {
            table.starts[key] += table.starts[key - 1];
        }
        table.rows = vec![0; table.starts[table.starts.len() - 1] as usize];
        for at in taken() {
            // Each key's start moves on to its end, which is where the next one starts.
            let key = table.key(bits[at]);
            table.rows[table.starts[key] as usize] = at as u32;
            table.starts[key] += 1;
        }
        table.starts.rotate_right(1);
        table.starts[0] = 0;
        table
    }

    fn key(&self, bits: u128) -> usize {
        // All chosen signs are among the first 64.
        let bits = bits as u64;
        let mut key = 0;
        for (at, &sign) in self.signs.iter().enumerate() {
            key |= ((bits >> sign) as usize & 1) << at;
        }
        key
    }

    /// The key of an image with these signs, and those that differ from it in weak signs.
    #[inline(always)]
    pub(super) fn keys(&self, bits: u128, strengths: &[u8; CHOSEN_FROM]) -> Keys {
        // Strength, then the sign's place in the key; the smallest first.
        let mut weakest = [u32::MAX; WEAKEST];
        for (at, &sign) in self.signs.iter().enumerate() {
            let mut next = u32::from(strengths[sign]) << 8 | at as u32;
            for weak in &mut weakest {
                (*weak, next) = (next.min(*weak), next.max(*weak));
            }
        }
        // Each sign doubles the keys: those so far, and the same with the sign flipped.
        let mut keys = [self.key(bits) as u32; 1 << WEAKEST];
        for (at, weak) in weakest.into_iter().enumerate() {
            for which in 0..1 << at {
                keys[which | 1 << at] = keys[which] ^ 1 << (weak & 0xff);
            }
        }
        keys
    }

    /// Begins to load where the images of these keys are.
    #[inline(always)]
    pub(super) fn fetch(&self, keys: &Keys) {
        for &key in keys {
            fetch(&self.starts, key as usize);
        }
    }

    /// Where in `rows` the images of a key are.
    #[inline(always)]
    pub(super) fn range(&self, key: u32) -> Range<usize> {
        let (start, end) = (self.starts[key as usize] as usize, self.starts[key as usize + 1]);
        start..(end as usize).min(start + BUCKET)
    }
}

/// What a table is asked for with one question.
pub(super) type Keys = [u32; 1 << WEAKEST];

/// Signs that each table of so many images knows.
pub(super) fn signs_for(images: usize) -> u32 {
    (images.max(2).ilog2() + 2).clamp(8, MOST_SIGNS)
}

/// The numbers of tables that are in memory together.
pub(super) fn together(signs: u32, rows: usize) -> Vec<Range<usize>> {
    let bytes = 4 * ((1 << signs) + rows);
    let tables = (TOGETHER / bytes).clamp(1, TABLES);
    (0..TABLES).step_by(tables).map(|first| first..(first + tables).min(TABLES)).collect()
}

/// Begins to load what is read soon, if it is there.
#[inline(always)]
pub(super) fn fetch<T>(all: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(one) = all.get(at) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let first = std::ptr::from_ref(one).cast::<i8>();
        for line in (0..size_of::<T>()).step_by(64) {
            // SAFETY: loading ahead reads nothing that the program sees, and the address is within `one`.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first.add(line)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (all, at);
}
