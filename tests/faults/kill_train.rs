//! Owns the proof that a training survives being killed: the process itself, by SIGKILL, ten times
//! at random, with a discriminator and its way back to a snapshot. Must not know: what is trained.

use crate::support::*;

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

const RECIPE: &str = r#"
name = "killed"
description = "adversarial from a fifth of the steps on, a checkpoint every other step"

[model]
channels = 3
codes = 16
dim = 4
architecture = { kind = "vqvae", hidden = 8, downsamples = 2, res_blocks = 1, res_hidden = 4 }

[data]
size = 16

[train]
steps = 240
batch_size = 4
micro_batch = 3
held_out_share = 0.2
checkpoint_every = 2
log_every = 10

[train.codebook]
start_after = 10

[train.adversarial]
start = 0.2
filters = 4
layers = 1

[train.watch]
images = 2
fall_db = 0.05
"#;

/// Which checkpoint stands at `path`: each is a new file.
fn checkpoint(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |meta| meta.ino())
}

#[test]
fn ten_kills_change_no_bit() {
    let job = Job::new(24);
    std::fs::write(job.path("killed.toml"), RECIPE).unwrap();
    job.expect(0, "train images --model whole --recipe killed.toml");
    let path = job.path("killed/state/checkpoint.safetensors");
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for kill in 0..10 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(kill);
        let mut command = job.command("train images --model killed --recipe killed.toml --resume");
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        // Some checkpoints further, and then anywhere within the next steps: also while one is
        // being written.
        let begun = Instant::now();
        let (mut seen, mut left) = (checkpoint(&path), (random >> 40) % 8);
        while left > 0 {
            assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
            assert!(begun.elapsed() < Duration::from_secs(120), "no checkpoint in two minutes");
            let now = checkpoint(&path);
            if now != seen {
                (seen, left) = (now, left - 1);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        std::thread::sleep(Duration::from_micros((random >> 20) % 20_000));
        child.kill().unwrap();
        assert!(!child.wait().unwrap().success(), "it ended before it was killed");
    }
    job.expect(0, "train images --model killed --recipe killed.toml --resume");
    for file in ["config.json", "model.safetensors"] {
        let read = |folder: &str| std::fs::read(job.path(folder).join(file)).unwrap();
        assert!(read("whole") == read("killed"), "{file} differs");
    }
}
