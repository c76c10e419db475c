//! Owns how messages name a setting: as itself (`shard_rows`), which a front end shows in its own
//! way (`--shard-rows`). Must not know: flags.
//!
//! Below the command line a message is written as `format!("use a smaller {SIZE}")`. The name
//! stands between two control characters, which no foreign text has once it is
//! [`printable`](crate::util::text::printable), so that a file called `size` stays a file.

use std::borrow::Cow;
use std::fmt;

use crate::util::text;

/// The name of a setting, to be displayed within a message of [`crate::Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setting(pub(crate) &'static str);

const OPEN: char = '\u{2}';
const CLOSE: char = '\u{3}';

macro_rules! settings {
    ($($constant:ident = $name:literal),* $(,)?) => {
        $(#[allow(dead_code)] // until every room names its settings so
        pub(crate) const $constant: Setting = Setting($name);)*
        /// Every setting that a message names.
        pub(crate) const ALL: &[Setting] = &[$($constant),*];
    };
}

settings! {
    AGAINST = "against",
    ALPHA = "alpha",
    APPEND = "append",
    BATCH_SIZE = "batch_size",
    BOS = "bos",
    BUCKETS = "buckets",
    BUDGET = "budget",
    CACHE_CROPS = "cache_crops",
    CAPTION_COLUMN = "caption_column",
    CLASS_TOKENS = "class_tokens",
    CODES = "codes",
    COUNT = "count",
    CODE_PICTURES = "code_pictures",
    COLUMN = "column",
    DEVICE = "device",
    ENGINE = "engine",
    EOS = "eos",
    FAIL_ON = "fail_on",
    FAMILY = "family",
    FIELDS = "fields",
    FORCE = "force",
    GRID = "grid",
    HEADER = "header",
    HIDDEN = "hidden",
    HTML = "html",
    IMAGE_COLUMN = "image_column",
    INCEPTION = "inception",
    INIT_FAMILY = "init_family",
    INIT_FROM = "init_from",
    INIT_WEIGHTS = "init_weights",
    KEEP = "keep",
    KEY_COLUMN = "key_column",
    JSON = "json",
    LABEL_COLUMN = "label_column",
    LABEL_LEVEL = "label_level",
    LABEL_MAP = "label_map",
    LAYOUT = "layout",
    LEVELS = "levels",
    LIST_ONLY = "list_only",
    LPIPS = "lpips",
    MEAN = "mean",
    MICRO_BATCH = "micro_batch",
    MODEL = "model",
    MODEL_CONFIG = "model_config",
    MOVED = "moved",
    ON_ERROR = "on_error",
    ONNXRUNTIME = "onnxruntime",
    ORDER = "order",
    ORIENTATION = "orientation",
    OUT = "out",
    OVERWRITE = "overwrite",
    PARTIAL = "partial",
    PARTITION = "partition",
    PASS = "pass",
    PERCEPTUAL_WEIGHTS = "perceptual_weights",
    PILLOW = "pillow",
    PLAN_ONLY = "plan_only",
    PRECISION = "precision",
    PRECISION_AUDIT = "precision_audit",
    RANK_FROM = "rank_from",
    RANKS = "ranks",
    RECIPE = "recipe",
    REFERENCE = "reference",
    REMOVE_LIST = "remove_list",
    RESIZE = "resize",
    RESUME = "resume",
    RETRY_FAILED = "retry_failed",
    ROWS = "rows",
    SAMPLE = "sample",
    SAVE_INDEX = "save_index",
    SCALES = "scales",
    SEED = "seed",
    SHARD_ROWS = "shard_rows",
    SHEET = "sheet",
    SIZE = "size",
    SOURCE = "source",
    SPLIT = "split",
    STD = "std",
    STEPS = "steps",
    THREADS = "threads",
    THRESHOLD = "threshold",
    TO = "to",
    VIEWS = "views",
    VOCAB_OFFSET = "vocab_offset",
    WEIGHTS = "weights",
    WORST = "worst",
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OPEN}{}{CLOSE}", self.0)
    }
}

/// Whether `c` begins or ends the name of a setting in a message that is [`printable`].
pub(crate) fn is_mark(c: char) -> bool {
    matches!(c, OPEN | CLOSE)
}

/// A message in which `name` says how each of its settings is called. Marks around anything else are a
/// foreign text's, and stay.
pub(crate) fn named(message: &str, name: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(OPEN) {
        out += before;
        match after.split_once(CLOSE) {
            Some((setting, behind)) if ALL.iter().any(|known| known.0 == setting) => {
                out += &name(setting);
                rest = behind;
            }
            _ => {
                out.push(OPEN);
                rest = after;
            }
        }
    }
    out + rest
}

/// A message in which nothing steers a terminal: all that does is escaped, but for the marks around
/// the names of settings.
pub(crate) fn printable(message: &str) -> Cow<'_, str> {
    if !message.contains(text::is_steering) {
        return Cow::Borrowed(message);
    }
    let mut out = String::with_capacity(message.len() + 16);
    let mut rest = message;
    while let Some((before, after)) = rest.split_once(OPEN) {
        out += &text::printable(before);
        match after.split_once(CLOSE) {
            Some((name, behind)) if ALL.iter().any(|setting| setting.0 == name) => {
                out.extend([&OPEN.to_string(), name, &CLOSE.to_string()]);
                rest = behind;
            }
            _ => {
                out += &text::printable(&OPEN.to_string());
                rest = after;
            }
        }
    }
    out += &text::printable(rest);
    Cow::Owned(out)
}

/// A message in which every setting is called by its own name.
pub(crate) fn plain(message: &str) -> String {
    named(message, str::to_owned)
}

#[cfg(test)]
mod tests;
