//! Owns DALL-E's dVAE (Ramesh et al. 2021, openai/DALL-E): four groups of bottleneck blocks on each
//! side, codes as the largest logit.

use super::emit::{BottleneckSpec, Emit, Resample};
use super::geometry::{ConvGeometry, Io};
use crate::error::Result;
use crate::model::config::DalleConfig;

/// What weights and biases are called.
const PARAMETERS: [&str; 2] = ["w", "b"];

/// Images to the logits of the codes.
pub(crate) fn encoder(e: &mut impl Emit, config: &DalleConfig, io: Io) -> Result<()> {
    let n = config.hidden;
    e.conv("encoder.blocks.input", n, ConvGeometry::same(7).named(PARAMETERS))?;
    let widths = [n, 2 * n, 4 * n, 8 * n];
    groups(e, "encoder", config, (widths, [3, 3, 3, 1]), Resample::Largest)?;
    e.latents("encoder.blocks.output.conv", io.dim, ConvGeometry::POINT.named(PARAMETERS))
}

/// What the decoder's first layer, a 1x1 convolution of one-hot codes, makes of each code (`init`
/// channels) to the means of the pixels; the scales of their Laplace distributions come after
/// these, and pictures don't need them.
pub(crate) fn decoder(e: &mut impl Emit, config: &DalleConfig, io: Io) -> Result<()> {
    let n = config.hidden;
    let widths = [8 * n, 4 * n, 2 * n, n];
    groups(e, "decoder", config, (widths, [1, 3, 3, 3]), Resample::Double)?;
    let outputs = [2 * io.channels, io.channels];
    e.conv_head("decoder.blocks.output.conv", outputs, ConvGeometry::POINT.named(PARAMETERS))
}

/// The groups of a side, `between` after all but the last, and the ReLU after that one.
fn groups(
    e: &mut impl Emit,
    side: &str,
    config: &DalleConfig,
    (widths, kernels): ([usize; 4], [usize; 4]),
    between: Resample,
) -> Result<()> {
    let layers = (4 * config.blocks) as f64;
    let spec = BottleneckSpec { kernels, gain: 1.0 / (layers * layers), parameters: PARAMETERS };
    for (g, width) in (1..).zip(widths) {
        for b in 1..=config.blocks {
            e.bottleneck(&format!("{side}.blocks.group_{g}.block_{b}"), width, spec)?;
        }
        if g < 4 {
            e.resample(between)?;
        }
    }
    e.relu()
}
