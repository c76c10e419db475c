//! What the tests of this program have in common: models, pictures, runs on the stand-ins, their tokens.

use std::path::{Path, PathBuf};

use image::RgbImage;
use vqtok::internals::audit::TokenFile;
use vqtok::internals::checkpoint::folder::save;
use vqtok::internals::model::config::{
    Architecture, Parts, QuantizerConfig, QuantizerRule, VqganConfig,
};

use crate::drawn;
use crate::stand_ins::{Counts, StandIns};
use crate::support::{Done, Job, npz, picture, shared};

/// A VQGAN of two levels with attention in the smaller one, as `model`.
pub fn with_model(job: Job) -> Job {
    with_parts(job, Parts::Encoder)
}

pub fn with_parts(job: Job, parts: Parts) -> Job {
    let network = VqganConfig {
        ch: 16,
        widths: vec![16, 24],
        res_blocks: 1,
        attention: vec![false, true],
        mid_attention: true,
        z_channels: 8,
        norm_groups: 8,
        norm_eps: 1e-6,
        parts,
        decoder: None,
        variant: Default::default(),
    };
    let quantizer = QuantizerConfig::new(QuantizerRule::L2, 64, 8);
    let (config, weights) = drawn::random_model(Architecture::Vqgan(network), quantizer);
    save(&job.path("model"), &config, &weights).unwrap();
    job
}

/// Pictures of these sizes as `images`.
pub fn with_pictures(sizes: &[(u32, u32)]) -> Job {
    let job = Job::new(0);
    std::fs::create_dir(job.path("images")).unwrap();
    for (index, (width, height)) in sizes.iter().enumerate() {
        let path = job.path("images").join(format!("{index:03}.png"));
        let drawn = picture(index as u32);
        let at = |x, y| *drawn.get_pixel(x % drawn.width(), y % drawn.height());
        RgbImage::from_fn(*width, *height, at).save(path).unwrap();
    }
    job
}

/// A run on the stand-ins for an element type, under a name.
pub struct Run<'a> {
    pub job: &'a Job,
    pub stand_ins: &'a StandIns,
    pub element: &'a str,
}

impl Run<'_> {
    /// `vqtok tokenize images --out NAME` with more options and an environment.
    pub fn tokenize(&self, name: &str, options: &str, with: &[(&str, &str)]) -> (Done, Counts) {
        let line = format!(
            "tokenize images --model model --out {name} --device cuda --precision {} {options}",
            self.element
        );
        let mut command = self.job.command(&line);
        let report = self.job.path(&format!("{name}.json"));
        self.stand_ins.serve(&mut command, &report);
        command.envs(with.iter().copied());
        let done = Done::of(command.output().unwrap());
        (done, Counts::read(&report))
    }

    /// The tokens of such a run, which ends well and leaves nothing on the device.
    pub fn tokens(
        &self,
        name: &str,
        options: &str,
        with: &[(&str, &str)],
    ) -> (Vec<Tokens>, Counts) {
        let (done, counts) = self.tokenize(name, options, with);
        assert_eq!(done.code, 0, "{}", done.stderr);
        counts.assert_clean();
        (tokens(&self.job.path(name)), counts)
    }
}

/// Codes of one picture, of all levels.
#[derive(Debug, Clone, PartialEq)]
pub struct Tokens {
    pub key: String,
    pub codes: Vec<u32>,
}

pub fn tokens(out: &Path) -> Vec<Tokens> {
    let mut rows: Vec<Tokens> = TokenFile::open(out)
        .unwrap()
        .map(|row| {
            let row = row.unwrap();
            let codes = row.levels.iter().flat_map(|level| &level.codes).copied().collect();
            Tokens { key: row.key, codes }
        })
        .collect();
    rows.sort_by(|a, b| a.key.cmp(&b.key));
    rows
}

pub fn differing(a: &[Tokens], b: &[Tokens]) -> usize {
    assert_eq!(a.len(), b.len());
    let pairs = a.iter().zip(b).flat_map(|(a, b)| a.codes.iter().zip(&b.codes));
    pairs.filter(|(a, b)| a != b).count()
}

/// The pictures of a golden case as `images`, and the tokens of its `golden.npz`.
pub fn golden(case: &str) -> Option<(Job, PathBuf, Vec<u32>)> {
    let folder = shared(&format!("golden/{case}"))?;
    let arrays = npz(folder.join("golden.npz"));
    let images = &arrays["images_u8"];
    let [_, height, width, 3] = images.shape[..] else { panic!("{:?}", images.shape) };
    let job = Job::new(0);
    std::fs::create_dir(job.path("images")).unwrap();
    for (index, pixels) in images.u8().chunks_exact(height * width * 3).enumerate() {
        let picture = RgbImage::from_raw(width as u32, height as u32, pixels.to_vec()).unwrap();
        picture.save(job.path("images").join(format!("{index:03}.png"))).unwrap();
    }
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|e| e == "ckpt"));
    files.sort();
    let tokens = arrays["tokens"].i64().into_iter().map(|token| token as u32).collect();
    Some((job, files.remove(0), tokens))
}
