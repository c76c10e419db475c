//! Owns `vqtok man`: a manual page for each command, from the words of its `--help`.

use std::path::PathBuf;

use clap_mangen::Man;
use serde_json::json;

use super::outcome::Finished;
use super::progress::Reporter;
use crate::error::{Error, Result};
use crate::job::places;
use crate::util::numbers::counted;
use crate::util::overwrite::{self, Foreign, MAN_MARK};
use crate::util::settings::OUT;
use crate::util::text;

/// Flags of `vqtok man`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Folder for the pages: vqtok.1, vqtok-tokenize.1, ...
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replace files of the same names that vqtok didn't write
    #[arg(long)]
    overwrite: bool,
    /// Events for machines on stdout
    #[arg(long)]
    pub(super) json: bool,
}

/// Runs the command, for the command line `all`.
pub(super) fn run(args: &Args, all: clap::Command, reporter: &Reporter) -> Result<Finished> {
    places::check_folder(OUT, &args.out)?;
    let foreign = Foreign::overwritten(args.overwrite);
    let mut root = all.disable_help_subcommand(true);
    root.build();
    let mut pages = Vec::new();
    add_pages(&root, &mut pages).map_err(Error::io(&args.out))?;
    // Nothing is written where something of it would be refused.
    for (name, _) in &pages {
        overwrite::check(&args.out.join(name), foreign)?;
    }
    for (name, page) in &pages {
        overwrite::write(&args.out.join(name), page, foreign)?;
    }
    let text = format!("{}: {}", text::path(&args.out), counted(pages.len() as u64, "page"));
    let names: Vec<&str> = pages.iter().map(|(name, _)| &**name).collect();
    reporter.result("man", &text, json!({"out": text::lossy(&args.out), "pages": names}));
    Ok(Finished::Clean)
}

/// The pages of a command and of those below it, by their names.
fn add_pages(command: &clap::Command, pages: &mut Vec<(String, Vec<u8>)>) -> std::io::Result<()> {
    let source = concat!("vqtok ", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command.clone()).source(source).manual("vqtok");
    let mut page = MAN_MARK.to_vec();
    man.render(&mut page)?;
    pages.push((man.get_filename(), page));
    command.get_subcommands().try_for_each(|below| add_pages(below, pages))
}
