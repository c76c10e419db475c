//! Owns `vqtok diff`: how two outputs differ.

use super::outcome::Finished;
use super::printer::ProgressPrinter;
use super::progress::Reporter;
use super::signals::stop_flag;
use crate::error::{Error, Result};
use crate::findings::Difference;
use crate::findings::diff::{Images, LevelDifference, MendedImage, Place, Sharing};
use crate::job::{Diff, places, set_threads};
use crate::util::numbers::{count, counted};
use crate::util::overwrite::{self, Foreign};
use crate::util::settings::JSON;
use crate::util::text;
use serde_json::json;
use std::path::PathBuf;

/// Flags of `vqtok diff`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Output folder of `vqtok tokenize`, or any Parquet with tokens
    a: PathBuf,
    /// Another one
    b: PathBuf,
    /// Everything that differs, as one JSON object [default: none]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Replace a file of that name that vqtok didn't write
    #[arg(long)]
    overwrite: bool,
    /// Worker threads [default: RAYON_NUM_THREADS, else every core]
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Print events as JSON on stdout, one object per line
    #[arg(long)]
    pub(super) events: bool,
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    let foreign = Foreign::overwritten(args.overwrite);
    let job = Diff::new(&args.a, &args.b);
    set_threads(args.threads)?;
    if let Some(path) = &args.json {
        job.refuse_inputs(&[(JSON, path, overwrite::is_ours(path))])?;
        places::check_plain(JSON, path, foreign)?;
    }
    let mut printer = ProgressPrinter::new(reporter, stop_flag()?);
    let difference = job.run(&mut printer)?;
    printer.close();
    if let Some(path) = &args.json {
        let mut bytes = serde_json::to_vec_pretty(&difference)
            .map_err(|error| Error::internal(format!("the difference is no JSON: {error}")))?;
        bytes.push(b'\n');
        overwrite::write(path, &bytes, foreign)?;
    }
    for line in in_words(&difference) {
        reporter.result("difference", &line, json!({"message": line.trim_start()}));
    }
    let shared = &difference.shared;
    let summary = match (difference.equal, shared.tokens) {
        (true, _) => format!("{}: equal in both", counted(shared.rows, "row")),
        (false, 0) => "they differ".into(),
        (false, tokens) => {
            let equal = share(shared.equal_tokens, tokens);
            format!("they differ: of the tokens of rows in both, {equal} equal")
        }
    };
    reporter.result(
        "compared",
        &summary,
        json!({"equal": difference.equal, "rows": shared.rows, "tokens": shared.tokens,
               "equal_tokens": shared.equal_tokens}),
    );
    Ok(Finished::of(difference.equal))
}

/// A line for each thing that differs.
fn in_words(difference: &Difference) -> Vec<String> {
    let mut lines = Vec::new();
    for setting in &difference.settings {
        let word = |value: &serde_json::Value| match value {
            serde_json::Value::Null => "not set".to_string(),
            serde_json::Value::String(value) => text::shorten(value),
            value => value.to_string(),
        };
        let (a, b) = (word(&setting.a), word(&setting.b));
        lines.push(format!("setting {}: {a} | {b}", text::printable(&setting.name)));
    }
    lines.extend(difference.remarks.iter().map(|remark| format!("note: {remark}")));
    tokens(&difference.shared, &mut lines);
    images(difference, &mut lines);
    lines
}

fn tokens(shared: &Sharing, lines: &mut Vec<String>) {
    let rows = counted(shared.rows, "row");
    if shared.tokens > 0 {
        let (tokens, equal) = (counted(shared.tokens, "token"), shared.equal_tokens);
        lines
            .push(format!("{rows} in both: {} of {tokens} are equal", share(equal, shared.tokens)));
    } else {
        lines.push(format!("{rows} in both"));
    }
    if shared.other_grid_rows > 0 {
        let rows = counted(shared.other_grid_rows, "row");
        lines.push(format!("{rows}: grids of other sizes or levels, whose tokens aren't compared"));
    }
    let differing = shared.tokens > shared.equal_tokens;
    for (at, range) in shared.by_share.iter().enumerate().filter(|(_, range)| range.rows > 0) {
        let rows = counted(range.rows, "row");
        let per_cent = |share: f64| format!("{:.0} %", 100.0 * share);
        match at {
            _ if !differing => {}
            0 => lines.push(format!("  {rows}: every token equal")),
            _ => lines.push(format!(
                "  {rows}: above {} up to {} of the tokens differ",
                per_cent(range.above),
                per_cent(range.to)
            )),
        }
    }
    let of_same_file = shared.differing_of_same_file;
    if of_same_file > 0 {
        let rows = counted(of_same_file, "row");
        lines.push(format!("  {rows}: other tokens of the same file"));
    }
    let several = shared.levels.len() > 1;
    for level in shared.levels.iter().filter(|level| level.equal_tokens < level.tokens) {
        lines.extend(where_in_words(level, several));
    }
    for worst in shared.worst.iter().take(3) {
        let view = worst.view.map_or(String::new(), |view| format!(" (view {view})"));
        let key = text::shorten(&worst.key);
        lines.push(format!("  {key}{view}: {:.1} % differ", 100.0 * worst.differing));
    }
}

/// Where in the grids of most rows tokens differ.
fn where_in_words(level: &LevelDifference, several: bool) -> Option<String> {
    let Place { height, width, rows, differing } = level.places.first()?;
    let (most, place) =
        differing.iter().zip(0..).max_by_key(|&(n, at)| (n, std::cmp::Reverse(at)))?;
    let least = differing.iter().min()?;
    let rim = |&at: &usize| {
        let (y, x) = (at / width, at % width);
        y == 0 || x == 0 || y + 1 == *height || x + 1 == *width
    };
    let of_rim: u64 = (0..differing.len()).filter(rim).map(|at| differing[at]).sum();
    let rims = (0..differing.len()).filter(rim).count() as u64;
    let inner = differing.len() as u64 - rims;
    let level = if several { format!("level {}, ", level.level) } else { String::new() };
    let mut line = format!(
        "  {level}grids of {height} x {width}: most differ in row {}, column {} ({}), fewest {}",
        place / width + 1,
        place % width + 1,
        share(*most, *rows),
        share(*least, *rows)
    );
    if inner > 0 {
        let all: u64 = differing.iter().sum();
        let (rim, within) = (share(of_rim, rims * rows), share(all - of_rim, inner * rows));
        line += &format!("; {rim} at the rim, {within} within");
    }
    Some(line)
}

fn images(difference: &Difference, lines: &mut Vec<String>) {
    let mut listed = |images: &Images, what: &str| {
        if images.count > 0 {
            let keys: Vec<&str> = images.keys.iter().take(3).map(String::as_str).collect();
            lines.push(named(images.count, what, &keys));
        }
    };
    listed(&difference.added, "in the second alone");
    listed(&difference.gone, "in the first alone");
    listed(&difference.changed, "of another file than before");
    listed(&difference.relabelled, "of another label than before");
    let mut failed = |count: u64, images: &[MendedImage], what: &str| {
        if count > 0 {
            let keys: Vec<&str> = images.iter().take(3).map(|image| image.key.as_str()).collect();
            lines.push(named(count, what, &keys));
        }
    };
    failed(difference.mended_count, &difference.mended, "given up in the first alone");
    failed(difference.broken_count, &difference.broken, "given up in the second alone");
    let mut say = |number: u64, thing: &str, what: &str| {
        if number > 0 {
            lines.push(format!("{}: {what}", counted(number, thing)));
        }
    };
    say(difference.failed_in_both, "image", "given up in both");
    say(
        difference.failed_in_one[0],
        "image",
        "given up in the first, without a counterpart in the second",
    );
    say(
        difference.failed_in_one[1],
        "image",
        "given up in the second, without a counterpart in the first",
    );
    say(
        difference.further_rows[0],
        "row",
        "further rows of keys that both have, in the first alone",
    );
    say(
        difference.further_rows[1],
        "row",
        "further rows of keys that both have, in the second alone",
    );
    say(difference.unreadable[0], "row", "of the first can't be read");
    say(difference.unreadable[1], "row", "of the second can't be read");
}

fn named(number: u64, what: &str, keys: &[&str]) -> String {
    let keys: Vec<_> = keys.iter().map(|key| text::shorten(key)).collect();
    let more = if number > keys.len() as u64 { ", ..." } else { "" };
    format!("{}: {what} ({}{more})", counted(number, "image"), keys.join(", "))
}

/// A share in per cent; one that isn't all or nothing never says so.
fn share(part: u64, all: u64) -> String {
    let per_cent = 100.0 * part as f64 / all.max(1) as f64;
    match (part, per_cent) {
        (0, _) => "none".into(),
        (part, _) if part == all => "all".into(),
        (_, p) if p > 99.995 => format!("all but {}", count(all - part)),
        (_, p) if p < 0.005 => count(part),
        (_, p) => format!("{p:.2} %"),
    }
}
