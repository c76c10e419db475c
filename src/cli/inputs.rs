//! Owns the INPUTs of a command.

use std::path::PathBuf;

use crate::data::source::container::fields::Fields;
use crate::job::Inputs;
use crate::util::text;

/// The inputs, at least one.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct InputFlags {
    /// Folders (searched recursively, in sorted order); images; tars (WebDataset), Parquet files,
    /// zips; lists of images (CSV, TSV, JSON, JSONL, TXT). `shard-{000..146}.tar` names many.
    /// s3://, gs://, az:// and https:// addresses where this vqtok is built with stores
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// Include hidden and system files and folders (.*, @eaDir, __MACOSX, lost+found, ...), which
    /// are skipped by default
    #[arg(long)]
    hidden: bool,
    /// Column of a Parquet file or list that holds the images; extension of a tar's members that
    /// are the images [default: found by its type and name; in tars the first of jpg, png, jpeg,
    /// webp]
    #[arg(long, visible_alias = "image-field", value_name = "NAME")]
    image_column: Option<String>,
}

/// Which columns of tables, fields of tars and keys of their JSON say what about an image.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct FactFlags {
    /// Column that names the images [default: __key__ or key, else the file and the row]
    #[arg(long, value_name = "NAME")]
    key_column: Option<String>,
    /// Column, tar field or key of a JSON file with the class [default: label, class or cls]
    #[arg(long, value_name = "NAME")]
    label_column: Option<String>,
    /// Column, tar field or key of a JSON file with the text; txt or caption: files of that extension
    /// [default: caption, text, txt or prompt]
    #[arg(long, value_name = "NAME")]
    caption_column: Option<String>,
    /// Further column or tar field, which goes into meta_json; may be given several times
    /// [default: none]
    #[arg(long, value_name = "NAME")]
    pass: Vec<String>,
}

impl FactFlags {
    /// These of the images of `inputs`.
    pub(crate) fn of(self, inputs: Inputs) -> Inputs {
        let FactFlags { key_column, label_column, caption_column, pass } = self;
        let fields = Fields {
            key: key_column,
            label: label_column,
            caption: caption_column,
            pass,
            ..inputs.fields
        };
        Inputs { fields, ..inputs }
    }
}

impl InputFlags {
    /// The inputs as they were given.
    pub(crate) fn named(&self) -> String {
        let named: Vec<_> = self.inputs.iter().map(text::path).collect();
        named.join(" ")
    }
}

impl From<InputFlags> for Inputs {
    fn from(flags: InputFlags) -> Inputs {
        let fields = Fields { image: flags.image_column, ..Fields::default() };
        Inputs { hidden: flags.hidden, fields, ..Inputs::new(flags.inputs) }
    }
}
