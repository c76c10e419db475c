//! What tests of trainings share: images drawn from their index, a small model, observers.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Reject, Result};
use crate::model::config::{
    Architecture, FORMAT, InputRange, ModelConfig, OutputRange, PixelConfig, PreprocessConfig,
    QuantizerConfig, QuantizerRule, VqvaeConfig,
};
use crate::train::events::{Event, Observer};
use crate::train::input::train_data::TrainData;
use crate::train::settings::TrainSettings;
use crate::train::settings::codebook::CodebookSettings;

/// Pictures of discs on gradients, drawn from their index.
pub(super) struct Discs {
    pub count: usize,
    pub side: usize,
}

impl TrainData for Discs {
    fn len(&self) -> usize {
        self.count
    }

    fn example(&self, index: usize, _: u64) -> Result<Vec<u8>, Reject> {
        let mut draws = crate::train::network::random::Draws::new(5, "discs", index as u64);
        let mut draw = |n: usize| draws.below(n as u64) as i64;
        let side = self.side as i64;
        let (x0, y0, r) = (draw(self.side), draw(self.side), 2 + draw(self.side / 2));
        let colours: Vec<i64> = (0..6).map(|_| draw(256)).collect();
        let mut pixels = Vec::with_capacity(self.side * self.side * 3);
        for y in 0..side {
            for x in 0..side {
                let inside = (x - x0).pow(2) + (y - y0).pow(2) < r * r;
                for c in 0..3 {
                    let back = colours[c] * x / side;
                    pixels.push(if inside { colours[3 + c] } else { back } as u8);
                }
            }
        }
        Ok(pixels)
    }
}

pub(super) fn small_model() -> ModelConfig {
    ModelConfig {
        format: FORMAT.into(),
        family: "vqtok".into(),
        architecture: Architecture::Vqvae(VqvaeConfig {
            hidden: 8,
            downsamples: 2,
            res_blocks: 1,
            res_hidden: 8,
        }),
        quantizer: QuantizerConfig::new(QuantizerRule::L2, 16, 4),
        pixels: PixelConfig {
            channels: 3,
            input: InputRange::Centered,
            output: OutputRange::CenteredRound,
        },
        preprocess: PreprocessConfig::new("bicubic", Some(16)),
        provenance: BTreeMap::new(),
    }
}

pub(super) fn small_settings() -> TrainSettings {
    TrainSettings {
        steps: 30,
        batch_size: 6,
        held_out_share: 0.2,
        log_every: 4,
        checkpoint_every: 7,
        codebook: CodebookSettings {
            start_after: 3,
            revive_every: 4,
            ..CodebookSettings::default()
        },
        ..TrainSettings::default()
    }
}

pub(super) const DATA: Discs = Discs { count: 50, side: 16 };

/// Interrupts before the step with the first number (from 0); the second one is that of the last
/// step done.
pub(super) struct StopAt(pub usize, pub usize);

impl Observer for StopAt {
    fn event(&mut self, event: &Event<'_>) {
        if let Event::Step { report, .. } = event {
            self.1 = report.step;
        }
    }

    fn interrupted(&self) -> bool {
        self.1 >= self.0
    }
}

/// Every file below `folder` by its name there; the wall times of events as 0.
pub(super) fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in walkdir::WalkDir::new(folder) {
        let entry = entry.unwrap();
        if entry.file_type().is_dir() {
            continue;
        }
        let name = entry.path().strip_prefix(folder).unwrap().to_str().unwrap().to_string();
        // The last but one depends on where a training was stopped.
        if name == "state/checkpoint.before.safetensors" {
            continue;
        }
        let mut bytes = std::fs::read(entry.path()).unwrap();
        if name.starts_with("tensorboard/") {
            let mut events = crate::train::report::tensorboard::read(&bytes).unwrap();
            events.iter_mut().for_each(|event| event.wall_time = 0.0);
            bytes =
                events.iter().flat_map(prost::Message::encode_length_delimited_to_vec).collect();
        }
        found.insert(name, bytes);
    }
    found
}

/// Keeps what is said.
#[derive(Default)]
pub(super) struct Warnings(pub Vec<String>);

impl Observer for Warnings {
    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Warning(text) => self.0.push((*text).to_string()),
            Event::Estimate { memory_bytes, remaining, .. } => {
                assert!(*memory_bytes > 0 && !remaining.is_zero());
            }
            _ => {}
        }
    }
}
