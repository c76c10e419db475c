//! Owns the two ways between bytes and floats: the 256-entry tables of the input ranges and the
//! rules that turn a decoder's floats into bytes.

use super::config::{InputRange, OutputRange};

impl InputRange {
    /// The float of every byte, bit for bit what the reference scripts compute: the order of
    /// rounding is part of the rule.
    pub fn table(self) -> [f32; 256] {
        std::array::from_fn(|byte| {
            let x = byte as f64;
            // torchvision's ToTensor divides in float32.
            let unit = byte as f32 / 255.0;
            match self {
                InputRange::Taming => (x / 127.5 - 1.0) as f32,
                InputRange::Chameleon => (x / 255.0 * 2.0 - 1.0) as f32,
                InputRange::Unit => unit,
                InputRange::Symmetric => (unit - 0.5) / 0.5,
                InputRange::Dalle => 0.8 * unit + 0.1,
                InputRange::Diffusers => 2.0 * unit - 1.0,
                InputRange::ChameleonHf => byte as f32 * 0.0078 - 1.0,
                InputRange::Centered => unit - 0.5,
                // By the channel: whoever runs such a model makes tables of its own.
                InputRange::Stated => byte as f32,
            }
        })
    }
}

impl OutputRange {
    /// One float of the decoder to a byte, in float32 as the reference code; not-a-number gives 0.
    pub fn to_byte(self, x: f32) -> u8 {
        // `as u8` truncates toward zero, saturates at 0 and 255 and maps NaN to 0.
        match self {
            OutputRange::SymmetricTruncate => (255.0 * ((x.clamp(-1.0, 1.0) + 1.0) / 2.0)) as u8,
            OutputRange::SymmetricHalfEven => {
                ((x.clamp(-1.0, 1.0) + 1.0) * 127.5).round_ties_even() as u8
            }
            OutputRange::SymmetricHalfUp => (127.5 * x + 128.0) as u8,
            OutputRange::SymmetricSaveImage => {
                (255.0 * ((x.clamp(-1.0, 1.0) + 1.0) / 2.0) + 0.5) as u8
            }
            OutputRange::SymmetricRound => {
                (255.0 * (x / 2.0 + 0.5).clamp(0.0, 1.0)).round_ties_even() as u8
            }
            OutputRange::UnitTruncate => (255.0 * x.clamp(0.0, 1.0)) as u8,
            OutputRange::UnitRound => (255.0 * x.clamp(0.0, 1.0)).round_ties_even() as u8,
            OutputRange::UnitMuse => {
                let y = (2.0 * x - 1.0).clamp(-1.0, 1.0);
                (255.0 * ((y + 1.0) / 2.0)) as u8
            }
            OutputRange::Dalle => {
                let sigmoid = 1.0 / (1.0 + (-x).exp());
                (255.0 * ((sigmoid - 0.1) / 0.8).clamp(0.0, 1.0)) as u8
            }
            // With its own scale undone before.
            OutputRange::Stated => x.clamp(0.0, 255.0).round_ties_even() as u8,
            OutputRange::CenteredRound => {
                (255.0 * (x + 0.5).clamp(0.0, 1.0)).round_ties_even() as u8
            }
        }
    }

    /// The decoder's output `[C, H, W]` to bytes `[H, W, C]`.
    pub fn to_bytes(self, decoded: &[f32], channels: usize) -> Vec<u8> {
        let plane = decoded.len() / channels.max(1);
        let mut bytes = Vec::with_capacity(decoded.len());
        for pixel in 0..plane {
            for channel in 0..channels {
                bytes.push(self.to_byte(decoded[channel * plane + pixel]));
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_cover_their_ranges() {
        let ends = |range: InputRange| (range.table()[0], range.table()[255]);
        assert_eq!(ends(InputRange::Taming), (-1.0, 1.0));
        assert_eq!(ends(InputRange::Unit), (0.0, 1.0));
        assert_eq!(ends(InputRange::Centered), (-0.5, 0.5));
        assert_eq!(ends(InputRange::ChameleonHf), (-1.0, 255.0f32 * 0.0078 - 1.0));
    }

    #[test]
    fn every_rule_clamps_and_survives_nan() {
        use OutputRange::*;
        for rule in [
            SymmetricTruncate,
            SymmetricHalfEven,
            SymmetricHalfUp,
            SymmetricSaveImage,
            SymmetricRound,
            UnitTruncate,
            UnitRound,
            UnitMuse,
            Dalle,
            Stated,
            CenteredRound,
        ] {
            assert_eq!(rule.to_byte(-1e30), 0, "{rule:?}");
            assert_eq!(rule.to_byte(1e30), 255, "{rule:?}");
            assert_eq!(rule.to_byte(f32::NAN), 0, "{rule:?}");
        }
    }

    #[test]
    fn planes_become_interleaved_pixels() {
        let decoded = [0.0, 1.0, 0.5, 0.25, 1.0, 0.0];
        assert_eq!(OutputRange::UnitRound.to_bytes(&decoded, 3), [0, 128, 255, 255, 64, 0]);
    }
}
