//! The `train` room: from images to a tokenizer where there is none yet. [`run()`](run()) is the
//! whole of it, and its file reads as a training goes. Must not know: shards, files of images, the
//! command line.
//!
//! A run is a function of (model, settings, data): every random draw and the order of the data
//! come from the seed and the step, all arithmetic is split by shapes and not by threads, and the
//! checkpoint holds everything else; so a run that was stopped and resumed, however often, ends
//! with the same bits as one that was not.
//!
//! | room or file | owns |
//! |---|---|
//! | `settings` | the `[train]` table of a recipe, its checks |
//! | `network` | what is trained, its gradients, its optimizer |
//! | `quantizer` | the kinds of codes, and how they learn |
//! | `losses` | per pixel, LPIPS, adversarial |
//! | `input` | held-out split, order, reading ahead, augmentation |
//! | `trainer` | one step, all it changes, the checkpoint of it |
//! | `evaluate`, `events`, `report` | a model's figures; what is reported, and what is left of it |
//! | `fine_tune` | which weights of a checkpoint a training begins with |
//! | `workspace`, `checkpoints`, `training_lock`, `recipe` | the model folder; what a resumed run must share |
//! | `run` | the loop |
//! | `budget` | how many steps a time is enough for |

mod budget;
mod checkpoints;
pub(crate) mod evaluate;
mod events;
mod fine_tune;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
pub(crate) mod golden;
pub(crate) mod input;
pub(crate) mod losses;
pub(crate) mod network;
pub(crate) mod quantizer;
mod recipe;
pub(crate) mod report;
mod run;
pub(crate) mod settings;
pub(crate) mod trainer;
mod training_lock;
mod workspace;

pub(crate) use budget::{Pace, fitted, pace};
pub use evaluate::Evaluation;
pub use events::{Event, Observer, TrainSummary};
pub use input::train_data::TrainData;
pub(crate) use run::Start;
pub use run::run;
pub(crate) use settings::TrainSettings;
pub(crate) use settings::ineffective::refuse_ineffective;
pub use trainer::step_report::StepReport;
#[cfg(test)]
pub(crate) use trainer::timing::Timing;
pub(crate) use workspace::{RECIPE_FILE, begun, failed, finished_steps, last_summary, unfinished};
