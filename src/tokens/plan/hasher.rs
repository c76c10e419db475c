//! Owns the digest of a plan, as `schemas/plan.v1.json` and those after it describe it.

use sha2::{Digest, Sha256};

use super::file::Base;
use super::layout::Layout;
use crate::tokens::identity::Identity;
use crate::tokens::rows::{Bucket, PlanRow};
use crate::util::hex::hex;

/// The digest of a plan, fed row by row.
pub(super) struct PlanHasher {
    layout: Layout,
    digest: Sha256,
}

impl PlanHasher {
    pub(super) fn new(identity: &Identity, base: &Base, layout: Layout) -> PlanHasher {
        let mut digest = Sha256::new();
        digest.update(format!("{}\n{}\n", layout.word(), identity.canonical()));
        if base.number > 0 {
            digest.update(format!("{}\n{}\n", base.after, base.partition));
        }
        PlanHasher { layout, digest }
    }

    /// Takes the next row; whether a partition begins with it.
    pub(super) fn row(&mut self, row: &PlanRow, begins: bool) {
        if self.layout != Layout::Files {
            self.digest.update([u8::from(begins)]);
        }
        self.digest.update(row.ordinal.to_le_bytes());
        self.text(&row.key);
        self.text(&row.uri);
        self.digest.update(row.bytes.to_le_bytes());
        if self.layout != Layout::Files {
            self.optional(row.member.as_deref());
            self.digest.update([u8::from(row.offset.is_some())]);
            row.offset.iter().for_each(|offset| self.digest.update(offset.to_le_bytes()));
            for text in [&row.label, &row.caption, &row.meta_json, &row.fault] {
                self.optional(text.as_deref());
            }
            self.digest.update([u8::from(row.forward)]);
        }
        if let Some(Bucket { width, height, position }) = row.bucket {
            self.digest.update(position.to_le_bytes());
            self.digest.update(width.to_le_bytes());
            self.digest.update(height.to_le_bytes());
        }
    }

    /// The digest, in hex.
    pub(super) fn finish(&self) -> String {
        hex(self.digest.clone().finalize())
    }

    fn text(&mut self, text: &str) {
        self.digest.update((text.len() as u64).to_le_bytes());
        self.digest.update(text);
    }

    fn optional(&mut self, text: Option<&str>) {
        self.digest.update([u8::from(text.is_some())]);
        text.into_iter().for_each(|text| self.text(text));
    }
}
