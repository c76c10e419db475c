//! Owns the recipes that come with vqtok.

/// The recipes that come with vqtok, by name.
pub const RECIPES: [(&str, &str); 7] = [
    ("quickstart", include_str!("../../pipelines/quickstart.toml")),
    ("mnist-vqvae", include_str!("../../pipelines/mnist-vqvae.toml")),
    ("cifar10-vqvae", include_str!("../../pipelines/cifar10-vqvae.toml")),
    ("photos-vqvae-64", include_str!("../../pipelines/photos-vqvae-64.toml")),
    ("photos-vqgan-64", include_str!("../../pipelines/photos-vqgan-64.toml")),
    ("vqgan-f8-256", include_str!("../../pipelines/vqgan-f8-256.toml")),
    ("vqgan-f16-256", include_str!("../../pipelines/vqgan-f16-256.toml")),
];
