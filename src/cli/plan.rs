//! Owns `vqtok plan`: what tokenizing would plan, or what has changed since.

use super::inputs::{FactFlags, InputFlags};
use super::outcome::Finished;
use super::printer::{ProgressPrinter, skipped_fields, unplanned_in_words};
use super::signals::stop_flag;
use crate::cli::progress::Reporter;
use crate::data::Buckets;
use crate::error::Result;
use crate::job::{BucketCount, ChangedImages, InputChanges, Inputs, Survey, SurveySummary};
use crate::util::numbers::counted;
use crate::util::{numbers, text};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Flags of `vqtok plan`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    inputs: InputFlags,
    #[command(flatten)]
    facts: FactFlags,
    /// How many of the first images to show
    #[arg(long, value_name = "N", default_value_t = 10, conflicts_with = "diff")]
    rows: usize,
    /// Say as well how many images go into each of these aspect buckets, as tokenizing with MODEL
    /// brings them there; sizes as `vqtok tokenize` takes them [default: none]
    #[arg(long, value_name = "SIZES", conflicts_with = "diff", requires = "model")]
    buckets: Option<Buckets>,
    /// The tokenizer whose factor the buckets' sides are multiples of [default: none]
    #[arg(long, value_name = "PATH", requires = "buckets")]
    model: Option<PathBuf>,
    /// Say instead what has changed since the output in DIR was planned; exit code 1 where something
    /// has [default: none]
    #[arg(long, value_name = "DIR")]
    diff: Option<PathBuf>,
    /// Events for machines on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    let inputs = args.facts.of(Inputs::from(args.inputs));
    let survey = Survey::of(inputs).rows(args.rows);
    let mut printer = ProgressPrinter::new(reporter, stop_flag()?);
    if let Some(out) = &args.diff {
        let changes = survey.changes(out, &mut printer)?;
        changed(out, &changes, reporter);
        return Ok(Finished::of(changes.is_none()));
    }
    let summary = survey.run(&mut printer)?;
    planned(&summary, reporter);
    if let Some((buckets, model)) = args.buckets.as_ref().zip(args.model.as_ref()) {
        for BucketCount { width, height, images, .. } in
            survey.bucket_counts(buckets, model, &mut printer)?
        {
            let text = format!("bucket {width}x{height}: {}", counted(images, "image"));
            let fields = json!({"width": width, "height": height, "images": images});
            reporter.result("bucket", &text, fields);
        }
    }
    printer.odd(&summary.skipped);
    Ok(Finished::Clean)
}

fn planned(summary: &SurveySummary, reporter: &Reporter) {
    let SurveySummary { images, faulty, containers, bytes, skipped, .. } = summary;
    let mut text = counted(*images, "image");
    if *containers > 0 {
        text += &format!(" in {}", counted(*containers, "container"));
    }
    text += &format!(", {}", numbers::bytes(*bytes));
    if *faulty > 0 {
        text += &format!("; {} of them can't be read", numbers::count(*faulty));
    }
    text += &format!("; {}", skipped.message());
    let mut fields = skipped_fields(skipped);
    fields["images"] = (*images).into();
    fields["faulty"] = (*faulty).into();
    fields["containers"] = (*containers).into();
    fields["bytes"] = (*bytes).into();
    fields["label_level"] = summary.label_level.to_string().into();
    reporter.result("planned", &text, fields);
    for row in &summary.rows {
        let fields = json!({
            "key": row.key, "uri": row.uri, "member": row.member, "bytes": row.bytes,
            "label": row.label, "caption": row.caption, "meta_json": row.meta_json,
            "fault": row.fault,
        });
        reporter.result("image", &row.to_string(), fields);
    }
}

fn changed(out: &Path, changes: &InputChanges, reporter: &Reporter) {
    let InputChanges { planned, found, new, gone, changed, reordered, about, .. } = changes;
    let about_word = if *about { "about " } else { "" };
    let mut text = format!(
        "{}: {} planned, {} today: ",
        text::path(out),
        counted(*planned, "image"),
        numbers::count(*found)
    );
    text += &match (changes.is_none(), reordered) {
        (true, _) => "nothing has changed".to_string(),
        (_, true) => "the same ones in another order".to_string(),
        _ => format!(
            "{about_word}{}, {}, {}",
            kind(new, "new"),
            kind(gone, "gone"),
            kind(changed, "changed")
        ),
    };
    if changes.unplanned_facts > 0 {
        text += "; ";
        text += &unplanned_in_words(changes.unplanned_facts);
    }
    let fields = json!({
        "unplanned_facts": changes.unplanned_facts,
        "out": text::lossy(out), "planned": planned, "found": found, "new": new, "gone": gone,
        "changed": changed, "reordered": reordered, "estimated": about,
    });
    reporter.result("changes", &text, fields);
}

/// A kind of change in words: `2 new (a.png, b.png)`.
fn kind(images: &ChangedImages, what: &str) -> String {
    let mut words = format!("{} {what}", numbers::count(images.count));
    if !images.examples.is_empty() {
        let examples: Vec<_> = images.examples.iter().map(|e| text::printable(e)).collect();
        let more = if images.count > examples.len() as u64 { ", ..." } else { "" };
        words += &format!(" ({}{more})", examples.join(", "));
    }
    words
}
