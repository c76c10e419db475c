//! Owns what an evaluation comes to: figures of each model, over all images, by label and by size. Must
//! not know: how they are made.

use serde::Serialize;

use super::compare::Likeness;
use crate::data::SourceImage;

/// What models make of the same images.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct EvaluationReport {
    /// What the JSON is: `evaluation-figures.v1`.
    pub schema: &'static str,
    /// Images of the inputs.
    pub images: u64,
    /// The network of LPIPS, `alex` or `vgg`; None without weights.
    pub lpips_network: Option<&'static str>,
    /// Hex sha256 of LPIPS' weights.
    pub lpips_sha256: Option<String>,
    /// Hex sha256 of Inception's weights.
    pub inception_sha256: Option<String>,
    /// Images of the evaluation that others are held against, with features; None without one.
    pub reference_images: Option<u64>,
    /// In the order that they were given.
    pub models: Vec<ModelFigures>,
    /// The images that models do worst on, the worst first.
    pub worst: Vec<WorstImage>,
}

/// How well one model does.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelFigures {
    /// As it was named.
    pub model: String,
    /// Its family.
    pub family: String,
    /// Hex sha256 of its weights.
    pub weights_sha256: String,
    /// Images that couldn't be reconstructed.
    pub failed: u64,
    /// Reconstructions that are their image, pixel by pixel.
    pub equal: u64,
    /// Over all images.
    #[serde(flatten)]
    pub means: Means,
    /// PSNR of the mean squared error of all pixels, in dB.
    pub psnr_of_mean_mse_db: Option<f64>,
    /// Fréchet distance of the Inception features of all images and of their reconstructions; None
    /// without weights, or of fewer than two images.
    pub rfid: Option<f64>,
    /// Fréchet distance of the reconstructions' features and those of another evaluation's images; None
    /// without one.
    pub fid_to_reference: Option<f64>,
    /// Share of the codes that are used; of several levels their mean. None where codes are too many to
    /// be counted.
    pub usage: Option<f64>,
    /// exp of the entropy of the codes; of several levels their mean.
    pub perplexity: Option<f64>,
    /// Tokens of an image, on average.
    pub tokens_per_image: Option<f64>,
    /// Bits that a token takes whose left or upper neighbour is known; the mean over the levels' tokens.
    pub bits_per_token: Option<f64>,
    /// Each level of codes.
    pub levels: Vec<LevelFigures>,
    /// Images encoded and decoded a second.
    pub images_per_second: Option<f64>,
    /// By label.
    pub labels: Vec<GroupFigures>,
    /// Images that no label's figures are of, since labels are too many.
    pub unlisted_labels: u64,
    /// By the shorter side of the source, in powers of two.
    pub sizes: Vec<GroupFigures>,
}

/// Means over some images.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[non_exhaustive]
pub struct Means {
    /// Images compared.
    pub images: u64,
    /// Peak signal-to-noise ratio in dB: the mean over images that have one, as equal ones don't.
    pub psnr_db: Option<f64>,
    /// Structural similarity: the mean over images of at least 11 pixels a side.
    pub ssim: Option<f64>,
    /// The same at five scales: the mean over images of more than 160 pixels a side.
    pub ms_ssim: Option<f64>,
    /// LPIPS: the mean over images that aren't too small for the network.
    pub lpips: Option<f64>,
}

/// Some images.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct GroupFigures {
    /// A label, or `128-255` pixels.
    pub of: String,
    /// Their figures.
    #[serde(flatten)]
    pub means: Means,
}

/// The use of one level's codes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LevelFigures {
    /// Tokens in all.
    pub tokens: u64,
    /// Share of its codes used.
    pub usage: f64,
    /// exp of their entropy.
    pub perplexity: f64,
    /// Bits that a token takes by itself.
    pub bits: f64,
    /// Of those, bits that its left or upper neighbour tells; None of grids of one token.
    pub neighbour_bits: Option<f64>,
}

/// An image that models do badly on.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct WorstImage {
    /// Its key.
    pub key: String,
    /// Its label.
    pub label: Option<String>,
    /// By model; None where it couldn't be reconstructed.
    pub models: Vec<Option<ImageFigures>>,
    /// Where it lies.
    #[serde(skip)]
    pub(crate) source: SourceImage,
}

/// How alike one image and its reconstruction are.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ImageFigures {
    /// None where both are the same.
    pub psnr_db: Option<f64>,
    /// None under 11 pixels a side.
    pub ssim: Option<f64>,
    /// None up to 160 pixels a side.
    pub ms_ssim: Option<f64>,
    /// None without weights.
    pub lpips: Option<f64>,
}

impl From<&Likeness> for ImageFigures {
    fn from(likeness: &Likeness) -> ImageFigures {
        let &Likeness { ssim, ms_ssim, lpips, .. } = likeness;
        ImageFigures { psnr_db: likeness.psnr_db(), ssim, ms_ssim, lpips }
    }
}
