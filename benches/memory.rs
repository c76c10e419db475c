//! Owns one question: does memory grow with the data set? Tokenizes 2,000 and 20,000 small images
//! with the same tiny model and prints the peak resident set of each process.
//!
//! `cargo bench --bench memory`

use std::path::Path;
use std::process::Command;

#[path = "common/process.rs"]
mod process;
#[path = "../tests/support/mod.rs"]
mod support;
use support::{TINY_RECIPE, picture};

fn main() {
    let scratch = tempfile::tempdir().expect("a scratch folder");
    let dir = scratch.path();
    std::fs::write(dir.join("tiny.toml"), TINY_RECIPE).expect("recipe");
    for images in [2_000u32, 20_000] {
        for index in 0..images {
            let folder = dir.join(format!("images-{images}/{:02}", index % 20));
            std::fs::create_dir_all(&folder).expect("folder");
            picture(index).save(folder.join(format!("{index:06}.png"))).expect("picture");
        }
    }
    peak_rss(dir, "train images-2000 --model model --recipe tiny.toml");
    let peaks = [2_000, 20_000].map(|images| {
        let line =
            format!("tokenize images-{images} --model model --out out-{images} --shard-rows 1000");
        let mut peaks: Vec<u64> = (0..3)
            .map(|_| {
                let _ = std::fs::remove_dir_all(dir.join(format!("out-{images}")));
                peak_rss(dir, &line)
            })
            .collect();
        peaks.sort_unstable();
        println!("{images:6} images: peak {:.1} MiB (median of 3)", peaks[1] as f64 / 1024.0);
        peaks[1] as f64
    });
    println!("ratio {:.3} (at most 1.05 is the promise)", peaks[1] / peaks[0]);
}

/// Peak resident set in KiB of the binary run with `line` in `dir`.
fn peak_rss(dir: &Path, line: &str) -> u64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vqtok"));
    process::cost(command.args(line.split_whitespace()).current_dir(dir)).1
}
