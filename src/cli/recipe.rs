//! Owns `vqtok recipe list|show`. Must not know: what recipes are for.

use super::common::PixelFlags;
use super::outcome::Finished;
use crate::cli::progress::Reporter;
use crate::config::{RECIPES, Recipe};
use crate::error::Result;
use crate::job::PixelSettings;
use serde_json::json;

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
}

impl Args {
    pub(super) fn json(&self) -> bool {
        match &self.command {
            Command::List { json } | Command::Show { json, .. } => *json,
        }
    }
}

/// Runs the command.
pub(super) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    match args.command {
        Command::List { .. } => {
            for (name, _) in RECIPES {
                let recipe = Recipe::load(name)?;
                let line = format!("{name:16} {}", recipe.description);
                reporter.result(
                    "recipe",
                    &line,
                    json!({"name": name, "description": recipe.description}),
                );
            }
        }
        Command::Show { recipe, pixels, .. } => {
            let recipe = PixelSettings::from(&pixels).over(Recipe::load(&recipe)?)?;
            reporter.result("recipe", recipe.to_toml()?.trim_end(), json!({"recipe": recipe}));
        }
    }
    Ok(Finished::Clean)
}
