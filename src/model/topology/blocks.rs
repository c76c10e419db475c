//! Owns what says of which form the blocks of transformers are, and those of UniTok's convolutions.

/// A function of every number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nonlinearity {
    /// tanh(x).
    Tanh,
    /// x (1 + erf(x / sqrt 2)) / 2.
    Gelu,
}

/// A layer of a pre-norm transformer: its sizes, and the names of its weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TransformerSpec {
    /// Attention heads.
    pub heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width inside the feed-forward block.
    pub mlp_dim: usize,
    /// Epsilon of the norms.
    pub eps: f64,
    /// In front of the attention.
    pub attention_norm: &'static str,
    /// Weight of queries, keys and values of all heads, `[3 * heads * head_dim, C]`, and, where there is
    /// one, their bias.
    pub qkv: (&'static str, Option<&'static str>),
    /// Behind the attention.
    pub attention_out: &'static str,
    /// In front of the feed-forward block.
    pub mlp_norm: &'static str,
    /// That block.
    pub mlp: MlpSpec,
}

impl TransformerSpec {
    /// Channels of all heads.
    pub(crate) fn inner(&self) -> usize {
        self.heads * self.head_dim
    }
}

/// A feed-forward block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MlpSpec {
    /// Two linear maps with something between them.
    Plain {
        /// To its width.
        first: &'static str,
        /// Between both.
        between: Nonlinearity,
        /// And back.
        last: &'static str,
    },
    /// w2(gelu(w0(n)) * w1(n)) with n = norm(x) and GELU's approximation by tanh: the name in front of
    /// `norm`, `w0`, `w1`, `w2`.
    Gated(&'static str),
}

/// TiTok's row: the class, then as many patches as the grid has, then latents. The map is the patches,
/// or the latents; what stands for the others are weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TokenRow {
    /// What the names of its weights begin with: `class_embedding`, `positional_embedding` of the class
    /// and the patches, `latent_token_positional_embedding`.
    pub side: &'static str,
    /// Patches.
    pub patches: usize,
    /// Latents.
    pub latents: usize,
    /// What the map is.
    pub map: RowMap,
}

/// What the map is in a [`TokenRow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowMap {
    /// The patches; the latents are the weights of this name, `[latents, C]`.
    Patches(&'static str),
    /// The latents; every patch is the weight of this name, `[1, 1, C]`.
    Latents(&'static str),
}

/// An inverted bottleneck.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct InvertedSpec {
    /// Width inside.
    pub hidden: usize,
    /// What becomes of the map's size.
    pub side: InvertedSide,
    /// Epsilon of its norm.
    pub eps: f64,
}

/// What an inverted bottleneck makes of the size of its map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum InvertedSide {
    /// The convolution of channels has stride 2; the input's part is the mean of neighbours.
    Halves,
    /// It stays.
    Keeps,
    /// Every pixel twice, then a 3x3, inside (`up.conv`) and for the input (`shortcut.conv`).
    Doubles,
}
