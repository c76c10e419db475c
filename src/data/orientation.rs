//! Owns whether a picture is turned as its file asks.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// What becomes of the orientation that a file states (EXIF, or XMP where that is silent).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Orientation {
    /// The picture is turned upright, as viewers and Pillow's `exif_transpose` do.
    #[default]
    Apply,
    /// The pixels are taken as they are stored, as most published extraction scripts do.
    Ignore,
}

impl FromStr for Orientation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Orientation, Error> {
        match text {
            "apply" => Ok(Orientation::Apply),
            "ignore" => Ok(Orientation::Ignore),
            _ => Err(Error::invalid(format!("orientation {text:?}: use apply or ignore"))),
        }
    }
}

impl fmt::Display for Orientation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Orientation::Apply => "apply",
            Orientation::Ignore => "ignore",
        })
    }
}
