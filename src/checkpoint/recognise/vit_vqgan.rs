//! Owns the sizes of ViT-VQGAN.

use super::geometry::{Geometry, Optional, Shapes, codebook};
use super::published::Published;
use crate::error::{Error, Result};
#[allow(clippy::wildcard_imports, reason = "every configuration there is")]
use crate::model::config::*;

fn transformer(shapes: &Shapes, side: &str, published: &Published) -> Result<TransformerConfig> {
    let stem = format!("{side}.transformer");
    let dim = shapes.axis(&format!("{stem}.norm.weight"), 0)?;
    let inner = shapes.axis(&format!("{stem}.layers.0.0.fn.to_qkv.weight"), 0)? / 3;
    let (heads, head_dim) = heads(inner, side, published)?;
    Ok(TransformerConfig {
        dim,
        depth: shapes.count(&format!("{stem}.layers.")),
        heads,
        head_dim,
        mlp_dim: shapes.axis(&format!("{stem}.layers.0.1.fn.net.0.weight"), 0)?,
    })
}

/// Attention heads of one side of ViT-VQGAN, and their width, which is 64 where nobody says another.
fn heads(inner: usize, side: &str, published: &Published) -> Result<(usize, usize)> {
    let said = published.usize_of(side, "heads")?;
    let width = published.usize_of(side, "dim_head")?;
    let wide = width.map_or(64, |(width, _)| width);
    match said {
        Some((heads, _)) if heads.checked_mul(wide) == Some(inner) => Ok((heads, wide)),
        Some((heads, source)) => Err(Error::invalid(format!(
            "{source}: {heads} `heads` of width {wide} (`dim_head`), but the weights have {inner} \
             channels of attention: it belongs to another checkpoint"
        ))),
        None if inner > 0 && inner.is_multiple_of(wide) => Ok((inner / wide, wide)),
        None => Err(Error::invalid(format!(
            "the number of attention heads isn't visible in the weights ({inner} channels are no \
             multiple of {wide}); put the model's configuration, with its `heads` and `dim_head`, beside \
             the checkpoint as config.yaml{}",
            published.settings.or_config()
        ))),
    }
}

/// Tokens of a column and of a row, of an image of `stated` height and width, else of a square one.
fn grid(
    tokens: usize,
    patch: [usize; 2],
    stated: Option<[usize; 2]>,
    published: &Published,
) -> Result<[usize; 2]> {
    let grid = match stated {
        Some([height, width]) => [height / patch[0], width / patch[1]],
        None => [tokens.isqrt(); 2],
    };
    if grid[0] * grid[1] != tokens {
        return Err(Error::invalid(format!(
            "{tokens} positions don't form a {}x{} grid; put the model's configuration, with its \
             `image_size`, beside the checkpoint as config.yaml{}",
            grid[0],
            grid[1],
            published.settings.or_config()
        )));
    }
    Ok(grid)
}

/// What its shapes and its configuration tell.
///
/// # Errors
/// A weight that is missing; heads or a grid that the shapes don't have.
pub(super) fn infer(shapes: &Shapes, published: &Published) -> Result<Geometry> {
    let parts = shapes.parts("encoder.", "decoder.");
    let (side, patches, position) = match parts.encoder() {
        true => ("encoder", "encoder.to_patch_embedding.0.weight", "encoder.en_pos_embedding"),
        false => ("decoder", "decoder.to_pixel.1.weight", "decoder.de_pos_embedding"),
    };
    let patch = [shapes.axis(patches, 2)?, shapes.axis(patches, 3)?];
    let tokens = shapes.axis(position, 1)?;
    let stated = published.pair(&["image_size"])?;
    let grid = grid(tokens, patch, stated.map(|(size, _)| size), published)?;
    let own = transformer(shapes, side, published)?;
    let other = |wanted: &str| match parts {
        Parts::Both => transformer(shapes, wanted, published),
        _ => Ok(own.clone()),
    };
    let (codes, dim) = codebook(shapes)?;
    let config = VitVqganConfig {
        patch,
        grid,
        encoder: other("encoder")?,
        decoder: other("decoder")?,
        parts,
    };
    let heads = format!("{} of width 64", config.encoder.heads);
    let mut optional = vec![Optional { name: "attention heads", keys: &["heads"], default: heads }];
    if stated.is_none() {
        optional.push(Optional { name: "grid", keys: &[], default: "square".to_owned() });
    }
    let channels = shapes.axis(patches, 1)?;
    let side = Some((grid[0] * patch[0]) as u32);
    let architecture = Architecture::VitVqgan(config);
    Ok(Geometry { side, optional, ..Geometry::new(architecture, channels, (codes, dim)) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn heads_are_as_wide_as_the_configuration_says_and_the_weights_show() {
        let of = |inner: usize, config: Value| {
            heads(inner, "encoder", &Published::new(Some(&config), &[], None))
                .map_err(|error| error.to_string())
        };
        assert_eq!(of(128, json!({})), Ok((2, 64)));
        assert_eq!(of(128, json!({"encoder": {"heads": 2}})), Ok((2, 64)));
        assert_eq!(of(128, json!({"encoder": {"heads": 4, "dim_head": 32}})), Ok((4, 32)));
        assert_eq!(of(128, json!({"encoder": {"dim_head": 16}})), Ok((8, 16)));
        let other = of(128, json!({"encoder": {"heads": 4}})).unwrap_err();
        assert!(other.contains("4 `heads` of width 64") && other.contains("128"), "{other}");
        assert!(of(100, json!({})).unwrap_err().contains("no multiple of 64"));
        assert!(of(0, json!({})).is_err());
    }
}
