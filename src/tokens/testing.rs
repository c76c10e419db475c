//! Owns small outputs for tests, here and in `audit`: images of six tokens, every fifth fails.
//! Must not know: what is tested with them.

use std::fs;
use std::path::{Path, PathBuf};

use super::files::{ShardFolders, Sidecar};
use super::identity::tests::identity;
use super::{
    CommitMode, FailureRow, Identity, LevelLayout, Outcome, PartitionWriter, Plan, PlanRow,
    Receipt, TokenGrid, TokenRow,
};

pub(crate) const CODES: u64 = 32;

pub(crate) fn plan(dir: &Path, images: i64, shard_rows: u64) -> Plan {
    plan_with(dir, images, &identity(CODES, Some([2, 3]), shard_rows))
}

pub(crate) fn plan_with(dir: &Path, images: i64, identity: &Identity) -> Plan {
    let row = |ordinal| PlanRow {
        ordinal,
        key: format!("c/{ordinal}.png"),
        uri: format!("file:///c/{ordinal}.png"),
        bytes: 7,
        ..PlanRow::default()
    };
    let rows = (0..images).map(|i| Ok(row(i)));
    Plan::create_or_open(dir, identity, rows, identity.shard_rows as usize).unwrap()
}

/// Image `ordinal`: every fifth fails, the rest get tokens that depend on it alone.
pub(crate) fn outcome(ordinal: i64) -> Outcome {
    if ordinal % 5 == 3 {
        return Outcome::Failed(FailureRow {
            ordinal,
            key: format!("c/{ordinal}.png"),
            uri: format!("file:///c/{ordinal}.png"),
            stage: "decode".into(),
            error: "no picture".into(),
        });
    }
    Outcome::Written(Box::new(token_row(ordinal)))
}

pub(crate) fn token_row(ordinal: i64) -> TokenRow {
    let code = |i: i64| ((ordinal * 7 + i * i) % CODES as i64) as u32;
    TokenRow {
        ordinal,
        key: format!("c/{ordinal}.png"),
        uri: format!("file:///c/{ordinal}.png"),
        levels: vec![TokenGrid {
            codes: (0..6).map(code).collect(),
            distances: (0..6).map(|i| (ordinal + i) as f32 / 8.0).collect(),
            height: 2,
            width: 3,
        }],
        image_width: 30,
        image_height: 20,
        orientation: 1,
        color_mode: "RGB".into(),
        label: Some("c".into()),
        content_sha256: [ordinal as u8; 32],
        ..TokenRow::default()
    }
}

/// Of rows with two residual levels after the first.
pub(crate) fn deep_identity(shard_rows: u64) -> Identity {
    let mut deep = identity(CODES, Some([2, 3]), shard_rows);
    let residual = LevelLayout { residual: true, ..deep.levels[0].clone() };
    deep.levels.extend([residual.clone(), residual]);
    deep
}

/// The row with as many levels: level l has codes that are `l * ordinal` further, and distances
/// that are halved l times.
fn deepened(mut row: TokenRow, levels: usize) -> TokenRow {
    for level in 1..levels {
        let mut grid = row.levels[0].clone();
        let further = (level as i64 * row.ordinal) as u32;
        grid.codes.iter_mut().for_each(|k| *k = (*k + further) % CODES as u32);
        grid.distances.iter_mut().for_each(|d| *d /= (1 << level) as f32);
        row.levels.push(grid);
    }
    row
}

/// Writes a partition, with as many levels as the plan announces.
pub(crate) fn write(plan: &Plan, partition: usize) -> Receipt {
    let mut writer = PartitionWriter::create(plan, partition, CommitMode::New).unwrap();
    for ordinal in plan.ordinals(partition).unwrap() {
        let outcome = match outcome(ordinal) {
            Outcome::Written(row) => {
                Outcome::Written(Box::new(deepened(*row, plan.identity().levels.len())))
            }
            failed => failed,
        };
        writer.push(outcome).unwrap();
    }
    writer.close().unwrap()
}

/// Where the shard of a small output lies.
pub(crate) fn shard_path(dir: &Path, partition: usize) -> PathBuf {
    ShardFolders::default().shard(dir, partition)
}

/// Where a file beside it lies.
pub(crate) fn sidecar(dir: &Path, kind: Sidecar, partition: usize, sha256: &str) -> PathBuf {
    ShardFolders::default().sidecar(dir, kind, partition, sha256)
}

/// Every file of an output with its bytes.
pub(crate) fn tree(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let files = walkdir::WalkDir::new(dir).sort_by_file_name().into_iter().map(Result::unwrap);
    let files = files.filter(|e| e.file_type().is_file());
    files
        .map(|e| (e.path().strip_prefix(dir).unwrap().into(), fs::read(e.path()).unwrap()))
        .collect()
}
