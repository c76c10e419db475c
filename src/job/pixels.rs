//! Owns what an image becomes before a model sees it, where a job says so: each setting that is
//! given stands above the model's own, or the recipe's.

use std::str::FromStr;

use crate::checkpoint::onnx::SETTINGS_FILE as ONNX_SETTINGS_FILE;
use crate::config::Recipe;
use crate::data::prepare::Preparation;
use crate::data::resize::rules::ResizeRule;
use crate::data::{Alpha, Buckets, Orientation, PillowVersion, Views};
use crate::error::{Error, Result};
use crate::model::config::{Architecture, ModelConfig};
use crate::pipeline::tokens_max;
use crate::util::settings::{BUCKETS, RESIZE, SIZE, VIEWS};

/// What an image becomes before the model sees it. A setting that isn't given is the model's own; in
/// training, the recipe's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PixelSettings {
    pub(crate) size: Option<u32>,
    pub(crate) resize: Option<ResizeRule>,
    pub(crate) alpha: Option<Alpha>,
    pub(crate) orientation: Option<Orientation>,
    pub(crate) pillow: Option<PillowVersion>,
}

impl PixelSettings {
    /// Everything as the model says.
    pub fn new() -> PixelSettings {
        PixelSettings::default()
    }

    /// Side of the square crop, in pixels.
    pub fn size(mut self, side: u32) -> PixelSettings {
        self.size = Some(side);
        self
    }

    /// How an image becomes that square.
    pub fn resize(mut self, rule: ResizeRule) -> PixelSettings {
        self.resize = Some(rule);
        self
    }

    /// What shows through transparent pixels.
    pub fn alpha(mut self, alpha: Alpha) -> PixelSettings {
        self.alpha = Some(alpha);
        self
    }

    /// What becomes of the orientation that a file states.
    pub fn orientation(mut self, orientation: Orientation) -> PixelSettings {
        self.orientation = Some(orientation);
        self
    }

    /// The version of Pillow whose resampling is followed, bit for bit.
    pub fn pillow(mut self, version: PillowVersion) -> PixelSettings {
        self.pillow = Some(version);
        self
    }

    /// Refuses what no model takes.
    pub(crate) fn check(self) -> Result<()> {
        match self.size {
            Some(0) => Err(Error::setting(SIZE, "is at least 1, not 0")),
            _ => Ok(()),
        }
    }

    /// The recipe with these on top, checked.
    pub(crate) fn over(self, mut recipe: Recipe) -> Result<Recipe> {
        let data = &mut recipe.data;
        data.size = self.size.unwrap_or(data.size);
        data.resize = self.resize.unwrap_or(data.resize);
        data.alpha = self.alpha.unwrap_or(data.alpha);
        data.orientation = self.orientation.unwrap_or(data.orientation);
        data.pillow = self.pillow.unwrap_or(data.pillow);
        recipe.check()?;
        Ok(recipe)
    }

    /// What a model that stands is fed: its own preprocessing with these on top.
    pub(crate) fn preparation(self, model: &ModelConfig) -> Result<Preparation> {
        self.by(model, |rule| match model.oblong() {
            Some((height, width)) if !rule.varies() => Err(Error::invalid(format!(
                "the model takes pictures of {width}x{height} pixels alone, which no {SIZE} gives: pass \
                 {BUCKETS} {width}x{height} where there is such a setting, or {RESIZE} none for images \
                 of that size"
            ))),
            _ => side(self.size, model.preprocess.size, rule),
        })
    }

    /// The same where images go into `buckets`.
    pub(crate) fn bucketed(self, model: &ModelConfig, buckets: &Buckets) -> Result<Preparation> {
        let preparation = self.by(model, |rule| self.check_buckets(rule).map(|()| None))?;
        let sizes = buckets.sizes(model.factor())?;
        for &(width, height) in sizes.all() {
            let (w, h) = (width as usize, height as usize);
            let tokens = model.grid(h, w).and_then(|grids| {
                let tokens = grids.iter().map(|(h, w)| h.saturating_mul(*w)).max().unwrap_or(0);
                let max = tokens_max(model);
                let few = tokens <= max;
                few.then_some(())
                    .ok_or_else(|| format!("{tokens} tokens, more than {max} of a row"))
            });
            tokens.map_err(|reason| {
                let text = format!("{width}x{height} doesn't suit the model: {reason}");
                Error::setting(BUCKETS, text)
            })?;
        }
        Ok(Preparation { buckets: Some(sizes), ..preparation })
    }

    /// Refuses what can't be beside buckets; `rule`: that of the model where none is asked for.
    fn check_buckets(self, rule: ResizeRule) -> Result<()> {
        let reason = match self.size {
            Some(size) => format!("and {SIZE} {size} exclude each other; leave one of both away"),
            None if !rule.covers() => format!(
                "beside the resize rule {rule}, which doesn't cut images to an aspect ratio; give \
                 another {RESIZE}, such as bicubic"
            ),
            None => return Ok(()),
        };
        Err(Error::setting(BUCKETS, reason))
    }

    /// The same as far as it can be told before there is a model.
    pub(crate) fn check_beside_buckets(self) -> Result<()> {
        self.check_buckets(self.resize.unwrap_or_default())
    }

    fn by(
        self,
        model: &ModelConfig,
        size: impl FnOnce(ResizeRule) -> Result<Option<u32>>,
    ) -> Result<Preparation> {
        let own = &model.preprocess;
        let rule = match self.resize {
            Some(rule) => rule,
            None if own.resize.is_empty() => {
                return Err(Error::invalid(format!(
                    "the model doesn't say how images become its pixels: pass {RESIZE} RULE{}",
                    match of_onnx(model) {
                        true => format!(", or write `resize` into its {ONNX_SETTINGS_FILE}"),
                        false => String::new(),
                    }
                )));
            }
            None => own.resize.parse().map_err(|e| said_by(model, e))?,
        };
        let size = size(rule)?;
        let pillow = own.pillow.map(PillowVersion::try_from).transpose();
        let mut pillow = pillow.map_err(|e| said_by(model, e))?.unwrap_or_default();
        if self.resize.is_some() && rule.check(pillow).is_err() {
            // The model's version was for its own rule; Pillow has no part in the one asked for.
            pillow = PillowVersion::default();
        }
        let pillow = self.pillow.unwrap_or(pillow);
        rule.check(pillow)?;
        Ok(Preparation {
            limits: Default::default(),
            alpha: self
                .alpha
                .map_or_else(|| told(own.alpha.as_deref()), Ok)
                .map_err(|e| said_by(model, e))?,
            orientation: self
                .orientation
                .map_or_else(|| told(own.orientation.as_deref()), Ok)
                .map_err(|e| said_by(model, e))?,
            pillow,
            rule,
            size,
            channels: model.pixels.channels,
            views: None,
            buckets: None,
        })
    }
}

fn of_onnx(model: &ModelConfig) -> bool {
    matches!(model.architecture, Architecture::Onnx(_))
}

/// An error of what a model says of its preprocessing, with the file that says it.
fn said_by(model: &ModelConfig, error: Error) -> Error {
    let file = if of_onnx(model) { ONNX_SETTINGS_FILE } else { "config.json" };
    Error::invalid(format!("the model's {file}: {}", error.message()))
}

/// The side that images are resized to under `rule`; None where they keep their sizes.
fn side(asked: Option<u32>, own: Option<u32>, rule: ResizeRule) -> Result<Option<u32>> {
    match (asked, asked.or(own), rule) {
        (Some(size), _, rule) if rule.varies() => Err(Error::setting(
            SIZE,
            format!(
                "{size}: images {} sizes under the resize rule {rule}; leave one of both away",
                if rule == ResizeRule::None { "keep their" } else { "get" }
            ),
        )),
        (_, _, rule) if rule.varies() => Ok(None),
        (_, None, _) => Err(Error::invalid(format!(
            "the model doesn't say which image size it was trained for: pass {SIZE} N, a \
             multiple of its factor (rule {rule})"
        ))),
        (_, size, _) => Ok(size),
    }
}

/// The preparation that gives the views of an image.
pub(super) fn with_views(preparation: Preparation, views: Option<Views>) -> Result<Preparation> {
    match (views, preparation.size) {
        (Some(views), None) => Err(Error::setting(
            VIEWS,
            format!(
                "{views}: views are of one size, and under the {RESIZE} rule {} images keep \
                 theirs; leave one of both away",
                preparation.rule
            ),
        )),
        _ => Ok(Preparation { views, ..preparation }),
    }
}

/// Refuses views that can't be beside buckets.
pub(super) fn check_views(buckets: Option<&Buckets>, views: Option<Views>) -> Result<()> {
    match views {
        Some(views) if buckets.is_some() && views != Views::Flips => Err(Error::setting(
            BUCKETS,
            format!("and {VIEWS} {views} exclude each other: of views, flips alone go with them"),
        )),
        _ => Ok(()),
    }
}

/// A setting by its word, where a file has one.
pub(crate) fn told<T: FromStr<Err = Error> + Default>(word: Option<&str>) -> Result<T> {
    word.map_or_else(|| Ok(T::default()), str::parse)
}
