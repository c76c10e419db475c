//! Holds that whole jobs of every convolutional family run on a card, both ways.

use std::path::PathBuf;

use vqtok::internals::checkpoint::folder::save;
use vqtok::internals::model::config::*;

use crate::drawn::random_model;
use crate::scene::*;
use crate::stand_ins::*;
use crate::support::*;

fn small() -> VqganConfig {
    VqganConfig {
        ch: 8,
        widths: vec![8, 16],
        res_blocks: 1,
        attention: vec![false, true],
        mid_attention: false,
        z_channels: 4,
        norm_groups: 4,
        norm_eps: 1e-6,
        parts: Parts::Both,
        decoder: None,
        variant: VqganVariant::default(),
    }
}

fn resnet() -> ResnetConfig {
    ResnetConfig {
        ch: 8,
        widths: vec![8, 16],
        res_blocks: 1,
        norm_groups: 4,
        norm_eps: 1e-6,
        parts: Parts::Both,
    }
}

/// Families by what is special about them.
fn families() -> Vec<(&'static str, Architecture, QuantizerConfig)> {
    let rule = QuantizerConfig::new;
    let l2 = |dim: usize| rule(QuantizerRule::L2, 40, dim);
    let vqgan = |variant: VqganVariant| Architecture::Vqgan(VqganConfig { variant, ..small() });
    let spatial = |c: VqganConfig| VqganDecoderConfig { spatial_norm: Some(4), ..c.decoder() };
    let (patch, halvings) = (Some(2), Some(1));
    let frames = Some(FramesConfig { halvings: 1, encoder_blocks: 1, decoder_blocks: 1 });
    let of_frames = VqganConfig {
        decoder: Some(spatial(small())),
        variant: VqganVariant { frames, ..VqganVariant::default() },
        ..small()
    };
    let by_codes = VqganConfig { decoder: Some(spatial(small())), ..small() };
    vec![
        ("residual levels", vqgan(VqganVariant::default()), QuantizerConfig { depth: 3, ..l2(4) }),
        (
            "padding",
            vqgan(VqganVariant { patch, halvings, pad: Some(8), ..VqganVariant::default() }),
            QuantizerConfig { levels: vec![8, 5, 5], ..rule(QuantizerRule::Fsq, 200, 3) },
        ),
        ("norms by codes", Architecture::Vqgan(by_codes), l2(4)),
        ("frames", Architecture::Vqgan(of_frames), l2(4)),
        (
            "two levels",
            Architecture::Vqvae2(Vqvae2Config { channels: 12, res_blocks: 1, res_channels: 5 }),
            l2(6),
        ),
        (
            "logits",
            Architecture::Dalle(DalleConfig { hidden: 8, init: 6, blocks: 1, parts: Parts::Both }),
            rule(QuantizerRule::Logits, 90, 90),
        ),
        ("means", Architecture::Maskgit(resnet()), l2(4)),
        ("sides that round up", Architecture::VqganPlus(resnet()), l2(4)),
        ("bits", Architecture::OpenMagvit2(resnet()), rule(QuantizerRule::SignHigh, 1 << 9, 9)),
    ]
}

#[test]
fn every_convolutional_family_runs_there_both_ways() {
    let Some(stand_ins) = stand_ins("f32") else { return };
    for (what, architecture, quantizer) in families() {
        // VQ-VAE-2's alone need a size that its top can halve.
        let sizes: [(u32, u32); 3] = match architecture {
            Architecture::Vqvae2(_) => [(24, 16), (24, 16), (16, 16)],
            _ => [(22, 17), (22, 17), (16, 24)],
        };
        let job = with_pictures(&sizes);
        let (config, weights) = random_model(architecture, quantizer);
        save(&job.path("model"), &config, &weights).unwrap();
        let run = Run { job: &job, stand_ins: &stand_ins, element: "f32" };
        let (card, counts) = run.tokens("card", "", &[]);
        assert!(counts.of("launches") > 20, "{what}: it ran there");
        job.expect(0, "tokenize images --model model --out cpu --device cpu");
        let cpu = tokens(&job.path("cpu"));
        assert!(cpu.iter().any(|t| t.codes.iter().any(|c| *c != t.codes[0])), "{what}: all equal");
        assert!(card == cpu, "{what}: {} tokens differ", differing(&card, &cpu));

        job.expect(0, "decode cpu --model model --out pictures --device cpu");
        made_there(&run, "decode cpu --model model --out made --device cuda");
        for index in 0..sizes.len() {
            let off = largest_difference(&job, ["pictures", "made"], &format!("{index:03}.png"));
            assert!(off <= 1, "{what}: pixels off by {off}");
        }
        job.expect(0, "reconstruct images --model model --out cpu.png --device cpu");
        made_there(&run, "reconstruct images --model model --out card.png --device cuda");
        let sheets = ["cpu.png", "card.png"].map(|name| job.path(name));
        let off = difference(&sheets);
        assert!(off <= 1, "{what}: a sheet is off by {off}");
    }
}

/// A run whose pictures come from the card.
fn made_there(run: &Run<'_>, line: &str) {
    let mut command = run.job.command(line);
    let report = run.job.path("made.json");
    run.stand_ins.serve(&mut command, &report);
    let done = Done::of(command.output().unwrap());
    assert_eq!(done.code, 0, "{line}: {}", done.stderr);
    let counts = Counts::read(&report);
    counts.assert_clean();
    assert!(counts.of("launches") > 20, "{line}: pictures were made there");
}

fn largest_difference(job: &Job, folders: [&str; 2], name: &str) -> u8 {
    difference(&folders.map(|folder| job.path(folder).join(name)))
}

/// The largest difference of a byte of two pictures.
fn difference(paths: &[PathBuf; 2]) -> u8 {
    let [a, b] = paths.each_ref().map(|path| image::open(path).unwrap().to_rgb8());
    assert_eq!(a.dimensions(), b.dimensions());
    a.iter().zip(b.iter()).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn transformers_are_refused_or_passed_over_with_words() {
    let Some(stand_ins) = stand_ins("f32") else { return };
    let job = with_pictures(&[(16, 16); 2]);
    let transformer =
        || TransformerConfig { dim: 16, depth: 1, heads: 2, head_dim: 8, mlp_dim: 32 };
    let vit = Architecture::VitVqgan(VitVqganConfig {
        patch: [8, 8],
        grid: [2, 2],
        encoder: transformer(),
        decoder: transformer(),
        parts: Parts::Both,
    });
    let (config, weights) =
        random_model(vit, QuantizerConfig::new(QuantizerRule::L2Normalised, 20, 4));
    save(&job.path("model"), &config, &weights).unwrap();
    let run = |line: &str| {
        let mut command = job.command(line);
        stand_ins.serve(&mut command, &job.path("report.json"));
        Done::of(command.output().unwrap())
    };
    for line in ["tokenize images --out card", "reconstruct images --out card.png"] {
        let done = run(&format!("{line} --model model --device cuda"));
        assert_eq!(done.code, 2, "{}", done.stderr);
        done.assert_one_line(&["no such network runs on the GPU yet", "use --device cpu"]);
    }
    let done = run("tokenize images --model model --out auto");
    assert_eq!(done.code, 0, "{}", done.stderr);
    let words = "encoding on the CPU: no such network runs on the GPU yet";
    assert!(done.stderr.contains(words), "{}", done.stderr);
    assert_eq!(Counts::read(&job.path("report.json")).of("launches"), 0);
}
