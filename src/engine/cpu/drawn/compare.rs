//! Holds our engine against candle on one model: latents and pixels within float32's error, every
//! code the right one for the latents it came of, the same refusals, the same failures.
//!
//! Where both are right for their own latents, codes differ only by what the latents differ: two
//! codes lie as near to one as to the other but for rounding.

use std::fmt;

use candle_core::{Device, Tensor};

use super::books::Books;
use super::model::Drawn;
use crate::engine::candle::CandleEngine;
use crate::engine::cpu::CpuEngine;
use crate::engine::cpu::tests::random;
use crate::engine::interface::{Encoded, Engine, Failed, PixelBatch};
use crate::kernels::Isa;
use crate::model::Model;
use crate::weights::store::Weights;

/// Latents' largest difference over their largest magnitude; Winograd's tiles cost a digit against
/// the plain sum.
const LATENTS: f64 = 5e-5;

/// The same of a decoder's floats, at least of 1: the bound of the reference data's tests.
const PIXELS: f64 = 2e-4;

/// Latents of each image and level, rows `[tokens, D]`.
type Latents = Vec<Vec<Vec<f32>>>;

/// What was compared.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Tokens of our engine.
    pub tokens: usize,
    /// Of these, other than candle's, and explained.
    pub explained: usize,
    /// The largest differences of latents and pixels over their magnitude.
    worst: [f64; 2],
    /// Models whose differences were held against what a change of one unit in the last place makes.
    delicate: usize,
    /// Models that both engines refused to encode or decode with.
    refused: usize,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Tally) {
        self.tokens += other.tokens;
        self.explained += other.explained;
        self.delicate += other.delicate;
        self.refused += other.refused;
        for (all, one) in self.worst.iter_mut().zip(other.worst) {
            *all = all.max(one);
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [latents, pixels] = self.worst;
        write!(
            f,
            "{} tokens, {} differ by rounding; latents within {latents:.1e}, pixels within \
             {pixels:.1e}, {} delicate; {} refusals of both",
            self.tokens, self.explained, self.delicate, self.refused
        )
    }
}

/// What is found, in one line, or what was compared.
pub(super) fn compare(drawn: &Drawn, seed: u64) -> Result<Tally, String> {
    let mut tally = Tally::default();
    let mut reference = candle(drawn, &drawn.weights.clone().into());
    let theirs = reference.encode(&drawn.images).map_err(|e| e.to_string());
    let latents = match &theirs {
        Ok(_) => reference_latents(&reference, &drawn.images),
        Err(_) => Vec::new(),
    };
    let pictures = drawn.codes.as_ref().map(|codes| decoded(&reference, codes));
    for isa in Isa::available() {
        let at = |what: String| format!("at {}: {what}", isa.name());
        let mut engine =
            CpuEngine::new(drawn.config.clone(), drawn.weights.clone(), isa).expect("a model");
        let ours = engine.encode(&drawn.images).map_err(|e| e.to_string());
        let mut one = Tally::default();
        match (ours, &theirs) {
            (Ok(ours), Ok(theirs)) => {
                let mut sides = Sides { drawn, tally: &mut one, seed, latents: &latents };
                sides.encoded(&mut engine, &ours, theirs).map_err(at)?;
                sides.alone(&mut engine, &ours).map_err(at)?;
            }
            (Err(_), Err(_)) => one.refused += 1,
            (ours, theirs) => {
                let told = [ours.err(), theirs.as_ref().err().cloned()];
                return Err(at(format!("only one engine encodes: {told:?}")));
            }
        }
        if let (Some(codes), Some(theirs)) = (&drawn.codes, &pictures) {
            pixels(drawn, &mut engine, codes, (theirs, seed), &mut one).map_err(at)?;
        }
        tally.add(&one);
    }
    Ok(tally)
}

fn candle(drawn: &Drawn, weights: &Weights) -> CandleEngine {
    let weights = weights.clone();
    CandleEngine::new(Model::load(drawn.config.clone(), weights, &Device::Cpu).expect("a model"))
}

fn rows(latents: &Tensor) -> Vec<f32> {
    let rows = latents.permute((0, 2, 3, 1)).expect("four dimensions").contiguous().expect("rows");
    rows.flatten_all().expect("a row").to_vec1().expect("floats")
}

fn reference_latents(engine: &CandleEngine, batch: &PixelBatch) -> Latents {
    let images = engine.latents(batch).expect("latents");
    images.iter().map(|levels| levels.iter().map(rows).collect()).collect()
}

/// The two engines' encodings of one model.
struct Sides<'a> {
    drawn: &'a Drawn,
    tally: &'a mut Tally,
    seed: u64,
    /// Candle's.
    latents: &'a Latents,
}

impl Sides<'_> {
    fn encoded(
        &mut self,
        engine: &mut CpuEngine,
        ours: &Encoded,
        theirs: &Encoded,
    ) -> Result<(), String> {
        same_failures("encoding", &ours.failed, &theirs.failed)?;
        if !ours.failed.is_empty() {
            return Ok(());
        }
        let shapes = |e: &Encoded| -> Vec<[usize; 3]> {
            e.levels.iter().map(|level| [level.height, level.width, level.codes.len()]).collect()
        };
        if shapes(ours) != shapes(theirs) {
            return Err(format!("levels {:?}, not {:?}", shapes(ours), shapes(theirs)));
        }
        let own = engine.latents(&self.drawn.images).map_err(|e| e.to_string())?;
        let mut allowed = LATENTS;
        for (index, own) in own.iter().flatten().enumerate() {
            let off = off(own, &self.latents[index][0], 0.0);
            self.tally.worst[0] = self.tally.worst[0].max(off);
            if off > allowed {
                self.tally.delicate += 1;
                allowed = self.explained(off)?;
            }
        }
        for index in 0..ours.count {
            let codes = |e: &Encoded| -> Vec<Vec<u32>> {
                e.levels.iter().map(|level| level.codes_of(index, e.count).to_vec()).collect()
            };
            let (ours, theirs) = (codes(ours), codes(theirs));
            let own = own.as_ref().map(|own| &own[index]);
            self.image(index, own, (&ours, &theirs))?;
        }
        Ok(())
    }

    /// How far latents may differ where a change of the weights by a unit in the last place makes
    /// a difference of its own.
    fn explained(&self, off: f64) -> Result<f64, String> {
        let shaken = reference_latents(
            &candle(self.drawn, &shaken(self.drawn, self.seed)),
            &self.drawn.images,
        );
        let pairs = shaken.iter().zip(self.latents);
        let moved = pairs.map(|(a, b)| self::off(&a[0], &b[0], 0.0)).fold(0.0, f64::max);
        delicate("latents", off, moved)
    }

    /// Codes of one image: each right for the latents that it came of.
    fn image(
        &mut self,
        index: usize,
        own: Option<&Vec<f32>>,
        (ours, theirs): (&[Vec<u32>], &[Vec<u32>]),
    ) -> Result<(), String> {
        let books = Books::new(self.drawn);
        let two = matches!(self.drawn.config.levels(), 2)
            && books.per_level.len() == 2
            && self.drawn.config.quantizer.depth == 1
            && self.drawn.config.quantizer.books == 1;
        self.tally.tokens += ours.iter().map(Vec::len).sum::<usize>();
        let differ = |l: usize| ours[l].iter().zip(&theirs[l]).filter(|(a, b)| a != b).count();
        self.tally.explained += (0..ours.len()).map(differ).sum::<usize>();
        if two {
            // Finest first, and quantized last: of other top codes come other latents.
            for level in [1, 0] {
                let latents = &self.latents[index][level];
                books.right(level, latents, &theirs[level], 0.0).map_err(by("candle"))?;
                books.right(level, latents, &ours[level], LATENTS).map_err(by("ours"))?;
                if differ(level) > 0 {
                    break;
                }
            }
            return Ok(());
        }
        let latents = &self.latents[index][0];
        books.all_right(latents, theirs).map_err(by("candle"))?;
        let own = own.ok_or("no latents of our own")?;
        books.all_right(own, ours).map_err(by("ours"))
    }

    /// The first image alone gives what it gives in the batch.
    fn alone(&self, engine: &mut CpuEngine, whole: &Encoded) -> Result<(), String> {
        let pixels = self.drawn.images.image(0).to_vec();
        let one = PixelBatch { pixels, count: 1, ..self.drawn.images };
        let alone = engine.encode(&one).map_err(|e| e.to_string())?;
        let firsts = alone.levels.iter().zip(&whole.levels);
        let same = |(a, b): (&crate::engine::CodeGrid, &crate::engine::CodeGrid)| {
            let bits = |d: &[f32]| d.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            let own = bits(&a.distances) == bits(&b.distances[..a.distances.len()]);
            own && a.codes == b.codes[..a.codes.len()]
        };
        match firsts.into_iter().all(same) {
            true => Ok(()),
            false => Err("an image alone gives other codes than in its batch".to_owned()),
        }
    }
}

fn by(engine: &'static str) -> impl Fn(String) -> String {
    move |text| format!("{engine}: {text}")
}

fn same_failures(what: &str, ours: &Failed, theirs: &Failed) -> Result<(), String> {
    match ours == theirs {
        true => Ok(()),
        false => Err(format!("{what} fails for {ours:?}, by candle for {theirs:?}")),
    }
}

/// The largest difference over the largest magnitude, which counts as at least `least`.
fn off(a: &[f32], b: &[f32], least: f64) -> f64 {
    assert_eq!(a.len(), b.len(), "as many values");
    let largest = b.iter().fold(least, |most, v| most.max(f64::from(v.abs())));
    let pairs = a.iter().zip(b);
    let most = pairs.map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
    if most == 0.0 { 0.0 } else { most / largest }
}

/// Refuses a difference that is much more than what a change in the last place makes.
fn delicate(what: &str, off: f64, moved: f64) -> Result<f64, String> {
    match off <= 100.0 * moved {
        true => Ok(off),
        false => Err(format!(
            "{what} differ by {off:.1e} of the largest, where a unit in the weights' last place \
             moves them by {moved:.1e}"
        )),
    }
}

/// The weights, each changed by up to a unit in its last place.
fn shaken(drawn: &Drawn, seed: u64) -> Weights {
    let shake = |tensor: &Tensor| {
        let values: Vec<f32> = tensor.flatten_all().expect("flat").to_vec1().expect("floats");
        let chance = random(seed, values.len());
        let values: Vec<f32> =
            values.iter().zip(chance).map(|(v, c)| v * (1.0 + c * f32::EPSILON)).collect();
        Tensor::from_vec(values, tensor.shape(), &Device::Cpu).expect("a tensor")
    };
    let all = drawn.weights.iter().map(|(name, tensor)| (name.clone(), shake(tensor)));
    all.collect::<std::collections::BTreeMap<_, _>>().into()
}

/// What candle makes of codes: floats `[pixels, C]` of each picture, or why there is none; which
/// failed; its bytes.
type Pictures = Result<(Vec<Vec<f32>>, Failed, Vec<u8>), String>;

fn decoded(engine: &CandleEngine, codes: &Encoded) -> Pictures {
    let floats = engine.decode_floats(codes).map_err(|e| e.to_string())?;
    // Only reads the model: the trait asks for more.
    let rule = engine.config().pixels.output;
    let floats: Vec<Vec<f32>> = floats.iter().map(rows).collect();
    let bytes = floats.iter().flatten().map(|&x| rule.to_byte(x)).collect();
    let reason = |f: &Vec<f32>| crate::model::finite::pixels(engine.config(), codes.grid(), f);
    Ok((floats.clone(), crate::engine::interface::failed(floats.iter().map(reason)), bytes))
}

fn pixels(
    drawn: &Drawn,
    engine: &mut CpuEngine,
    codes: &Encoded,
    (theirs, seed): (&Pictures, u64),
    tally: &mut Tally,
) -> Result<(), String> {
    let ours = engine.decode(codes).map_err(|e| e.to_string());
    let (ours, (floats, failed, bytes)) = match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => (ours, theirs),
        (Err(_), Err(_)) => {
            tally.refused += 1;
            return Ok(());
        }
        (ours, theirs) => {
            let told = [ours.err(), theirs.as_ref().err().cloned()];
            return Err(format!("only one engine decodes: {told:?}"));
        }
    };
    same_failures("decoding", &ours.failed, failed)?;
    if !failed.is_empty() {
        return Ok(());
    }
    let own = engine.decode_floats(codes).map_err(|e| e.to_string())?;
    let pairs = own.iter().zip(floats);
    let most = pairs.map(|(own, theirs)| off(own, theirs, 1.0)).fold(0.0, f64::max);
    tally.worst[1] = tally.worst[1].max(most);
    if most > PIXELS {
        tally.delicate += 1;
        let other = decoded(&candle(drawn, &shaken(drawn, seed)), codes)?.0;
        let moved = other.iter().zip(floats).map(|(a, b)| off(a, b, 1.0)).fold(0.0, f64::max);
        return delicate("pixels", most, moved).map(drop);
    }
    let apart = ours.pictures.pixels.iter().zip(bytes).map(|(a, b)| a.abs_diff(*b)).max();
    // Values far beyond the range are clamped; within it, a byte is a 255th.
    match apart.unwrap_or(0) {
        0 | 1 => Ok(()),
        apart => Err(format!("bytes differ by {apart}")),
    }
}
