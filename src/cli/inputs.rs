//! Owns the INPUTs of a command.

use std::path::PathBuf;

use crate::job::Inputs;

/// The inputs, at least one.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct InputFlags {
    /// Folders (searched recursively, in sorted order) or image files
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Include hidden and system files and folders (.*, @eaDir, __MACOSX, lost+found, ...), which
    /// are skipped by default
    #[arg(long)]
    hidden: bool,
}

impl From<InputFlags> for Inputs {
    fn from(flags: InputFlags) -> Inputs {
        Inputs { hidden: flags.hidden, ..Inputs::new(flags.inputs) }
    }
}
