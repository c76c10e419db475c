//! Owns the way between an image of a source and its row in a plan, and what is decoded of it.

use crate::data::source::fetch::Fetched;
use crate::data::source::image::Planned;
use crate::data::{Facts, Part, SourceImage};
use crate::tokens::{Bucket, ContainerFile, Plan, PlanRow};

/// An image to decode, how its bytes are had, and the bucket that it is brought to.
pub(super) type Task = (SourceImage, Fetched, Option<(u32, u32)>);

/// The row of an image.
pub(crate) fn row_of(ordinal: i64, image: SourceImage) -> PlanRow {
    let SourceImage { key, uri, bytes, part, forward, facts, fault, bucket, .. } = image;
    let Facts { label, caption, meta_json } = facts;
    let (member, offset) = part.map(|part| (part.member, part.offset as i64)).unzip();
    let bytes = bytes as i64;
    PlanRow {
        ordinal,
        key,
        uri,
        bytes,
        member,
        offset,
        label,
        caption,
        meta_json,
        fault,
        forward,
        bucket: bucket.map(|(width, height)| Bucket { width, height, position: ordinal }),
    }
}

/// The file that holds the image of a row among others, as it was recorded.
pub(super) fn planned_file(plan: &Plan, row: &PlanRow) -> Option<Planned> {
    let ContainerFile { bytes, digest, .. } = &plan.container_of(row)?.file;
    Some(Planned { bytes: *bytes, digest: digest.clone() })
}

/// The image of a row, at its place of today; what stands beside it is in the row alone.
pub(crate) fn image_of(plan: &Plan, row: &PlanRow) -> SourceImage {
    image_at(plan.place(row), row)
}

/// The image of a row that lies at `uri`.
pub(crate) fn image_at(uri: String, row: &PlanRow) -> SourceImage {
    let part = row.member.clone().zip(row.offset);
    SourceImage {
        planned: None,
        key: row.key.clone(),
        uri,
        bytes: row.bytes.unsigned_abs(),
        forward: row.forward,
        part: part.map(|(member, offset)| Part { member, offset: offset.unsigned_abs() }),
        facts: Facts::default(),
        fault: row.fault.clone(),
        bucket: None,
    }
}
