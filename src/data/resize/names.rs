//! Owns the names of the resize rules, and what each is. Must not know: pixels.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::pillow::PillowVersion;
use crate::error::Error;

/// How a picture becomes the square that a model sees. Each is known by its name in recipes, model
/// configurations, `--resize` and shard metadata.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum ResizeRule {
    /// torchvision `Resize(size, BICUBIC)` and `CenterCrop(size)` on a PIL image (1d-tokenizer).
    #[default]
    Bicubic,
    /// torchvision `Resize(size, BILINEAR)` and `CenterCrop(size)` on a PIL image.
    Bilinear,
    /// torchvision `Resize(size, LANCZOS)` and `CenterCrop(size)` on a PIL image.
    Lanczos,
    /// torchvision `Resize(size, BOX)` and `CenterCrop(size)` on a PIL image.
    Box,
    /// taming-transformers, SEED-Voken: albumentations `SmallestMaxSize` (OpenCV's linear, no
    /// antialiasing) and `CenterCrop`.
    Taming,
    /// LlamaGen (after ADM): halved by BOX while it can be, then BICUBIC, centre crop.
    Llamagen,
    /// Chameleon: LANCZOS, centre crop; transparency over white happens at decoding.
    Chameleon,
    /// DALL-E's notebook: LANCZOS, torchvision's centre crop. The notebook refuses pictures
    /// smaller than the size; here they are enlarged by the same rule.
    Dalle,
    /// MaskGIT-VQ as open-muse ran it: the same pixels as `bilinear`.
    Maskgit,
    /// open-muse: the same pixels as `bilinear`.
    Muse,
    /// ViT-VQGAN: the whole picture stretched to the square, BILINEAR.
    Vit,
    /// VQ-VAE-2 (rosinality): the same pixels as `bilinear`.
    Vqvae2,
    /// VAR: LANCZOS to 9/8 of the size, torchvision's centre crop.
    Var,
    /// UniTok: BILINEAR to 9/8 of the size, torchvision's centre crop.
    Unitok,
    /// Infinity: LANCZOS, centre crop; for a bucket as for a square.
    Infinity,
    /// MoVQGAN: the middle square, its corners rounded as Pillow does, then BICUBIC with a reducing
    /// gap of 1.
    Movq,
    /// Emu3: the whole picture stretched by BICUBIC to multiples of 8 pixels, of 512^2 to 1024^2
    /// pixels in all. Sizes vary.
    Emu3,
    /// Emu3.5: the same to multiples of 16 pixels, of about 512^2 in all. Sizes vary.
    Emu35,
    /// The whole picture stretched to the square, BICUBIC.
    Stretch,
    /// The whole picture at its own size in the middle of a black square; only what is larger
    /// is shrunk, BICUBIC, until its long side fits. For digits and icons.
    Pad,
    /// No resize and no crop: every picture keeps its size. Sides that are no multiple of the
    /// model's factor are left to the model, as in the reference code.
    None,
}

const NAMES: [(&str, ResizeRule); 21] = [
    ("bicubic", ResizeRule::Bicubic),
    ("bilinear", ResizeRule::Bilinear),
    ("lanczos", ResizeRule::Lanczos),
    ("box", ResizeRule::Box),
    ("taming", ResizeRule::Taming),
    ("llamagen", ResizeRule::Llamagen),
    ("chameleon", ResizeRule::Chameleon),
    ("dalle", ResizeRule::Dalle),
    ("maskgit", ResizeRule::Maskgit),
    ("muse", ResizeRule::Muse),
    ("vit", ResizeRule::Vit),
    ("vqvae2", ResizeRule::Vqvae2),
    ("var", ResizeRule::Var),
    ("unitok", ResizeRule::Unitok),
    ("infinity", ResizeRule::Infinity),
    ("movq", ResizeRule::Movq),
    ("emu3", ResizeRule::Emu3),
    ("emu35", ResizeRule::Emu35),
    ("stretch", ResizeRule::Stretch),
    ("pad", ResizeRule::Pad),
    ("none", ResizeRule::None),
];

impl ResizeRule {
    /// Every rule, in the order of the documentation.
    pub fn all() -> impl Iterator<Item = ResizeRule> {
        NAMES.iter().map(|(_, rule)| *rule)
    }

    /// Refuses a version of Pillow beside a rule that Pillow has no part in: it would do nothing.
    ///
    /// # Errors
    /// Says so.
    pub fn check(self, version: PillowVersion) -> Result<(), Error> {
        let without = matches!(self, ResizeRule::Taming | ResizeRule::None);
        if without && version != PillowVersion::default() {
            return Err(Error::invalid(format!(
                "pillow {version} beside the resize rule {self}: Pillow has no part in that rule; \
                 leave it out"
            )));
        }
        Ok(())
    }

    /// Whether it gives a size of any aspect ratio by covering it and cutting its middle out.
    pub(crate) fn covers(self) -> bool {
        use ResizeRule::{Emu3, Emu35, Movq, None, Pad, Stretch, Unitok, Var, Vit};
        !matches!(self, None | Pad | Stretch | Vit | Var | Unitok | Movq | Emu3 | Emu35)
    }

    /// Whether pictures get sizes by their own, so that it takes none.
    pub(crate) fn varies(self) -> bool {
        matches!(self, ResizeRule::None | ResizeRule::Emu3 | ResizeRule::Emu35)
    }

    /// Whether the size alone is that of what comes out, whatever the picture's ratio.
    pub(super) fn stretches(self) -> bool {
        use ResizeRule::{Movq, Pad, Stretch, Vit};
        matches!(self, Pad | Stretch | Vit | Movq)
    }

    /// The name.
    pub fn name(self) -> &'static str {
        // Every variant stands in NAMES; a test walks them.
        NAMES.iter().find(|(_, rule)| *rule == self).map_or("none", |(name, _)| name)
    }
}

impl fmt::Display for ResizeRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ResizeRule {
    type Err = Error;

    fn from_str(text: &str) -> Result<ResizeRule, Error> {
        let known = NAMES.iter().find(|(name, _)| *name == text).map(|(_, rule)| *rule);
        known.ok_or_else(|| {
            let names: Vec<&str> = NAMES.iter().map(|(name, _)| *name).collect();
            Error::invalid(format!("no resize rule {text:?}; use one of: {}", names.join(", ")))
        })
    }
}

impl Serialize for ResizeRule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for ResizeRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<ResizeRule, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
