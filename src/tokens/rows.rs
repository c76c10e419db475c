//! Owns what is known of an image that is planned, tokenized or given up. Must not know: columns,
//! files.

use serde::{Deserialize, Serialize};

/// The aspect bucket of an image.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
    /// The image's place among all in the order of the inputs, from 0: a plan has those of one
    /// bucket behind each other.
    pub position: i64,
}

/// One image to tokenize.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRow {
    /// Its place in the plan, from 0, without holes.
    pub ordinal: i64,
    /// The name that users and `decode` know it by.
    pub key: String,
    /// Where it was when it was planned.
    pub uri: String,
    /// Its size when planned; 0 where its source doesn't say.
    pub bytes: i64,
    /// Its name in the file at `uri`, where that holds several images.
    pub member: Option<String>,
    /// Where it begins in that file, as the file's format counts.
    pub offset: Option<i64>,
    /// Its class, where its source says one.
    pub label: Option<String>,
    /// The text beside it.
    pub caption: Option<String>,
    /// Anything else known of it, as a JSON object.
    pub meta_json: Option<String>,
    /// Why it can't be read, where planning found that out.
    pub fault: Option<String>,
    /// Whether the file at `uri` can only be read from its beginning on, by one worker.
    pub forward: bool,
    /// Where images go into buckets by their aspect ratios.
    pub bucket: Option<Bucket>,
}

impl PlanRow {
    /// Its place in the order of the inputs.
    pub(super) fn position(&self) -> i64 {
        self.bucket.map_or(self.ordinal, |bucket| bucket.position)
    }

    /// Width and height of its bucket.
    pub(crate) fn bucket_size(&self) -> Option<(u32, u32)> {
        self.bucket.map(|bucket| (bucket.width, bucket.height))
    }

    /// The name of the file that is the image, wherever it lies; None where it is within one.
    pub(super) fn file_name(&self) -> Option<&str> {
        let name = self.uri.rsplit('/').next().filter(|_| self.member.is_none())?;
        // What follows in an address of the web may be a signature of the day.
        let address = self.uri.starts_with("http").then(|| self.uri.split(['?', '#']).next());
        Some(address.flatten().map_or(name, |address| address.rsplit('/').next().unwrap_or(name)))
    }

    /// Whether there is more to it than a file: what `plan.v2` has columns for.
    pub(super) fn is_more_than_a_file(&self) -> bool {
        let PlanRow { member, label, caption, meta_json, fault, .. } = self;
        let texts = [member, label, caption, meta_json, fault];
        self.offset.is_some() || texts.iter().any(|text| text.is_some())
    }
}

/// One grid of codes.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenGrid {
    /// `height * width` codes below K, row-major.
    pub codes: Vec<u32>,
    /// Squared distance |z - e|^2 of each, NaN where the family has none; or empty.
    pub distances: Vec<f32>,
    /// In tokens.
    pub height: i32,
    /// In tokens.
    pub width: i32,
}

/// One tokenized image (or one view of it).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct TokenRow {
    /// As planned.
    pub ordinal: i64,
    /// As planned.
    pub key: String,
    /// As planned.
    pub uri: String,
    /// Name inside an archive.
    pub member: Option<String>,
    /// One grid for each level of the identity.
    pub levels: Vec<TokenGrid>,
    /// Number of the crop of this image, from 0 without holes.
    pub view: i32,
    /// Whether it was mirrored.
    pub flip: bool,
    /// Of the oriented source, in pixels.
    pub image_width: i32,
    /// Of the oriented source, in pixels.
    pub image_height: i32,
    /// EXIF orientation as found, 1 to 8, applied or not.
    pub orientation: i32,
    /// Pillow's name for the source's mode.
    pub color_mode: String,
    /// Left edge of what the model saw, in pixels of the oriented source.
    pub crop_x: i32,
    /// Top edge.
    pub crop_y: i32,
    /// Width.
    pub crop_w: i32,
    /// Height.
    pub crop_h: i32,
    /// The folder of the key that the identity's `label_level` says, where there is one.
    pub label: Option<String>,
    /// From beside the image.
    pub caption: Option<String>,
    /// Anything else known of it, as a JSON object.
    pub meta_json: Option<String>,
    /// Of the source file's bytes.
    pub content_sha256: [u8; 32],
}

/// One image that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailureRow {
    /// As planned.
    pub ordinal: i64,
    /// As planned.
    pub key: String,
    /// As planned.
    pub uri: String,
    /// `Stage::as_str` of the rejection.
    pub stage: String,
    /// One deterministic line.
    pub error: String,
}

/// What became of a planned image.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Tokens. Several views of one image follow each other.
    Written(Box<TokenRow>),
    /// A reason.
    Failed(FailureRow),
}
