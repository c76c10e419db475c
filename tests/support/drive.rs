//! Owns what the fuzz targets and the damage tests drive: bytes of somebody's making through a
//! public door. Any answer is right; a crash, a wrong answer or memory without end is not.
//! Must not know: who makes the bytes.

#![allow(dead_code)]

use std::path::{Path, PathBuf};

use vqtok::internals::audit::{self, TokenFile};
use vqtok::internals::config::Recipe;
use vqtok::internals::data::prepare::{Preparation, from_bytes};
use vqtok::internals::data::resize::rules::ResizeRule;
use vqtok::internals::data::source::fetch::contents as contents_of;
use vqtok::internals::data::{Alpha, Limits, decode};
use vqtok::internals::tokens::{Plan, contents, repair};

/// Whether a message is one line about the file, and not about types and variants of a program.
pub fn is_in_words(message: &str) -> bool {
    let program = ["{", "}", "::", "Some(", "None", "Error(", "Err(", "unwrap", "panicked"];
    // `Name(` and `fn(`, but not ` (`.
    let call = message.as_bytes().windows(2);
    let call = call.filter(|pair| pair[1] == b'(').any(|pair| pair[0].is_ascii_alphanumeric());
    let named = program.iter().any(|part| message.contains(part));
    !call && !named && !message.is_empty() && !message.contains(char::is_control)
}

/// An image file: decoded, oriented, resized. Says whether it was an image.
pub fn image(bytes: &[u8]) -> bool {
    // Small limits, so that a run tries many files instead of a few large ones.
    let limits =
        Limits { file_bytes_max: 1 << 22, pixels_max: 1 << 20, decoded_bytes_max: 1 << 24 };
    let alpha = [Alpha::White, Alpha::Black, Alpha::Drop][bytes.len() % 3];
    let decoded = decode(bytes, &limits, alpha);
    if let Err(reject) = &decoded {
        assert!(is_in_words(&reject.message), "{}", reject.message);
    }
    if let Ok(decoded) = &decoded {
        let (width, height) = decoded.image.dimensions();
        assert!(u64::from(width) * u64::from(height) <= limits.pixels_max);
        assert_eq!(decoded.image.as_raw().len(), width as usize * height as usize * 3);
        assert!((1..=8).contains(&decoded.orientation));
    }
    let channels = [1, 3][bytes.len() % 2];
    let (rule, size) = (ResizeRule::default(), Some(16));
    let (orientation, pillow) = (Default::default(), Default::default());
    let (views, buckets) = (None, None);
    let how =
        Preparation { limits, alpha, orientation, pillow, rule, size, channels, views, buckets };
    let prepared = from_bytes(bytes, &how);
    if let Ok(prepared) = &prepared {
        assert_eq!(prepared.pixels.len(), 16 * 16 * channels);
        assert!(decoded.is_ok());
    }
    decoded.is_ok()
}

/// A container or list of this name in a folder of its own: listed, and its images read in order and
/// in any order, which must be the same. Says whether it held images that can be read.
pub fn container(folder: &Path, name: &str, bytes: &[u8]) -> bool {
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a file of our own");
    let images = match contents_of(&[path]) {
        Ok(images) => images,
        Err(error) => {
            assert!(!error.to_string().contains(char::is_control), "{error}");
            return false;
        }
    };
    for (key, in_order, in_any) in &images {
        assert!(!key.is_empty() && key.len() < 1 << 16, "a key of {} bytes", key.len());
        match (in_order, in_any) {
            (Ok(a), Ok(b)) => assert!(a == b, "{key}: read in order it is another image"),
            (Err(a), Err(_)) => {
                assert!(!a.message.contains(char::is_control), "{}", a.message);
            }
            (a, b) => panic!("{key}: read in order {a:?}, in any {b:?}"),
        }
    }
    images.iter().any(|(_, in_order, _)| in_order.is_ok())
}

/// A recipe: one that is accepted must come back the same. Says whether it was.
pub fn recipe(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    match Recipe::parse(text, "from somebody") {
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "{error}");
            false
        }
        Ok(recipe) => {
            let again = recipe.to_toml().expect("a checked recipe is TOML");
            assert_eq!(Recipe::parse(&again, "itself").expect("its own TOML reads back"), recipe);
            true
        }
    }
}

/// An output whose files are replaced one at a time.
pub struct Output {
    dir: PathBuf,
    /// `plan.parquet` as it was made.
    pub plan: Vec<u8>,
    /// The second shard as it was made.
    pub shard: Vec<u8>,
}

const PLAN: &str = "plan.parquet";
const SHARD: &str = "tokens/part-00001.parquet";

impl Output {
    /// Takes over the finished output at `dir`.
    pub fn at(dir: &Path) -> Output {
        let read = |name: &str| std::fs::read(dir.join(name)).expect("a finished output");
        Output { dir: dir.to_path_buf(), plan: read(PLAN), shard: read(SHARD) }
    }

    /// `bytes` in the plan's place. Says whether they are a plan.
    pub fn plan(&self, bytes: &[u8]) -> bool {
        std::fs::write(self.dir.join(PLAN), bytes).expect("a place for the plan");
        let plan = Plan::open(&self.dir);
        if let Ok(plan) = &plan {
            let rows = plan.all_rows().map(|rows| rows.take_while(Result::is_ok).count() as u64);
            if let Ok(rows) = rows {
                assert!(rows <= plan.rows());
            }
            (0..plan.partitions().min(8)).for_each(|partition| {
                let _ = plan.partition(partition);
            });
        }
        self.must_tell(bytes == self.plan);
        plan.is_ok()
    }

    /// `bytes` in a shard's place. Says whether they hold token grids.
    pub fn shard(&self, bytes: &[u8]) -> bool {
        let path = self.dir.join(SHARD);
        std::fs::write(&path, bytes).expect("a place for the shard");
        let rows = TokenFile::open(&path).and_then(|file| {
            let _ = file.row_count();
            file.collect::<Result<Vec<_>, _>>()
        });
        let _ = Plan::open(&self.dir).and_then(|plan| contents(&plan, 1));
        let _ = Plan::open(&self.dir).and_then(|plan| repair::with_failures(&plan));
        self.must_tell(bytes == self.shard);
        rows.is_ok()
    }

    /// The auditor finds every change, and nothing where there is none.
    fn must_tell(&self, unchanged: bool) {
        let report = audit::verify(&self.dir).expect("an output that can be looked at");
        assert_eq!(report.clean(), unchanged, "{:?}", report.findings);
    }

    /// Puts the files back as they were made.
    pub fn restore(&self) {
        std::fs::write(self.dir.join(PLAN), &self.plan).expect("a place for the plan");
        std::fs::write(self.dir.join(SHARD), &self.shard).expect("a place for the shard");
    }
}
