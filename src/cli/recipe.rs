//! Owns `vqtok recipe list|show|suggest`. Must not know: what recipes are for.

use super::common::PixelFlags;
use super::inputs::InputFlags;
use super::outcome::Finished;
use super::printer::ProgressPrinter;
use super::quantities::time_of;
use super::signals::stop_flag;
use crate::cli::progress::Reporter;
use crate::config::{RECIPES, Recipe};
use crate::error::Result;
use crate::job::{PixelSettings, Suggest, Suggestion, set_threads};
use crate::util::numbers::{self, counted};
use crate::util::text;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Flags of `vqtok recipe`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// The recipes that come with vqtok
    List {
        /// Events for machines on stdout
        #[arg(long)]
        json: bool,
    },
    /// Check a recipe and print it with every setting filled in
    Show {
        /// Name of a recipe that comes with vqtok, or a TOML file
        recipe: String,
        #[command(flatten)]
        pixels: PixelFlags,
        /// Events for machines on stdout
        #[arg(long)]
        json: bool,
    },
    /// Look at some images and at this machine, and propose a recipe with its time, memory and tokens
    Suggest {
        #[command(flatten)]
        inputs: InputFlags,
        /// Time that the training may take, as 30m or 8h [default: 12h]
        #[arg(long, value_name = "TIME", value_parser = time_of)]
        budget: Option<Duration>,
        /// File for the proposed recipe, to be trained by and changed [default: none is written]
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Worker threads [default: RAYON_NUM_THREADS, else every core]
        #[arg(long, value_name = "N")]
        threads: Option<usize>,
        /// Events for machines on stdout
        #[arg(long)]
        json: bool,
    },
}

impl Args {
    pub(super) fn json(&self) -> bool {
        match &self.command {
            Command::List { json } | Command::Show { json, .. } | Command::Suggest { json, .. } => {
                *json
            }
        }
    }
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    match args.command {
        Command::List { .. } => list(reporter)?,
        Command::Show { recipe, pixels, .. } => {
            let recipe = PixelSettings::from(&pixels).over(Recipe::load(&recipe)?)?;
            reporter.result("recipe", recipe.to_toml()?.trim_end(), json!({"recipe": recipe}));
        }
        Command::Suggest { inputs, budget, out, threads, .. } => {
            set_threads(threads)?;
            let named = inputs.named();
            // Before minutes of timing.
            out.as_deref().map_or(Ok(()), Suggestion::check_place)?;
            let mut printer = ProgressPrinter::new(reporter, stop_flag()?);
            let found = Suggest::of(inputs.into()).budget(budget).run(&mut printer)?;
            if let Some(out) = &out {
                found.write(out)?;
            }
            suggest(&found, &named, out.as_deref(), reporter)?;
        }
    }
    Ok(Finished::Clean)
}

fn list(reporter: &Reporter) -> Result<()> {
    for (name, _) in RECIPES {
        let recipe = Recipe::load(name)?;
        let gave = match &recipe.expected {
            None => "not run to its end yet".into(),
            Some(run) => format!(
                "gave {:.1} dB, {:.0} % of the codes used, in {} of processor time ({})",
                run.psnr,
                100.0 * run.usage,
                numbers::seconds(run.cpu_seconds),
                run.images
            ),
        };
        let line = format!("{name:16} {}; {gave}", recipe.description);
        let fields = json!({"name": name, "description": recipe.description,
                            "expected": recipe.expected});
        reporter.result("recipe", &line, fields);
    }
    Ok(())
}

/// The proposal, in words and for machines.
fn suggest(
    found: &Suggestion,
    inputs: &str,
    out: Option<&Path>,
    reporter: &Reporter,
) -> Result<()> {
    let Suggestion { look, recipe, .. } = found;
    let [small, median, large] = look.short_sides;
    let colours = if look.grey >= 0.5 { "grey" } else { "in colour" };
    let steps = recipe.train.steps;
    let passes = (steps * recipe.train.batch_size) as f64 / look.images.max(1) as f64;
    let train = match (out, found.as_it_stands) {
        (Some(out), _) => text::path(out),
        (None, true) => recipe.name.clone(),
        (None, false) => "FILE (written with --out FILE)".into(),
    };
    let mut lines = vec![
        format!(
            "{}, {} of them looked at: shorter sides {small} to {large} px, half of them up to \
             {median}; {:.0} % {colours}; {:.1} dB are left at a quarter of 64 px",
            counted(look.images, "image"),
            look.looked_at,
            100.0 * if look.grey >= 0.5 { look.grey } else { 1.0 - look.grey },
            look.coarse_psnr
        ),
        format!("recipe {}: {}", recipe.name, recipe.description),
    ];
    lines.extend(found.reasons.iter().map(|reason| format!("  {reason}")));
    lines.push(format!(
        "{} an image, {} codes, {} px",
        counted(found.tokens, "token"),
        numbers::count(recipe.model.codes),
        recipe.data.size
    ));
    lines.push(format!(
        "about {} on {}: {} of {}, {passes:.1} times through the images; {} of memory",
        numbers::seconds(found.time.as_secs_f64()),
        counted(found.threads, "thread"),
        counted(steps, "step"),
        numbers::short_time(found.step.as_secs_f64()),
        numbers::bytes(found.memory_bytes)
    ));
    lines.push(format!("next: vqtok train {inputs} --model model --recipe {train}"));
    let fields = json!({
        "look": look, "recipe": recipe, "as_it_stands": found.as_it_stands,
        "reasons": found.reasons, "tokens": found.tokens, "parameters": found.parameters,
        "seconds": found.time.as_secs_f64(), "step_seconds": found.step.as_secs_f64(),
        "memory_bytes": found.memory_bytes, "threads": found.threads, "passes": passes,
    });
    reporter.result("suggestion", &lines.join("\n"), fields);
    Ok(())
}
