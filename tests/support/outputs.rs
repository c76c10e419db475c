//! Owns small outputs made through the library, for tests of tokens and audit: image `i` has tokens
//! that depend on `i` alone, every seventh fails. Must not know: what is tested with them.

#![allow(dead_code)]

use std::path::{Path, PathBuf};

use vqtok::internals::tokens::{
    CommitMode, FailureRow, Identity, LevelLayout, Outcome, PartitionWriter, Plan, PlanRow,
    Preprocessing, Receipt, TokenGrid, TokenRow, TokenizerId,
};
use vqtok::{Error, Result};

pub const CODES: u64 = 64;
pub const TOKENS: i64 = 6;

pub fn identity(shard_rows: u64) -> Identity {
    Identity {
        tokenizer: TokenizerId {
            family: "vqtok".into(),
            weights_sha256: "ab".repeat(32),
            codebook_sha256: "cd".repeat(32),
            codes: CODES,
            dim: 8,
            factor: 4,
        },
        preprocessing: Preprocessing {
            buckets: None,
            rule: "bicubic".into(),
            size: Some(16),
            alpha: "white".into(),
            orientation: Some("apply".into()),
            pillow: Some(12),
            views: None,
            digest: "ef".repeat(32),
        },
        label_level: None,
        levels: vec![LevelLayout::new(CODES, Some([2, 3]))],
        precision: "f32".into(),
        device: "cpu".into(),
        shard_rows,
        version: "0.1.0".into(),
    }
}

pub fn fails(ordinal: i64) -> bool {
    ordinal % 7 == 4
}

pub fn plan(dir: &Path, images: i64, shard_rows: u64) -> Result<Plan> {
    let row = |ordinal| PlanRow {
        ordinal,
        key: format!("class/{ordinal}.png"),
        uri: format!("file:///data/class/{ordinal}.png"),
        bytes: 100 + ordinal,
        ..PlanRow::default()
    };
    let rows = (0..images).map(|ordinal| Ok(row(ordinal)));
    Plan::create_or_open(dir, &identity(shard_rows), rows, shard_rows as usize)
}

pub fn outcome(ordinal: i64) -> Outcome {
    let (key, uri) = (format!("class/{ordinal}.png"), format!("file:///data/class/{ordinal}.png"));
    if fails(ordinal) {
        let (stage, error) = ("decode".to_string(), format!("no picture in {ordinal}"));
        return Outcome::Failed(FailureRow { ordinal, key, uri, stage, error });
    }
    Outcome::Written(Box::new(TokenRow {
        ordinal,
        key,
        uri,
        levels: vec![TokenGrid {
            codes: codes(ordinal),
            distances: (0..TOKENS).map(|i| (ordinal * i) as f32 / 7.0).collect(),
            height: 2,
            width: 3,
        }],
        image_width: 30,
        image_height: 20,
        orientation: 1,
        color_mode: "RGB".into(),
        crop_w: 16,
        crop_h: 16,
        label: Some("class".into()),
        content_sha256: [ordinal as u8; 32],
        ..TokenRow::default()
    }))
}

pub fn codes(ordinal: i64) -> Vec<u32> {
    (0..TOKENS).map(|i| ((ordinal * 31 + i * i * 7) % CODES as i64) as u32).collect()
}

pub fn write(plan: &Plan, partition: usize, mode: CommitMode) -> Result<Receipt> {
    let mut writer = PartitionWriter::create(plan, partition, mode)?;
    for ordinal in plan.ordinals(partition)? {
        writer.push(outcome(ordinal))?;
    }
    writer.close()
}

/// A whole job: plan, the partitions that aren't there, the merge.
pub fn job(dir: &Path, images: i64, shard_rows: u64) -> Result<()> {
    let plan = plan(dir, images, shard_rows)?;
    for partition in 0..plan.partitions() {
        if !plan.has(partition) {
            write(&plan, partition, CommitMode::New)?;
        }
    }
    match vqtok::internals::tokens::finalize(dir) {
        // Another worker has partitions in hand; it will finalize.
        Err(Error::Busy(_)) => Ok(()),
        other => other.map(|_| ()),
    }
}

/// Every file under a folder with its bytes, by name.
pub fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![dir.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a readable folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).expect("below the folder").to_path_buf();
                found.push((name, std::fs::read(&path).expect("a readable file")));
            }
        }
    }
    found.sort();
    found
}
