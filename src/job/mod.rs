//! The `job` room: what another program calls, and the command line is one. A job is made by its
//! builder and run with an [`Observer`]; a [`Tokenizer`] turns pictures into codes and back in
//! memory. Must not know: who calls, how results are shown.

mod append;
mod audit;
mod bucket_counts;
mod bucketed;
mod codes;
mod data_look;
mod decode;
mod decode_rows;
mod diff;
mod drawing;
mod ensure_model;
mod evaluate;
mod evaluation_folder;
mod events;
mod export;
mod inputs;
#[cfg(feature = "cli")]
mod key_lists;
mod list_share;
mod listed;
mod listings;
mod made_again;
mod model_copy;
mod originals;
mod pairs;
mod picture_names;
mod pixels;
pub(crate) mod places;
mod plan;
mod precision;
mod readable;
mod reconstruct;
mod reconstructed;
mod repair;
mod resume;
mod same_model;
mod sampled;
mod share;
mod suggest;
mod survey;
mod threads;
mod tokenize;
mod tokenize_summary;
mod tokenizer;
mod tokenizer_options;
mod train;
mod train_choices;
mod verify;
mod worker;
mod write_plan;

pub use audit::Audit;
pub use bucket_counts::BucketCount;
pub use codes::{Codes, Grid};
pub use data_look::DataLook;
pub use decode::{Decode, DecodeSummary};
pub use diff::Diff;
pub use evaluate::Evaluate;
pub use events::{
    Appended, DamageReport, Event, ModelIdentity, Observer, OtherGrid, OtherModel, Pass, Planned,
};
pub use export::Export;
pub use list_share::ListedShare;
pub use pairs::Likeness;
pub use pixels::PixelSettings;
pub use precision::EngineChoice;
pub use reconstruct::{Reconstruct, ReconstructSummary};
pub use repair::{Repair, RepairSummary};
pub use share::{RankFrom, Share};
pub use suggest::{Suggest, Suggestion};
pub use survey::{ChangedImages, InputChanges, Survey, SurveySummary, SurveyedImage};
pub use threads::set_threads;
pub use tokenize::Tokenize;
pub use tokenize_summary::TokenizeSummary;
pub use tokenizer::Tokenizer;
pub use tokenizer_options::TokenizerOptions;
pub use train::Train;
pub use train_choices::{InitFrom, RecipeChoice, TrainPrecision};
pub use verify::verify;
pub use worker::PartitionWorker;
pub use write_plan::{PartitionToMake, WrittenPlan};

pub(crate) use plan::rows_of_inputs as rows;

#[cfg(feature = "cli")]
pub(crate) use inputs::Inputs;
#[cfg(feature = "cli")]
pub(crate) use tokenizer_options::refuse_unfinished;
