//! Holds the engine against candle on whole small models that chance draws, of every family and at
//! every instruction set: shapes that no published model has. `model` draws them, `compare` holds
//! two engines against each other.
//!
//! `VQTOK_PROPERTY_MODELS` says how many of each family are drawn, `VQTOK_PROPERTY_SEED` the first
//! one's seed; each further one's is one more. A finding names the seed that repeats it.

mod books;
mod compare;
pub(super) mod model;
mod transformers;

use compare::{Tally, compare};
use model::{Family, Random};

use crate::util::panics;

/// What a usual run of the tests has time for.
const MODELS: u64 = 50;

fn setting(name: &str, usual: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(usual)
}

/// Draws models of a family and demands that nothing is found.
fn hold(family: Family) {
    let (first, models) =
        (setting("VQTOK_PROPERTY_SEED", 1), setting("VQTOK_PROPERTY_MODELS", MODELS));
    let (mut all, mut findings) = (Tally::default(), Vec::new());
    for seed in first..first + models {
        let drawn = model::draw(family, Random::new(seed));
        let found = panics::catch(|| compare(&drawn, seed)).unwrap_or_else(Err);
        match found {
            Ok(tally) => all.add(&tally),
            Err(text) => findings.push(format!(
                "{text}\n  repeat it with VQTOK_PROPERTY_SEED={seed} VQTOK_PROPERTY_MODELS=1\n  \
                 {:?} {:?} {:?} for {:?}",
                drawn.config.architecture, drawn.config.quantizer, drawn.config.pixels, drawn.size
            )),
        }
    }
    println!("{family:?}: {models} models from seed {first}: {all}");
    let (count, some) = (findings.len(), &findings[..findings.len().min(5)]);
    assert!(count == 0, "{count} of {models} models of {family:?}:\n{}", some.join("\n"));
    assert!(all.explained * 100 <= all.tokens, "too many tokens differ: {all}");
}

#[test]
fn any_vqgan_gives_what_candle_gives() {
    hold(Family::Vqgan);
}

#[test]
fn any_vqvae_gives_what_candle_gives() {
    hold(Family::Vqvae);
}

#[test]
fn any_maskgit_gives_what_candle_gives() {
    hold(Family::Maskgit);
}

#[test]
fn any_open_magvit2_gives_what_candle_gives() {
    hold(Family::OpenMagvit2);
}

#[test]
fn any_dalle_gives_what_candle_gives() {
    hold(Family::Dalle);
}

#[test]
fn any_vqvae2_gives_what_candle_gives() {
    hold(Family::Vqvae2);
}

#[test]
fn any_vit_vqgan_gives_what_candle_gives() {
    hold(Family::VitVqgan);
}

#[test]
fn any_titok_gives_what_candle_gives() {
    hold(Family::Titok);
}

#[test]
fn any_unitok_gives_what_candle_gives() {
    hold(Family::Unitok);
}
