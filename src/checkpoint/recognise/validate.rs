//! Owns what a tokenizer's weights must be before they are put to use: of a type that is read,
//! whole, with values that mean something; and which names beside them are none.

use std::collections::BTreeMap;

use super::keys::AVERAGES;
use super::sets::Chosen;
use crate::error::{Error, Result};
use crate::util::text::{printable, quoted};
use crate::weights::tensor::RawTensor;

/// Why a name that stands beside a tokenizer's weights is none of them.
pub(crate) fn reason_to_ignore(name: &str) -> Option<&'static str> {
    let first = name.split('.').next().unwrap_or(name);
    Some(match first {
        "loss" | "discriminator" | "perceptual_loss" | "lpips" | "lpips_vgg" | "lpips_alex"
        | "inception_model" => "part of the training loss",
        "n_averaged" | "initted" | "step" | "global_step" | "epoch" if first == name => "a counter",
        AVERAGES => "moving averages that aren't used",
        "ema" => "a second set of weights",
        "colorize" => "a palette for segmentation maps",
        "optimizer" | "optimizer_states" | "lr_schedulers" | "callbacks" | "loops" => {
            "training state"
        }
        _ if name.ends_with("num_batches_tracked") => "a counter",
        _ if name.starts_with("quantize.codebook_used") => "a usage counter",
        _ if name == "quantize.ema_vocab_hit_SV" || name.ends_with(".vocab_usage") => {
            "a usage counter"
        }
        _ if ["text_encoder.", "fc_norm.", "projection."]
            .iter()
            .any(|stem| name.starts_with(stem))
            || name == "logit_scale" =>
        {
            "it is for text beside pictures"
        }
        _ if [".cluster_size", ".embed_avg", ".cluster_size_ema", ".embed_ema"]
            .iter()
            .any(|end| name.ends_with(end)) =>
        {
            "training state of the codebook"
        }
        _ => return None,
    })
}

/// Errors where a needed weight is of a type that vqtok doesn't read.
pub(crate) fn refuse_unread(chosen: &Chosen, unread: &BTreeMap<String, String>) -> Result<()> {
    const NAMED_MAX: usize = 3;
    let needed: Vec<String> = chosen
        .names
        .iter()
        .filter(|(own, _)| reason_to_ignore(own).is_none())
        .filter_map(|(_, name)| Some(format!("{} ({})", quoted(name), unread.get(name)?)))
        .collect();
    if needed.is_empty() {
        return Ok(());
    }
    let more = if needed.len() > NAMED_MAX { ", ..." } else { "" };
    Err(Error::invalid(format!(
        "weights of types that vqtok doesn't read are in the checkpoint ({}): {}{more}; save it in \
         float32, float16 or bfloat16",
        needed.len(),
        needed[..needed.len().min(NAMED_MAX)].join(", ")
    )))
}

/// Errors where a weight is stored in factors, whose product depends on how it is computed.
pub(crate) fn refuse_taken_apart(chosen: &Chosen) -> Result<()> {
    for (own, name) in &chosen.names {
        let ends = [".weight_v", ".weight_orig", ".parametrizations.weight.original1"];
        if reason_to_ignore(own).is_some() || !ends.iter().any(|end| own.ends_with(end)) {
            continue;
        }
        return Err(Error::invalid(format!(
            "{} is the factor of a normalised weight (weight_norm, spectral_norm); fold it with \
             torch.nn.utils.remove_weight_norm, remove_spectral_norm or \
             parametrize.remove_parametrizations and save the checkpoint again",
            quoted(name)
        )));
    }
    Ok(())
}

/// Errors where the values of a weight, `source` in its checkpoint, can't be those of a trained one.
pub(crate) fn refuse_values(name: &str, source: &str, tensor: &RawTensor) -> Result<()> {
    if !tensor.dtype().is_float() {
        return Err(Error::invalid(format!(
            "tensor `{}` holds {} values, as quantised weights do, whose scale vqtok doesn't know; \
             save the checkpoint in float32, float16 or bfloat16",
            printable(source),
            tensor.dtype().as_str()
        )));
    }
    if holds_one_code(name, tensor) {
        return Err(Error::invalid(format!(
            "all codes of the codebook `{}` are the same, so that every token would be 0: the \
             checkpoint was never trained or is damaged; take another",
            printable(source)
        )));
    }
    Ok(())
}

/// Whether a codebook's codes can't be told apart. Looks no further than the first that can;
/// codes that aren't finite are reported elsewhere.
fn holds_one_code(name: &str, tensor: &RawTensor) -> bool {
    let (bytes, size) = (tensor.bytes(), tensor.dtype().size());
    let alike = match (name, tensor.shape()) {
        ("quantize.embedding.weight", [codes, dim]) if *codes > 1 && *dim > 0 => {
            let mut rows = bytes.chunks_exact(dim * size);
            let first = rows.next();
            rows.all(|row| Some(row) == first)
        }
        // VQ-VAE-2's lie side by side: (dim, codes).
        ("quantize_t.embed" | "quantize_b.embed", [_, codes]) if *codes > 1 => {
            bytes.chunks_exact(codes * size).all(|channel| {
                let mut values = channel.chunks_exact(size);
                let first = values.next();
                values.all(|value| Some(value) == first)
            })
        }
        _ => false,
    };
    alike && tensor.to_f32().iter().all(|value| value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codebook_of_one_code_is_refused() {
        use crate::weights::tensor::Dtype;
        let tensor = |shape: &[usize], values: &[f32]| {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            RawTensor::new(Dtype::F32, shape.to_vec(), bytes.into()).unwrap()
        };
        let codebook = "quantize.embedding.weight";
        let cases: [(&str, &[usize], &[f32], bool); 8] = [
            (codebook, &[3, 2], &[0.0; 6], true),
            (codebook, &[3, 2], &[1.0, 2.0, 1.0, 2.0, 1.0, 2.0], true),
            (codebook, &[3, 2], &[1.0, 2.0, 1.0, 2.0, 1.0, 2.5], false),
            (codebook, &[3, 2], &[f32::NAN; 6], false),
            (codebook, &[1, 2], &[0.0; 2], false),
            ("quantize_b.embed", &[2, 2], &[1.0, 1.0, 2.0, 2.0], true),
            ("quantize_b.embed", &[2, 2], &[1.0, 2.0, 1.0, 2.0], false),
            ("encoder.conv_in.weight", &[3, 2], &[0.0; 6], false),
        ];
        for (name, shape, values, expected) in cases {
            assert_eq!(holds_one_code(name, &tensor(shape, values)), expected, "{name} {values:?}");
        }
    }
}
