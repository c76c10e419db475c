//! Owns which ids a sequence has for its codes, and how wide they are: by the largest that can occur,
//! not by the largest that does. Must not know: files.

use super::row::Row;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::util::numbers::count;
use crate::util::settings::{BOS, CLASS_TOKENS, EOS, TO, VOCAB_OFFSET};

/// How codes become ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ids {
    pub offset: u32,
    pub bos: Option<u32>,
    pub eos: Option<u32>,
    /// Id of class 0, which stands before the codes.
    pub class_first: Option<u32>,
    /// Different codes, of all chosen levels together.
    pub codes: u64,
    /// The largest id that can occur.
    pub largest: u32,
}

/// Bytes of an unsigned id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    U8,
    U16,
    U32,
}

impl Ids {
    /// That a format has no room for the largest id: `room` says what it has.
    pub(super) fn too_large(&self, room: &str) -> Error {
        let largest = count(u64::from(self.largest));
        match self.codes.checked_sub(1) {
            // Without any offset the codes themselves are too large.
            Some(code) if u32::try_from(code) == Ok(self.largest) => Error::setting(
                TO,
                format!("codes go up to {largest}, and {room}; export them to another format"),
            ),
            _ => Error::setting(VOCAB_OFFSET, format!("leads to ids up to {largest}, and {room}")),
        }
    }

    /// # Errors
    /// Ids above 2^32 - 1; a special id that a code has as well.
    pub(super) fn of(settings: &Settings, codes: u64, classes: u64) -> Result<Ids> {
        let Settings { vocab_offset: offset, bos, eos, class_tokens, .. } = *settings;
        let (first, end) = (u64::from(offset), u64::from(offset) + codes);
        let class_end = class_tokens.map(|class| u64::from(class) + classes.max(1));
        let largest = [
            Some(end),
            class_end,
            bos.map(|id| u64::from(id) + 1),
            eos.map(|id| u64::from(id) + 1),
        ];
        let largest = largest.into_iter().flatten().max().unwrap_or(1).max(1) - 1;
        let Ok(largest) = u32::try_from(largest) else {
            let text =
                format!("{offset}: the largest id would be {}, beyond 32 bits", count(largest));
            return Err(Error::setting(VOCAB_OFFSET, text));
        };
        let specials = [
            (BOS, bos, bos.map(|id| u64::from(id) + 1)),
            (EOS, eos, eos.map(|id| u64::from(id) + 1)),
            (CLASS_TOKENS, class_tokens, class_end),
        ];
        for (at, (setting, id, until)) in specials.iter().enumerate() {
            let (Some(id), Some(until)) = (id, until) else { continue };
            if u64::from(*id) < end && *until > first {
                let text = format!(
                    "{id}: codes have the ids {first} to {}; take one beyond them, or another {VOCAB_OFFSET}",
                    end - 1
                );
                return Err(Error::setting(*setting, text));
            }
            let other = specials[..at].iter().find(|(_, other, other_until)| {
                other
                    .zip(*other_until)
                    .is_some_and(|(o, u)| o < *until as u32 && u > u64::from(*id))
            });
            // A trainer may well end an image with what the next one begins with.
            if let Some((other, _, _)) = other.filter(|_| *setting == CLASS_TOKENS) {
                let text = format!("{id}: one of the classes has the id of {other}");
                return Err(Error::setting(*setting, text));
            }
        }
        Ok(Ids { offset, bos, eos, class_first: class_tokens, codes, largest })
    }

    /// The ids of a row.
    pub(super) fn sequence(&self, row: &Row) -> Vec<u32> {
        let class = self.class_first.zip(row.class).map(|(first, class)| first + class as u32);
        let mut ids = Vec::with_capacity(row.codes.len() + 3);
        ids.extend(self.bos);
        ids.extend(class);
        ids.extend(row.codes.iter().map(|code| code + self.offset));
        ids.extend(self.eos);
        ids
    }

    /// The narrowest type for every id that can occur.
    pub(super) fn width(&self) -> Width {
        match self.largest {
            0..=0xff => Width::U8,
            0x100..=0xffff => Width::U16,
            _ => Width::U32,
        }
    }

    /// The same, of the two that readers of sequences know.
    pub(super) fn wide(&self) -> Width {
        match self.width() {
            Width::U8 => Width::U16,
            width => width,
        }
    }
}

impl Width {
    /// Ids as little-endian bytes, behind those of `out`.
    pub(super) fn put(self, ids: &[u32], out: &mut Vec<u8>) {
        match self {
            Width::U8 => out.extend(ids.iter().map(|id| *id as u8)),
            Width::U16 => out.extend(ids.iter().flat_map(|id| (*id as u16).to_le_bytes())),
            Width::U32 => out.extend(ids.iter().flat_map(|id| id.to_le_bytes())),
        }
    }

    pub(super) fn bytes(self) -> usize {
        match self {
            Width::U8 => 1,
            Width::U16 => 2,
            Width::U32 => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::target::Target;
    use super::*;

    fn settings(set: impl FnOnce(&mut Settings)) -> Settings {
        let mut settings = Settings::new("in".into(), "out".into(), Target::Megatron);
        set(&mut settings);
        settings
    }

    #[test]
    fn the_width_is_that_of_the_largest_id_that_can_occur() {
        let largest = |codes, set: fn(&mut Settings)| Ids::of(&settings(set), codes, 10).unwrap();
        assert_eq!(largest(256, |_| ()).width(), Width::U8);
        assert_eq!(largest(257, |_| ()).width(), Width::U16);
        assert_eq!(largest(65_536, |_| ()).width(), Width::U16);
        assert_eq!(largest(65_536, |s| s.eos = Some(65_536)).width(), Width::U32);
        assert_eq!(largest(16, |s| s.class_tokens = Some(100)).largest, 109);
        assert_eq!(largest(16, |s| s.vocab_offset = 32_000).largest, 32_015);
        assert!(Ids::of(&settings(|s| s.vocab_offset = u32::MAX), 16, 0).is_err());
    }

    #[test]
    fn a_special_id_that_a_code_has_is_refused() {
        for (set, ok) in [
            ((|s| s.eos = Some(15)) as fn(&mut Settings), false),
            (|s| s.eos = Some(16), true),
            (|s| (s.bos, s.vocab_offset) = (Some(0), 1), true),
            (|s| (s.bos, s.vocab_offset) = (Some(1), 1), false),
            (|s| s.class_tokens = Some(10), false),
            (|s| (s.class_tokens, s.eos) = (Some(16), Some(25)), false),
            (|s| (s.class_tokens, s.eos) = (Some(16), Some(26)), true),
            (|s| (s.bos, s.eos) = (Some(16), Some(16)), true),
        ] {
            assert_eq!(Ids::of(&settings(set), 16, 10).is_ok(), ok);
        }
    }
}
