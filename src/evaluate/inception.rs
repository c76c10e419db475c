//! Owns the features of whole sets' distance: the Inception v3 of TensorFlow's FID, as `pytorch-fid`
//! publishes it, 2,048 numbers a picture.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use image::RgbImage;

use super::network::{Conv, Geometry, Map, Pool, Runner, pool};
use super::weights::Tensors;
use crate::checkpoint;
use crate::error::{Error, Result};
use crate::kernels::Isa;
use crate::weights::digests::{self, NotFinite};

/// Numbers that describe a picture.
pub(crate) const FEATURES: u64 = 2048;
/// Side that pictures are resized to.
const SIDE: usize = 299;
/// Of the batch norms.
const EPSILON: f64 = 0.001;

/// Rows and columns of a window.
type Sides = [usize; 2];

const ONE: Sides = [1, 1];
const THREE: Sides = [3, 3];
const FIVE: Sides = [5, 5];
const ROW: Sides = [1, 7];
const COLUMN: Sides = [7, 1];
const SHORT_ROW: Sides = [1, 3];
const SHORT_COLUMN: Sides = [3, 1];

/// Convolutions behind each other: names, outputs, windows.
type Chain = &'static [(&'static str, usize, Sides)];

/// How a block's convolution ends where it halves the map: a window of 3, step 2.
const HALVE: Geometry = Geometry::square(3, 2, 0);

/// A branch of a block.
struct Branch {
    /// A pooling in front.
    pool: Option<(Pool, [usize; 3])>,
    convs: Vec<Conv>,
    /// Convolutions of what the others give, side by side.
    fork: Vec<Conv>,
}

/// Branches whose maps stand side by side.
struct Block(Vec<Branch>);

/// The network.
pub(crate) struct Inception {
    isa: Isa,
    /// Convolutions in front of the blocks, and whether a pooling stands behind.
    stem: Vec<(Conv, bool)>,
    blocks: Vec<Block>,
    /// Hex sha256 of its weights.
    pub(crate) digest: String,
}

/// Makes blocks of a network's tensors.
struct Maker<'a> {
    tensors: Tensors<'a>,
    inputs: usize,
    name: &'static str,
    branches: Vec<Branch>,
}

impl Maker<'_> {
    fn begin(&mut self, name: &'static str) {
        self.name = name;
    }

    fn convs(&self, chain: Chain, last: Option<Geometry>) -> Result<Vec<Conv>> {
        let (mut inputs, mut convs) = (self.inputs, Vec::new());
        for (at, &(name, outputs, window)) in chain.iter().enumerate() {
            let geometry = match last {
                Some(geometry) if at + 1 == chain.len() => geometry,
                _ => Geometry::same(window),
            };
            let name = format!("{}.{name}", self.name);
            convs.push(self.tensors.conv_norm(&name, [outputs, inputs], geometry, EPSILON)?);
            inputs = outputs;
        }
        Ok(convs)
    }

    fn branch(&mut self, chain: Chain) -> Result<()> {
        let convs = self.convs(chain, None)?;
        self.branches.push(Branch { pool: None, convs, fork: Vec::new() });
        Ok(())
    }

    fn halving(&mut self, chain: Chain) -> Result<()> {
        let convs = self.convs(chain, Some(HALVE))?;
        self.branches.push(Branch { pool: None, convs, fork: Vec::new() });
        Ok(())
    }

    /// Both of `names` read what the chain gives.
    fn forked(&mut self, chain: Chain, names: [&str; 2]) -> Result<()> {
        let convs = self.convs(chain, None)?;
        let inputs = convs.last().map_or(self.inputs, |conv| conv.outputs);
        let windows = [SHORT_ROW, SHORT_COLUMN];
        let fork = names.into_iter().zip(windows).map(|(name, window)| {
            let (name, geometry) = (format!("{}.{name}", self.name), Geometry::same(window));
            self.tensors.conv_norm(&name, [384, inputs], geometry, EPSILON)
        });
        let fork = fork.collect::<Result<_>>()?;
        self.branches.push(Branch { pool: None, convs, fork });
        Ok(())
    }

    fn pooled(&mut self, how: Pool, outputs: usize) -> Result<()> {
        let name = format!("{}.branch_pool", self.name);
        let sizes = [outputs, self.inputs];
        let conv = self.tensors.conv_norm(&name, sizes, Geometry::same(ONE), EPSILON)?;
        let pool = Some((how, [3, 1, 1]));
        self.branches.push(Branch { pool, convs: vec![conv], fork: Vec::new() });
        Ok(())
    }

    fn halved(&mut self) {
        let pool = Some((Pool::Largest, [3, 2, 0]));
        self.branches.push(Branch { pool, convs: Vec::new(), fork: Vec::new() });
    }

    fn block(&mut self) -> Block {
        let branches = std::mem::take(&mut self.branches);
        let outputs = |branch: &Branch| match (&branch.fork[..], branch.convs.last()) {
            ([], Some(conv)) => conv.outputs,
            ([], None) => self.inputs,
            (fork, _) => fork.iter().map(|conv| conv.outputs).sum(),
        };
        self.inputs = branches.iter().map(outputs).sum();
        Block(branches)
    }

    /// 35x35.
    fn block_a(&mut self, name: &'static str, pooled: usize) -> Result<Block> {
        self.begin(name);
        self.branch(&[("branch1x1", 64, ONE)])?;
        self.branch(&[("branch5x5_1", 48, ONE), ("branch5x5_2", 64, FIVE)])?;
        self.branch(&[
            ("branch3x3dbl_1", 64, ONE),
            ("branch3x3dbl_2", 96, THREE),
            ("branch3x3dbl_3", 96, THREE),
        ])?;
        self.pooled(Pool::Mean, pooled)?;
        Ok(self.block())
    }

    /// 35x35 to 17x17.
    fn block_b(&mut self) -> Result<Block> {
        self.begin("Mixed_6a");
        self.halving(&[("branch3x3", 384, THREE)])?;
        self.halving(&[
            ("branch3x3dbl_1", 64, ONE),
            ("branch3x3dbl_2", 96, THREE),
            ("branch3x3dbl_3", 96, THREE),
        ])?;
        self.halved();
        Ok(self.block())
    }

    /// 17x17, by `chains` of as many channels as the block has inside.
    fn block_c(&mut self, name: &'static str, [short, long]: [Chain; 2]) -> Result<Block> {
        self.begin(name);
        self.branch(&[("branch1x1", 192, ONE)])?;
        self.branch(short)?;
        self.branch(long)?;
        self.pooled(Pool::Mean, 192)?;
        Ok(self.block())
    }

    /// 17x17 to 8x8.
    fn block_d(&mut self) -> Result<Block> {
        self.begin("Mixed_7a");
        self.halving(&[("branch3x3_1", 192, ONE), ("branch3x3_2", 320, THREE)])?;
        self.halving(&[
            ("branch7x7x3_1", 192, ONE),
            ("branch7x7x3_2", 192, ROW),
            ("branch7x7x3_3", 192, COLUMN),
            ("branch7x7x3_4", 192, THREE),
        ])?;
        self.halved();
        Ok(self.block())
    }

    /// 8x8.
    fn block_e(&mut self, name: &'static str, how: Pool) -> Result<Block> {
        self.begin(name);
        self.branch(&[("branch1x1", 320, ONE)])?;
        self.forked(&[("branch3x3_1", 384, ONE)], ["branch3x3_2a", "branch3x3_2b"])?;
        self.forked(
            &[("branch3x3dbl_1", 448, ONE), ("branch3x3dbl_2", 384, THREE)],
            ["branch3x3dbl_3a", "branch3x3dbl_3b"],
        )?;
        self.pooled(how, 192)?;
        Ok(self.block())
    }
}

/// The chains of a block of 17x17 with so many channels inside.
macro_rules! chains {
    ($inside:literal) => {{
        const SHORT: Chain = &[
            ("branch7x7_1", $inside, ONE),
            ("branch7x7_2", $inside, ROW),
            ("branch7x7_3", 192, COLUMN),
        ];
        const LONG: Chain = &[
            ("branch7x7dbl_1", $inside, ONE),
            ("branch7x7dbl_2", $inside, COLUMN),
            ("branch7x7dbl_3", $inside, ROW),
            ("branch7x7dbl_4", $inside, COLUMN),
            ("branch7x7dbl_5", 192, ROW),
        ];
        [SHORT, LONG]
    }};
}

impl Inception {
    /// From a file of `pytorch-fid`'s weights.
    ///
    /// # Errors
    /// A file that can't be read; a weight that is missing, misshapen or not finite.
    pub(crate) fn open(path: &Path) -> Result<Inception> {
        let raw = checkpoint::open(path)?;
        let mut all = BTreeMap::new();
        for (name, tensor) in &raw.tensors {
            if name.ends_with("num_batches_tracked") || name.starts_with("fc.") {
                continue;
            }
            let tensor = tensor.to_candle(&Device::Cpu)?;
            let values: Vec<f32> = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            if let Some(found) = NotFinite::among(&values) {
                return Err(Error::corrupt(path, found.in_words(name, tensor.dims())));
            }
            all.insert(name.clone(), tensor);
        }
        Inception::new(path, &all)
    }

    fn new(path: &Path, all: &BTreeMap<String, Tensor>) -> Result<Inception> {
        let tensors = Tensors { path, what: "pytorch-fid's Inception v3", all };
        let layers = [
            ("Conv2d_1a_3x3", 32, HALVE, false),
            ("Conv2d_2a_3x3", 32, Geometry::square(3, 1, 0), false),
            ("Conv2d_2b_3x3", 64, Geometry::same(THREE), true),
            ("Conv2d_3b_1x1", 80, Geometry::same(ONE), false),
            ("Conv2d_4a_3x3", 192, Geometry::square(3, 1, 0), true),
        ];
        let (mut stem, mut inputs) = (Vec::new(), 3);
        for (name, outputs, geometry, pooled) in layers {
            let conv = tensors.conv_norm(name, [outputs, inputs], geometry, EPSILON)?;
            stem.push((conv, pooled));
            inputs = outputs;
        }
        let mut maker = Maker { tensors, inputs, name: "", branches: Vec::new() };
        let blocks = vec![
            maker.block_a("Mixed_5b", 32)?,
            maker.block_a("Mixed_5c", 64)?,
            maker.block_a("Mixed_5d", 64)?,
            maker.block_b()?,
            maker.block_c("Mixed_6b", chains!(128))?,
            maker.block_c("Mixed_6c", chains!(160))?,
            maker.block_c("Mixed_6d", chains!(160))?,
            maker.block_c("Mixed_6e", chains!(192))?,
            maker.block_d()?,
            maker.block_e("Mixed_7b", Pool::Mean)?,
            // As it was trained: its last pooling takes the largest.
            maker.block_e("Mixed_7c", Pool::Largest)?,
        ];
        let digest = digests::of_tensors(all)?;
        Ok(Inception { isa: Isa::detect()?, stem, blocks, digest })
    }

    /// The features of a picture.
    pub(crate) fn features(&self, picture: &RgbImage) -> Vec<f32> {
        // A map of that side is large enough for every window.
        self.of(resized(picture, SIDE)).unwrap_or_default()
    }

    fn of(&self, mut map: Map) -> Option<Vec<f32>> {
        let mut with = Runner::new(self.isa);
        for (conv, pooled) in &self.stem {
            map = conv.run(&mut with, &map)?.relu();
            if *pooled {
                map = pool(&map, Pool::Largest, [3, 2, 0])?;
            }
        }
        for block in &self.blocks {
            map = block.run(&mut with, &map)?;
        }
        let mut sums = vec![0.0_f64; map.channels];
        for pixel in map.pixels() {
            sums.iter_mut().zip(pixel).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        let pixels = (map.height * map.width) as f64;
        Some(sums.into_iter().map(|sum| (sum / pixels) as f32).collect())
    }
}

impl Block {
    fn run(&self, with: &mut Runner, map: &Map) -> Option<Map> {
        let mut maps = Vec::new();
        for Branch { pool: front, convs, fork } in &self.0 {
            let mut own = front.map(|(how, window)| pool(map, how, window));
            if own.as_ref().is_some_and(Option::is_none) {
                return None;
            }
            let mut branch = own.take().flatten();
            for conv in convs {
                branch = Some(conv.run(with, branch.as_ref().unwrap_or(map))?.relu());
            }
            for conv in fork {
                maps.push(conv.run(with, branch.as_ref().unwrap_or(map))?.relu());
            }
            if fork.is_empty() {
                maps.extend(branch);
            }
        }
        Some(Map::beside(&maps))
    }
}

/// From [0, 1] to that side by PyTorch's bilinear rule without aligned corners and without smoothing,
/// then to [-1, 1].
fn resized(picture: &RgbImage, side: usize) -> Map {
    let taps = |from: u32| -> Vec<(usize, usize, f32)> {
        let scale = from as f32 / side as f32;
        let tap = |at: usize| {
            let place = ((at as f32 + 0.5) * scale - 0.5).max(0.0);
            let first = place as usize;
            (first, (first + 1).min(from as usize - 1), place - first as f32)
        };
        (0..side).map(tap).collect()
    };
    let (rows, columns) = (taps(picture.height()), taps(picture.width()));
    let bytes = picture.as_raw();
    let width = picture.width() as usize;
    let mut map = Map::new(side, side, 3);
    let places = rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)));
    for (to, ((y0, y1, down), (x0, x1, across))) in map.data.chunks_exact_mut(3).zip(places) {
        for (c, to) in to.iter_mut().enumerate() {
            let at = |y: &usize, x: &usize| f32::from(bytes[(y * width + x) * 3 + c]) / 255.0;
            let above = at(y0, x0) * (1.0 - across) + at(y0, x1) * across;
            let below = at(y1, x0) * (1.0 - across) + at(y1, x1) * across;
            *to = 2.0 * (above * (1.0 - down) + below * down) - 1.0;
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::peers::{generated, picture, pictures};

    /// Every weight by its name.
    fn weights() -> BTreeMap<String, Tensor> {
        let mut all = BTreeMap::new();
        let mut put = |name: &str, shape: &[usize]| {
            all.insert(name.to_string(), generated(name, shape));
        };
        for (name, shape) in SHAPES.lines().filter_map(|line| line.split_once(' ')) {
            let shape: Vec<usize> = shape.split(' ').map(|side| side.parse().unwrap()).collect();
            put(&format!("{name}.conv.weight"), &shape);
            for part in ["weight", "bias", "running_mean", "running_var"] {
                put(&format!("{name}.bn.{part}"), &shape[..1]);
            }
        }
        all
    }

    /// Of every convolution, as pytorch-fid has them.
    const SHAPES: &str = include_str!("inception/shapes.txt");

    #[test]
    fn features_are_those_of_pytorch_fid() {
        let weights = weights();
        let inception = Inception::new(Path::new("w"), &weights).unwrap();
        let [_, noisy] = pictures(75, 75);
        let found = inception.of(resized(&picture(&noisy, 75, 75), 75)).unwrap();
        assert_eq!(found.len() as u64, FEATURES);
        // `benches/peers/evaluate_torch.py golden` prints them.
        let golden = [0.0, 0.058_661_399_012_127_496, 0.0, 0.0];
        for (at, golden) in golden.into_iter().enumerate() {
            assert!((f64::from(found[at]) - golden).abs() < 1e-6, "{at}: {}", found[at]);
        }
        let wide: Vec<f64> = found.iter().map(|&x| f64::from(x)).collect();
        let (sum, norm) = (126.096_104_073_088_29, 5.514_954_258_416_88);
        let found = wide.iter().sum::<f64>();
        assert!((found - sum).abs() < 1e-5 * sum, "{found}");
        let found = wide.iter().map(|x| x * x).sum::<f64>().sqrt();
        assert!((found - norm).abs() < 1e-5 * norm, "{found}");
        // A map that is too small for the windows.
        assert_eq!(inception.of(resized(&picture(&noisy, 75, 75), 70)), None);
    }

    #[test]
    fn pictures_are_resized_as_pytorch_does() {
        let [_, noisy] = pictures(40, 24);
        let map = resized(&picture(&noisy, 40, 24), SIDE);
        let at = |c: usize, y: usize, x: usize| f64::from(map.data[(y * SIDE + x) * 3 + c]);
        let golden = [
            ((0, 0, 0), -0.882_352_948_188_781_7),
            ((1, 150, 77), -0.511_358_559_131_622_3),
            ((2, 298, 298), -0.043_137_252_330_780_03),
            ((0, 3, 290), -0.450_901_389_122_009_3),
        ];
        for ((c, y, x), golden) in golden {
            assert!((at(c, y, x) - golden).abs() < 2e-7, "{c} {y} {x}: {}", at(c, y, x));
        }
        let sum: f64 = map.data.iter().map(|&x| f64::from(x)).sum();
        assert!((sum + 113_173.332_178_592_68).abs() < 1e-2, "{sum}");
    }

    #[test]
    fn weights_that_are_missing_are_named() {
        let mut weights = weights();
        weights.remove("Mixed_6d.branch7x7dbl_4.bn.running_var");
        let said = Inception::new(Path::new("w"), &weights).err().unwrap().to_string();
        assert!(said.contains("`Mixed_6d.branch7x7dbl_4.bn.running_var` is missing"), "{said}");
    }
}
