//! Owns the choice of the quantizer that a model and its settings ask for.

use candle_core::DType;

use crate::error::{Error, Result};
use crate::model::config::{ModelConfig, QuantizerRule};
use crate::train::network::parameters::Parameters;
use crate::train::quantizer::ema::EmaCodes;
use crate::train::quantizer::finite_scalar::FsqCodes;
use crate::train::quantizer::gradient::GradientCodes;
use crate::train::quantizer::lookup_free::LfqCodes;
use crate::train::quantizer::nearest::Nearest;
use crate::train::quantizer::residual::ResidualCodes;
use crate::train::quantizer::simvq::{SimVqCodes, table};
use crate::train::quantizer::trainable::TrainableQuantizer;
use crate::train::settings::TrainSettings;
use crate::train::settings::codebook::CodebookMethod;

/// The quantizer of a model. Its trained weights join `parameters`, to be initialized there.
///
/// # Errors
/// A rule that can't be trained.
pub(crate) fn build(
    model: &ModelConfig,
    settings: &TrainSettings,
    parameters: &Parameters,
) -> Result<Box<dyn TrainableQuantizer>> {
    let q = &model.quantizer;
    let nearest = Nearest {
        codes: q.codes,
        dim: q.dim,
        sphere: q.rule == QuantizerRule::L2Normalised,
        commitment: settings.commitment,
        code_weight: settings.codebook.code_weight,
        estimator: settings.estimator,
    };
    let c = &settings.codebook;
    Ok(match (q.rule, c.method) {
        (QuantizerRule::Fsq, _) => Box::new(FsqCodes::new(&q.levels)?),
        (QuantizerRule::Sign, _) => {
            let (latents, temperature) = c.signs();
            Box::new(LfqCodes {
                bits: q.dim,
                latents,
                commitment: settings.commitment,
                entropy_weight: c.entropy_weight,
                temperature,
            })
        }
        (QuantizerRule::L2 | QuantizerRule::L2Normalised, CodebookMethod::Simvq) => {
            let table = table(q.codes, q.dim, settings.seed);
            Box::new(SimVqCodes::new(nearest, c.start, table, parameters, DType::F32)?)
        }
        (QuantizerRule::L2 | QuantizerRule::L2Normalised, method) => {
            let level = |level| -> Result<Box<dyn TrainableQuantizer>> {
                let place = (level, q.depth);
                Ok(match method {
                    CodebookMethod::Ema => Box::new(EmaCodes::new(nearest, c, parameters.device())),
                    _ => Box::new(GradientCodes::new(nearest, place, c, parameters, DType::F32)?),
                })
            };
            if q.depth == 1 {
                return level(0);
            }
            let levels = (0..q.depth).map(level).collect::<Result<_>>()?;
            Box::new(ResidualCodes::new(nearest, levels, parameters.device()))
        }
        (rule, _) => {
            return Err(Error::invalid(format!("the quantizer rule {rule} can't be trained")));
        }
    })
}
