//! Owns running the binary as a user does, on small inputs that the tests make themselves.

use image::{Rgb, RgbImage};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A scratch folder with images and a tiny recipe; gone when dropped.
pub struct Job {
    pub dir: tempfile::TempDir,
}

/// A VQ-VAE that trains in a blink: factor 4, 16 codes of length 4.
pub const TINY_RECIPE: &str = r#"
name = "tiny"
description = "for tests"

[model]
channels = 3
codes = 16
dim = 4
architecture = { kind = "vqvae", hidden = 8, downsamples = 2, res_blocks = 1, res_hidden = 4 }

[data]
size = 16

[train]
steps = 4
batch_size = 4

[train.codebook]
start_after = 1
"#;

impl Job {
    /// `images` pictures of different sizes under `images/{cat,dog}/` and `images/`.
    pub fn new(images: usize) -> Job {
        let dir = tempfile::tempdir().unwrap();
        let job = Job { dir };
        std::fs::write(job.path("tiny.toml"), TINY_RECIPE).unwrap();
        for index in 0..images {
            let folder = job.path(["images", "images/cat", "images/dog"][index % 3]);
            std::fs::create_dir_all(&folder).unwrap();
            let extension = ["png", "bmp", "ppm", "qoi"][index % 4];
            picture(index as u32).save(folder.join(format!("{index:04}.{extension}"))).unwrap();
        }
        job
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The binary with `line` split at spaces, in the scratch folder.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vqtok"));
        command.args(line.split_whitespace()).current_dir(self.dir.path());
        for name in ["RAYON_NUM_THREADS", "RANK", "WORLD_SIZE"] {
            command.env_remove(name);
        }
        command
    }

    pub fn run(&self, line: &str) -> Done {
        Done::of(self.command(line).output().unwrap())
    }

    /// Runs `line` and demands its exit code.
    pub fn expect(&self, code: i32, line: &str) -> Done {
        let done = self.run(line);
        assert_eq!(done.code, code, "vqtok {line}\n{}\n{}", done.stdout, done.stderr);
        done
    }

    /// Trains the tiny model as `model`.
    pub fn trained(self) -> Job {
        self.expect(0, "train images --model model --recipe tiny.toml");
        self
    }

    /// Every file under `folder`, by relative name, with its bytes.
    pub fn files(&self, folder: &str) -> Vec<(String, Vec<u8>)> {
        let root = self.path(folder);
        let mut files = Vec::new();
        collect(&root, &root, &mut files);
        files.sort();
        files
    }

    /// Asserts that two folders hold the same files with the same bytes.
    pub fn assert_same(&self, a: &str, b: &str) {
        let (left, right) = (self.files(a), self.files(b));
        let names = |files: &[(String, Vec<u8>)]| -> Vec<String> {
            files.iter().map(|(name, _)| name.clone()).collect()
        };
        assert_eq!(names(&left), names(&right), "{a} and {b} hold different files");
        for ((name, x), (_, y)) in left.iter().zip(&right) {
            assert!(x == y, "{name} differs between {a} and {b}");
        }
    }
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(root, &path, files);
        } else {
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            files.push((name, std::fs::read(&path).unwrap()));
        }
    }
}

/// What a run of the binary left.
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    pub fn of(output: Output) -> Done {
        Done {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The `--json` events called `name`.
    pub fn events(&self, name: &str) -> Vec<serde_json::Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}")))
            .filter(|event: &serde_json::Value| event["event"] == name)
            .collect()
    }

    /// Asserts that the run failed in one line on stderr that holds every word.
    pub fn assert_one_line(&self, words: &[&str]) {
        let errors: Vec<_> =
            self.stderr.lines().filter(|line| line.starts_with("vqtok: ")).collect();
        assert_eq!(errors.len(), 1, "one line of error expected:\n{}", self.stderr);
        for word in words {
            assert!(errors[0].contains(word), "{word:?} is missing in: {}", errors[0]);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }
}

/// A small picture that differs for every seed; sizes from 16 to 40 pixels.
pub fn picture(seed: u32) -> RgbImage {
    let (width, height) = (16 + seed * 7 % 25, 16 + seed * 11 % 25);
    RgbImage::from_fn(width, height, |x, y| {
        let wave = |a: u32, b: u32| {
            let phase = (x * (1 + seed % a) + y * (1 + seed % b)) as f32 / 9.0 + seed as f32;
            (127.0 + 120.0 * phase.sin()) as u8
        };
        Rgb([wave(3, 5), wave(7, 2), wave(4, 6)])
    })
}
