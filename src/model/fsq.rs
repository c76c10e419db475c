//! Owns finite scalar quantization (Mentzer et al. 2023, in the form of vector-quantize-pytorch):
//! each channel of a latent is bounded and rounded on its own; the digits make the code. Must not
//! know: networks, gradients.
//!
//! With L levels in a channel: half = (L-1)(1+1e-3)/2; offset = 1/2 where L is even, else 0;
//! b = tanh(z + atanh(offset/half)) half - offset; n = round(b), half to even; the decoder gets
//! n / floor(L/2). The code is the sum over channels of (n + floor(L/2)) times the product of the
//! levels before: channel 0 is the low digit. Computed in float64, so that no engine differs.

use crate::error::{Error, Result};

/// Levels of a channel, at most: from about a thousand on, the bound would let a digit through
/// that is no level.
pub(crate) const LEVELS_MAX: usize = 256;

/// One channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Channel {
    /// L.
    pub levels: usize,
    /// Largest |b + offset|.
    pub half: f64,
    /// 1/2 where L is even.
    pub offset: f64,
    /// What is added to z.
    pub shift: f64,
}

impl Channel {
    fn new(levels: usize) -> Channel {
        let half = (levels as f64 - 1.0) * (1.0 + 1e-3) / 2.0;
        let offset = if levels.is_multiple_of(2) { 0.5 } else { 0.0 };
        Channel { levels, half, offset, shift: (offset / half).atanh() }
    }

    /// floor(L/2): the digit of n = 0, and what n is divided by for the decoder.
    pub(crate) fn middle(&self) -> usize {
        self.levels / 2
    }

    /// b, before rounding.
    pub(crate) fn bound(&self, z: f32) -> f64 {
        (f64::from(z) + self.shift).tanh() * self.half - self.offset
    }
}

/// The channels of a latent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Fsq {
    /// One a channel of the latent.
    pub channels: Vec<Channel>,
    codes: usize,
}

impl Fsq {
    /// `levels` of each channel.
    ///
    /// # Errors
    /// No channel, a number of levels outside 2 to [`LEVELS_MAX`], more codes than 2^24.
    pub(crate) fn new(levels: &[usize]) -> Result<Fsq> {
        if levels.is_empty() {
            return Err(Error::invalid("the quantizer rule fsq needs levels, such as [8, 8, 8]"));
        }
        if let Some(bad) = levels.iter().find(|l| !(2..=LEVELS_MAX).contains(*l)) {
            return Err(Error::invalid(format!(
                "the quantizer's levels hold a {bad}; fsq takes 2 to {LEVELS_MAX} levels a channel"
            )));
        }
        let codes = levels.iter().try_fold(1usize, |product, l| product.checked_mul(*l));
        match codes.filter(|codes| *codes <= 1 << 24) {
            Some(codes) => {
                Ok(Fsq { channels: levels.iter().map(|l| Channel::new(*l)).collect(), codes })
            }
            None => Err(Error::invalid("the quantizer's levels make more than 2^24 codes")),
        }
    }

    /// K, the product of the levels.
    pub(crate) fn codes(&self) -> usize {
        self.codes
    }

    /// D.
    pub(crate) fn dim(&self) -> usize {
        self.channels.len()
    }

    /// n of every value of the latents `z`, `[T, D]`.
    pub(crate) fn round(&self, z: &[f32]) -> Vec<f32> {
        let channels = self.channels.iter().cycle();
        z.iter().zip(channels).map(|(z, c)| c.bound(*z).round_ties_even() as f32).collect()
    }

    /// The code of each row of `n`, `[T, D]`. NaN counts as level 0.
    pub(crate) fn codes_of(&self, n: &[f32]) -> Vec<u32> {
        let code = |row: &[f32]| {
            let mut place = 1;
            let mut code = 0;
            for (n, c) in row.iter().zip(&self.channels) {
                // The bound keeps n within the levels; a cast of NaN gives 0.
                code += place * ((*n + c.middle() as f32) as usize).min(c.levels - 1);
                place *= c.levels;
            }
            code as u32
        };
        n.chunks_exact(self.dim()).map(code).collect()
    }

    /// Squared distance of each bounded latent of `z` to its rounded one, as the decoder sees them.
    pub(crate) fn distances(&self, z: &[f32]) -> Vec<f32> {
        let distance = |row: &[f32]| {
            let square = |(z, c): (&f32, &Channel)| {
                let b = c.bound(*z);
                ((b - b.round_ties_even()) / c.middle() as f64).powi(2)
            };
            row.iter().zip(&self.channels).map(square).sum::<f64>() as f32
        };
        z.chunks_exact(self.dim()).map(distance).collect()
    }

    /// Appends the vector of a code that is below K.
    pub(crate) fn lookup(&self, mut code: u32, vector: &mut Vec<f32>) {
        for c in &self.channels {
            let digit = code % c.levels as u32;
            code /= c.levels as u32;
            let middle = c.middle() as f32;
            vector.push((digit as f32 - middle) / middle);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_reached_and_comes_back() {
        for levels in [vec![8, 5, 5, 5], vec![2, 3], vec![256], vec![4, 3, 7]] {
            let fsq = Fsq::new(&levels).unwrap();
            assert_eq!(fsq.codes(), levels.iter().product::<usize>());
            for code in 0..fsq.codes() as u32 {
                let mut vector = vec![];
                fsq.lookup(code, &mut vector);
                let n: Vec<f32> =
                    vector.iter().zip(&fsq.channels).map(|(v, c)| v * c.middle() as f32).collect();
                let n: Vec<f32> = n.iter().map(|n| n.round()).collect();
                assert_eq!(fsq.codes_of(&n), [code], "{levels:?}");
            }
            // The outermost levels are where large latents go, and nothing lies beyond.
            let (low, high) = (vec![-50.0; fsq.dim()], vec![50.0; fsq.dim()]);
            assert_eq!(fsq.codes_of(&fsq.round(&low)), [0]);
            assert_eq!(fsq.codes_of(&fsq.round(&high)), [fsq.codes() as u32 - 1]);
        }
    }

    #[test]
    fn impossible_levels_are_refused() {
        for levels in [vec![], vec![1, 8], vec![257], vec![256, 256, 256, 2]] {
            assert!(Fsq::new(&levels).is_err(), "{levels:?}");
        }
        assert_eq!(Fsq::new(&[256, 256, 256]).unwrap().codes(), 1 << 24);
    }
}
