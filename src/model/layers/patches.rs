//! Owns what makes pixels of patches, and back, and what transformers put beside them: positions, and
//! TiTok's row of the class, patches and latents.

use candle_core::{D, Result, Tensor};
use candle_nn::var_builder::VarBuilder;

use super::transformer::{map, tokens};
use crate::model::topology::{RowMap, TokenRow};

/// A convolution whose stride is its window: each patch becomes a pixel.
#[derive(Debug, Clone)]
pub(crate) struct PatchEmbedding {
    /// `[dim, C, ph, pw]`
    weight: Tensor,
    /// `[dim]`
    bias: Tensor,
}

impl PatchEmbedding {
    /// Reads `weight` and `bias`.
    pub(crate) fn load(
        vb: VarBuilder,
        [channels, dim]: [usize; 2],
        [ph, pw]: [usize; 2],
    ) -> Result<PatchEmbedding> {
        let weight = vb.get((dim, channels, ph, pw), "weight")?;
        Ok(PatchEmbedding { weight, bias: vb.get(dim, "bias")? })
    }

    /// `[B, C, gh * ph, gw * pw]` to `[B, dim, gh, gw]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (dim, channels, ph, pw) = self.weight.dims4()?;
        let (b, _, height, width) = x.dims4()?;
        let (gh, gw) = (height / ph, width / pw);
        // [B, C, gh, ph, gw, pw] -> [B, gh, gw, C, ph, pw]
        let patches = x.reshape(&[b, channels, gh, ph, gw, pw])?.permute([0, 2, 4, 1, 3, 5])?;
        let patches = patches.reshape((b * gh * gw, channels * ph * pw))?;
        let weight = self.weight.reshape((dim, channels * ph * pw))?;
        let embedded = patches.matmul(&weight.t()?)?.broadcast_add(&self.bias)?;
        embedded.reshape((b, gh, gw, dim))?.permute((0, 3, 1, 2))?.contiguous()
    }
}

/// A transposed convolution whose stride is its window: each pixel becomes a patch.
#[derive(Debug, Clone)]
pub(crate) struct PatchPixels {
    /// `[dim, C, ph, pw]`
    weight: Tensor,
    /// `[C]`
    bias: Tensor,
}

impl PatchPixels {
    /// Reads `weight` and `bias`.
    pub(crate) fn load(
        vb: VarBuilder,
        [dim, channels]: [usize; 2],
        [ph, pw]: [usize; 2],
    ) -> Result<PatchPixels> {
        let weight = vb.get((dim, channels, ph, pw), "weight")?;
        Ok(PatchPixels { weight, bias: vb.get(channels, "bias")? })
    }

    /// `[B, dim, gh, gw]` to `[B, C, gh * ph, gw * pw]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (dim, channels, ph, pw) = self.weight.dims4()?;
        let (b, _, gh, gw) = x.dims4()?;
        let rows = x.permute((0, 2, 3, 1))?.reshape((b * gh * gw, dim))?;
        let pixels = rows.matmul(&self.weight.reshape((dim, channels * ph * pw))?)?;
        // [B, gh, gw, C, ph, pw] -> [B, C, gh, ph, gw, pw]
        let image = pixels.reshape(&[b, gh, gw, channels, ph, pw])?.permute([0, 3, 1, 4, 2, 5])?;
        let image = image.reshape((b, channels, gh * ph, gw * pw))?;
        image.broadcast_add(&self.bias.reshape((1, channels, 1, 1))?)
    }
}

/// A vector of its own for every pixel of a grid, or one for all.
#[derive(Debug, Clone)]
pub(crate) struct Positions {
    /// `[1, C, gh, gw]`, or `[1, C, 1, 1]`
    embedding: Tensor,
    /// Whether it is for a grid.
    grid: Option<[usize; 2]>,
}

impl Positions {
    /// Reads the `[1, T, C]` of that name.
    pub(crate) fn load(
        vb: &VarBuilder,
        name: &str,
        dim: usize,
        grid: Option<[usize; 2]>,
    ) -> Result<Positions> {
        let [height, width] = grid.unwrap_or([1, 1]);
        let embedding = vb.get((1, height * width, dim), name)?;
        Ok(Positions { embedding: map(&embedding, [height, width])?, grid })
    }

    /// `[B, C, gh, gw]` to the same shape.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (_, _, h, w) = x.dims4()?;
        match self.grid {
            Some([gh, gw]) if [h, w] != [gh, gw] => {
                candle_core::bail!("a grid of {h}x{w} tokens where the model has {gh}x{gw}")
            }
            _ => x.broadcast_add(&self.embedding),
        }
    }
}

/// What stands around the map in TiTok's row, `[tokens, C]` each, and what is added to it.
#[derive(Debug, Clone)]
pub(crate) struct TokensAround {
    /// In front of it.
    pub before: Tensor,
    /// Added to it.
    pub added: Tensor,
    /// Behind it.
    pub after: Tensor,
}

impl TokensAround {
    /// By the weights that `get` gives for a name and a shape.
    ///
    /// # Errors
    /// Those of `get`.
    pub(crate) fn load<E: From<candle_core::Error>>(
        row: TokenRow,
        dim: usize,
        get: impl Fn(&str, &[usize]) -> std::result::Result<Tensor, E>,
    ) -> std::result::Result<TokensAround, E> {
        let TokenRow { side, patches, latents, map } = row;
        let class = get(&format!("{side}.class_embedding"), &[1, dim])?;
        let image = get(&format!("{side}.positional_embedding"), &[1 + patches, dim])?;
        let behind = get(&format!("{side}.latent_token_positional_embedding"), &[latents, dim])?;
        let class = (class + image.narrow(0, 0, 1)?)?;
        let image = image.narrow(0, 1, patches)?.contiguous()?;
        Ok(match map {
            RowMap::Patches(name) => {
                let latents = get(name, &[latents, dim])?;
                TokensAround { before: class, added: image, after: (latents + behind)? }
            }
            RowMap::Latents(name) => {
                let mask = get(name, &[1, 1, dim])?.reshape((1, dim))?;
                let image = image.broadcast_add(&mask)?;
                let before = Tensor::cat(&[&class, &image], 0)?;
                let after = before.narrow(0, 0, 0)?;
                TokensAround { before, added: behind, after }
            }
        })
    }

    /// `[B, C, h, w]` to `[B, C, 1, T]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (batch, dim, height, width) = x.dims4()?;
        let expected = self.added.dim(0)?;
        let in_rows = self.after.dim(0)? > 0;
        if height * width != expected || (height != 1 && !in_rows) {
            candle_core::bail!(
                "a grid of {height}x{width} tokens where the model has 1x{expected}"
            );
        }
        let of_all = |rows: &Tensor| rows.broadcast_left(batch)?.contiguous();
        let middle = tokens(x)?.broadcast_add(&self.added)?;
        let row = match self.after.dim(0)? {
            0 => Tensor::cat(&[&of_all(&self.before)?, &middle], 1)?,
            _ => Tensor::cat(&[&of_all(&self.before)?, &middle, &of_all(&self.after)?], 1)?,
        };
        let count = row.dim(1)?;
        debug_assert_eq!(row.dim(2)?, dim);
        map(&row, [1, count])
    }
}

/// The pixels of a map from `first` on, as one of so many rows and columns.
pub(crate) fn take_pixels(x: &Tensor, first: usize, [height, width]: [usize; 2]) -> Result<Tensor> {
    let (b, c, _, _) = x.dims4()?;
    let pixels = x.flatten_from(2)?.narrow(2, first, height * width)?;
    pixels.contiguous()?.reshape((b, c, height, width))
}

/// The channels of T pixels, one pixel after another, as C rows of T: `[B, C, h, w]` to the same shape.
pub(crate) fn pixels_as_channels(x: &Tensor) -> Result<Tensor> {
    let (b, c, height, width) = x.dims4()?;
    tokens(x)?.reshape((b, c, height, width))
}

/// Codes mixed by the softmax of their logits.
#[derive(Debug, Clone)]
pub(crate) struct Mixture {
    /// `[codes, dim]`
    codes: Tensor,
}

impl Mixture {
    /// Reads `weight`.
    pub(crate) fn load(vb: VarBuilder, [codes, dim]: [usize; 2]) -> Result<Mixture> {
        Ok(Mixture { codes: vb.get((codes, dim), "weight")? })
    }

    /// `[B, codes, H, W]` to `[B, dim, H, W]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let (b, count, height, width) = x.dims4()?;
        let shares = candle_nn::ops::softmax(&tokens(x)?, D::Minus1)?;
        let mixed = shares.reshape((b * height * width, count))?.matmul(&self.codes)?;
        map(&mixed.reshape((b, height * width, ()))?, [height, width])
    }
}
