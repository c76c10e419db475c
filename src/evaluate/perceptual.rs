//! Owns LPIPS (Zhang et al. 2018) of pairs of pictures, on AlexNet or VGG16, whichever the weights are
//! of, as version 0.1 of the package has it.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::Tensor;
use image::RgbImage;

use super::network::{Conv, Geometry, Map, Pool, Runner, pool};
use super::weights::Tensors;
use crate::error::Result;
use crate::kernels::Isa;
use crate::train::losses::lpips::{SCALE, SHIFT};
use crate::train::losses::lpips_weights;

/// A stage: a pooling in front, or none, then convolutions with ReLU; a tap stands behind.
struct Stage {
    /// Side and step.
    pool: Option<[usize; 2]>,
    convs: Vec<Conv>,
    head: Vec<f32>,
}

/// The network and its heads.
pub(crate) struct Perceptual {
    isa: Isa,
    stages: Vec<Stage>,
    /// `alex` or `vgg`.
    pub(crate) network: &'static str,
    /// Hex sha256 of its weights.
    pub(crate) digest: String,
}

/// What a stage is made of: its pooling, then each convolution's place in torchvision's `features`, its
/// outputs and its window.
type Layers = (Option<[usize; 2]>, &'static [(usize, usize, Geometry)]);

const SAME: Geometry = Geometry::same([3, 3]);

const VGG: [Layers; 5] = [
    (None, &[(0, 64, SAME), (2, 64, SAME)]),
    (Some([2, 2]), &[(5, 128, SAME), (7, 128, SAME)]),
    (Some([2, 2]), &[(10, 256, SAME), (12, 256, SAME), (14, 256, SAME)]),
    (Some([2, 2]), &[(17, 512, SAME), (19, 512, SAME), (21, 512, SAME)]),
    (Some([2, 2]), &[(24, 512, SAME), (26, 512, SAME), (28, 512, SAME)]),
];

const ALEX: [Layers; 5] = [
    (None, &[(0, 64, Geometry::square(11, 4, 2))]),
    (Some([3, 2]), &[(3, 192, Geometry::same([5, 5]))]),
    (Some([3, 2]), &[(6, 384, SAME)]),
    (None, &[(8, 256, SAME)]),
    (None, &[(10, 256, SAME)]),
];

impl Perceptual {
    /// From a file, or a folder of files, with torchvision's network and the package's heads.
    ///
    /// # Errors
    /// Nothing to read; a weight that is missing, misshapen or not finite.
    pub(crate) fn open(path: &Path) -> Result<Perceptual> {
        let (weights, digest) =
            lpips_weights::read(path, "give one with AlexNet or VGG16 and the lpips heads")?;
        Perceptual::new(path, &weights, digest)
    }

    fn new(path: &Path, all: &BTreeMap<String, Tensor>, digest: String) -> Result<Perceptual> {
        let window = all.get("features.0.weight").and_then(|weight| weight.dims().get(2));
        let (network, what, layers) = match window {
            Some(11) => ("alex", "LPIPS on AlexNet", ALEX),
            _ => ("vgg", "LPIPS on VGG16", VGG),
        };
        let tensors = Tensors { path, what, all };
        let (mut stages, mut inputs) = (Vec::new(), 3);
        for (at, (pool, layers)) in layers.into_iter().enumerate() {
            let mut convs = Vec::new();
            for &(n, outputs, geometry) in layers {
                convs.push(tensors.conv(&format!("features.{n}"), [outputs, inputs], geometry)?);
                inputs = outputs;
            }
            let head = tensors.take(&format!("lin{at}.model.1.weight"), &[1, inputs, 1, 1])?;
            stages.push(Stage { pool, convs, head });
        }
        Ok(Perceptual { isa: Isa::detect()?, stages, network, digest })
    }

    /// The distance of two pictures of one size; None where they are too small for the network.
    pub(crate) fn distance(&self, a: &RgbImage, b: &RgbImage) -> Option<f64> {
        let mut with = Runner::new(self.isa);
        let (mut a, mut b) = (input(a), input(b));
        let mut sum = 0.0;
        for stage in &self.stages {
            a = stage.run(&mut with, a)?;
            b = stage.run(&mut with, b)?;
            sum += difference(&a, &b, &stage.head);
        }
        Some(sum)
    }
}

impl Stage {
    fn run(&self, with: &mut Runner, mut map: Map) -> Option<Map> {
        if let Some([side, step]) = self.pool {
            map = pool(&map, Pool::Largest, [side, step, 0])?;
        }
        for conv in &self.convs {
            map = conv.run(with, &map)?.relu();
        }
        Some(map)
    }
}

/// In [-1, 1], shifted and scaled by channel as the network takes it.
fn input(picture: &RgbImage) -> Map {
    let mut map = Map::new(picture.height() as usize, picture.width() as usize, 3);
    for (to, pixel) in map.data.chunks_exact_mut(3).zip(picture.pixels()) {
        for (c, to) in to.iter_mut().enumerate() {
            *to = (f32::from(pixel[c]) / 127.5 - 1.0 - SHIFT[c]) / SCALE[c];
        }
    }
    map
}

/// The mean over pixels of the weighted squares between features of length one.
fn difference(a: &Map, b: &Map, head: &[f32]) -> f64 {
    let length = |pixel: &[f32]| pixel.iter().map(|x| x * x).sum::<f32>().sqrt() + 1e-10;
    let pixel = |(a, b): (&[f32], &[f32])| {
        let (of_a, of_b) = (1.0 / length(a), 1.0 / length(b));
        let weighted = a.iter().zip(b).zip(head).map(|((a, b), weight)| {
            let apart = a * of_a - b * of_b;
            weight * apart * apart
        });
        f64::from(weighted.sum::<f32>())
    };
    let sum: f64 = a.pixels().zip(b.pixels()).map(pixel).sum();
    sum / (a.height * a.width) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::peers::{generated, picture, pictures};
    use crate::train::losses::lpips::{Lpips, Normalisation};
    use candle_core::Device;

    /// Every weight of a network by its name.
    fn weights(layers: [Layers; 5]) -> BTreeMap<String, Tensor> {
        let mut all = BTreeMap::new();
        let mut put = |name: String, shape: &[usize]| {
            all.insert(name.clone(), generated(&name, shape));
        };
        let mut inputs = 3;
        for (at, (_, convs)) in layers.into_iter().enumerate() {
            for &(n, outputs, Geometry { window: [rows, columns], .. }) in convs {
                put(format!("features.{n}.weight"), &[outputs, inputs, rows, columns]);
                put(format!("features.{n}.bias"), &[outputs]);
                inputs = outputs;
            }
            put(format!("lin{at}.model.1.weight"), &[1, inputs, 1, 1]);
        }
        all
    }

    #[test]
    fn distances_are_those_of_the_package() {
        // `benches/peers/evaluate_torch.py golden` prints them.
        for (layers, network, (height, width), golden) in [
            (ALEX, "alex", (64, 72), 0.014_444_211_441_672_579),
            (VGG, "vgg", (32, 40), 0.022_485_947_658_502_783),
        ] {
            let weights = weights(layers);
            let lpips = Perceptual::new(Path::new("w"), &weights, String::new()).unwrap();
            assert_eq!(lpips.network, network);
            let [a, b] = pictures(height, width).map(|planes| picture(&planes, height, width));
            let found = lpips.distance(&a, &b).unwrap();
            assert!((found - golden).abs() < 1e-6 * golden + 1e-8, "{network}: {found} {golden}");
            assert_eq!(lpips.distance(&a, &a), Some(0.0));
            let speck = RgbImage::new(15, 15);
            assert_eq!(lpips.distance(&speck, &speck), None, "{network}");
        }
    }

    #[test]
    fn the_loss_of_trainings_is_the_same_distance() {
        let weights = weights(VGG);
        let lpips = Perceptual::new(Path::new("w"), &weights, String::new()).unwrap();
        let loss = Lpips::new(&weights, &Device::Cpu).unwrap();
        let planes = pictures(32, 32);
        let tensor = |planes: &Vec<f32>| {
            let values: Vec<f32> = planes.iter().map(|value| value / 127.5 - 1.0).collect();
            Tensor::from_vec(values, (1, 3, 32, 32), &Device::Cpu).unwrap()
        };
        let (a, b) = (tensor(&planes[0]), tensor(&planes[1]));
        let theirs = loss.distance(&a, &b, Normalisation::Outside).unwrap();
        let theirs = f64::from(theirs.to_vec1::<f32>().unwrap()[0]);
        let [a, b] = planes.map(|planes| picture(&planes, 32, 32));
        let ours = lpips.distance(&a, &b).unwrap();
        assert!((ours - theirs).abs() < 1e-6 * theirs + 1e-8, "{ours} {theirs}");
    }

    #[test]
    fn weights_that_are_missing_or_misshapen_are_named() {
        let mut weights = weights(ALEX);
        let said = |weights: &BTreeMap<String, Tensor>| {
            Perceptual::new(Path::new("w"), weights, String::new()).err().unwrap().to_string()
        };
        let head = weights.remove("lin3.model.1.weight").unwrap();
        assert!(said(&weights).contains("`lin3.model.1.weight` is missing"), "{}", said(&weights));
        weights.insert("lin3.model.1.weight".into(), head.reshape((256, 1, 1, 1)).unwrap());
        assert!(said(&weights).contains("has shape [256, 1, 1, 1]"), "{}", said(&weights));
    }
}
