//! Owns the pictures that `vqtok quickstart` draws for itself: small, colourful, varied, the same
//! for the same seed on every machine.

use crate::error::{Error, Result};
use crate::util::overwrite;
use crate::util::overwrite::Foreign;
use crate::util::random::SplitMix64;
use crate::util::regular_file;
use crate::util::regular_file::ANY_SIZE;
use crate::util::settings::OUT;
use image::{Rgb, RgbImage};
use std::path::Path;

/// The motifs; each gets a folder, which becomes the rows' label.
pub(crate) const MOTIFS: [&str; 8] =
    ["checkers", "discs", "hills", "plasma", "polygons", "rings", "stripes", "weave"];

/// Draws `per_motif` pictures of each motif, `side` pixels square, as
/// `folder/<motif>/<number>.png`.
///
/// # Errors
/// A folder or file that can't be written, or stands there with another picture.
pub(crate) fn draw(folder: &Path, per_motif: u32, side: u32, seed: u64) -> Result<()> {
    for (motif_index, motif) in MOTIFS.iter().enumerate() {
        let to = folder.join(motif);
        overwrite::create_folder(&to)?;
        for number in 0..per_motif {
            let mut dice =
                Dice(SplitMix64(seed ^ ((motif_index as u64) << 32 | u64::from(number))));
            let path = to.join(format!("{number:03}.png"));
            save(&path, &picture(motif_index, side, &mut dice))?;
        }
    }
    Ok(())
}

/// Writes a picture, unless it is there already; any other file of its name stays.
fn save(path: &Path, picture: &RgbImage) -> Result<()> {
    let mut png = std::io::Cursor::new(Vec::new());
    picture
        .write_to(&mut png, image::ImageFormat::Png)
        .map_err(Error::corrupt_by(path, "can't be written"))?;
    match regular_file::read(path, ANY_SIZE) {
        Ok(there) if there == *png.get_ref() => Ok(()),
        Ok(_) => Err(Error::corrupt(
            path,
            format!("it exists and is another picture: nothing is overwritten; give another {OUT}"),
        )),
        Err(_) => overwrite::write(path, png.get_ref(), Foreign::Keep),
    }
}

/// The numbers that a picture is made of.
struct Dice(SplitMix64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0.next()
    }

    /// Uniform in [low, high).
    fn between(&mut self, low: f32, high: f32) -> f32 {
        low + (high - low) * (self.next() >> 40) as f32 / (1u32 << 24) as f32
    }

    fn colour(&mut self) -> [f32; 3] {
        let (hue, saturation, value) =
            (self.between(0.0, 6.0), self.between(0.35, 1.0), self.between(0.35, 1.0));
        [5.0, 3.0, 1.0].map(|offset: f32| {
            let k = (offset + hue) % 6.0;
            value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0)
        })
    }
}

type Shade = Box<dyn Fn(f32, f32) -> [f32; 3]>;

/// One picture: a function of the plane, [0, 1) x [0, 1), averaged over 3x3 points a pixel.
fn picture(motif: usize, side: u32, dice: &mut Dice) -> RgbImage {
    let shade = match MOTIFS[motif] {
        "checkers" => checkers(dice),
        "discs" => discs(dice),
        "hills" => hills(dice),
        "plasma" => plasma(dice),
        "polygons" => polygons(dice),
        "rings" => rings(dice),
        "stripes" => stripes(dice),
        _ => weave(dice),
    };
    RgbImage::from_fn(side, side, |px, py| {
        let mut sum = [0.0f32; 3];
        for sample in 0..9 {
            let x = (px as f32 + (sample % 3) as f32 / 3.0 + 1.0 / 6.0) / side as f32;
            let y = (py as f32 + (sample / 3) as f32 / 3.0 + 1.0 / 6.0) / side as f32;
            for (total, value) in sum.iter_mut().zip(shade(x, y)) {
                *total += value;
            }
        }
        Rgb(sum.map(|total| (total / 9.0 * 255.0).round().clamp(0.0, 255.0) as u8))
    })
}

fn mix(a: [f32; 3], b: [f32; 3], t: f32) -> [f32; 3] {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * t.clamp(0.0, 1.0))
}

fn checkers(dice: &mut Dice) -> Shade {
    let (a, b) = (dice.colour(), dice.colour());
    let (angle, cells) = (dice.between(0.0, 1.57), dice.between(2.0, 8.0));
    Box::new(move |x, y| {
        let (u, v) = rotate(x, y, angle);
        let odd = ((u * cells).floor() + (v * cells).floor()).rem_euclid(2.0) >= 1.0;
        if odd { a } else { b }
    })
}

fn discs(dice: &mut Dice) -> Shade {
    let (sky, ground) = (dice.colour(), dice.colour());
    let discs: Vec<_> = (0..3 + dice.next() % 6)
        .map(|_| {
            let centre = (dice.between(0.0, 1.0), dice.between(0.0, 1.0));
            (centre, dice.between(0.06, 0.3), dice.colour())
        })
        .collect();
    Box::new(move |x, y| {
        let mut colour = mix(sky, ground, y);
        for &((cx, cy), radius, inside) in &discs {
            let d = ((x - cx).powi(2) + (y - cy).powi(2)).sqrt();
            if d < radius {
                colour = mix(mix(inside, [1.0; 3], 0.5), inside, d / radius);
            }
        }
        colour
    })
}

fn hills(dice: &mut Dice) -> Shade {
    let (high, low) = (dice.colour(), dice.colour());
    let ridges: Vec<_> = (0..4)
        .map(|i| {
            let height = 0.3 + 0.17 * i as f32;
            let waves = (dice.between(2.0, 9.0), dice.between(0.0, 6.3), dice.between(0.02, 0.09));
            (height, waves, dice.colour())
        })
        .collect();
    Box::new(move |x, y| {
        let mut colour = mix(high, low, y * 2.0);
        for &(height, (frequency, phase, amplitude), ridge) in &ridges {
            let edge = height
                + amplitude * (frequency * x + phase).sin()
                + 0.4 * amplitude * (2.7 * frequency * x + 2.0 * phase).sin();
            if y > edge {
                colour = mix(ridge, [0.0; 3], (y - edge) * 0.8);
            }
        }
        colour
    })
}

fn plasma(dice: &mut Dice) -> Shade {
    let colours = [dice.colour(), dice.colour(), dice.colour()];
    let waves: Vec<_> = (0..4)
        .map(|_| (dice.between(-14.0, 14.0), dice.between(-14.0, 14.0), dice.between(0.0, 6.3)))
        .collect();
    Box::new(move |x, y| {
        let sum: f32 = waves.iter().map(|(a, b, c)| (a * x + b * y + c).sin()).sum();
        let t = (sum / 4.0 + 1.0).clamp(0.0, 1.999);
        mix(colours[t as usize], colours[t as usize + 1], t.fract())
    })
}

fn polygons(dice: &mut Dice) -> Shade {
    let ground = dice.colour();
    let shapes: Vec<_> = (0..2 + dice.next() % 4)
        .map(|_| {
            let centre = (dice.between(0.1, 0.9), dice.between(0.1, 0.9));
            let sides = 3 + dice.next() % 4;
            let (size, turn) = (dice.between(0.1, 0.35), dice.between(0.0, 6.3));
            (centre, sides as f32, size, turn, dice.colour())
        })
        .collect();
    Box::new(move |x, y| {
        let mut colour = mix(ground, [1.0; 3], 0.4 * (1.0 - y));
        for &((cx, cy), sides, size, turn, inside) in &shapes {
            let (dx, dy) = (x - cx, y - cy);
            let sector = std::f32::consts::TAU / sides;
            let angle = (dy.atan2(dx) + turn).rem_euclid(sector) - sector / 2.0;
            if (dx * dx + dy * dy).sqrt() * angle.cos() < size * (sector / 2.0).cos() {
                colour = inside;
            }
        }
        colour
    })
}

fn rings(dice: &mut Dice) -> Shade {
    let (a, b) = (dice.colour(), dice.colour());
    let centre = (dice.between(0.0, 1.0), dice.between(0.0, 1.0));
    let (frequency, squash) = (dice.between(15.0, 60.0), dice.between(0.5, 1.5));
    Box::new(move |x, y| {
        let d = ((x - centre.0).powi(2) + squash * (y - centre.1).powi(2)).sqrt();
        mix(a, b, (d * frequency).sin() * 1.5 + 0.5)
    })
}

fn stripes(dice: &mut Dice) -> Shade {
    let colours = [dice.colour(), dice.colour(), dice.colour()];
    let (angle, count) = (dice.between(0.0, std::f32::consts::PI), dice.between(3.0, 14.0));
    let bend = dice.between(0.0, 0.15);
    Box::new(move |x, y| {
        let (u, v) = rotate(x, y, angle);
        let stripe = ((u + bend * (v * 7.0).sin()) * count).rem_euclid(3.0);
        colours[(stripe as usize).min(2)]
    })
}

fn weave(dice: &mut Dice) -> Shade {
    let (warp, weft) = (dice.colour(), dice.colour());
    let (angle, threads) = (dice.between(0.0, 0.8), dice.between(4.0, 10.0));
    Box::new(move |x, y| {
        let (u, v) = rotate(x, y, angle);
        let (i, j) = ((u * threads).floor(), (v * threads).floor());
        let over = (i + j).rem_euclid(2.0) < 1.0;
        let (thread, across) = if over { (warp, u) } else { (weft, v) };
        let round = ((across * threads).fract().rem_euclid(1.0) - 0.5).abs() * 2.0;
        mix(thread, [0.0; 3], round * round * 0.7)
    })
}

fn rotate(x: f32, y: f32, angle: f32) -> (f32, f32) {
    (x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_differ_from_each_other_and_repeat_with_the_seed() {
        let drawn: Vec<_> = (0..MOTIFS.len())
            .map(|motif| picture(motif, 16, &mut Dice(SplitMix64(motif as u64))))
            .collect();
        for (i, a) in drawn.iter().enumerate() {
            assert_eq!(a, &picture(i, 16, &mut Dice(SplitMix64(i as u64))));
            assert!(drawn[..i].iter().all(|b| a != b), "{} repeats another motif", MOTIFS[i]);
        }
    }
}
