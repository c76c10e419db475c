//! The `pipeline` room: the main job, plan -> read and decode (a pool of threads) -> batch -> encode
//! (one thread that owns model and device) -> write, joined by bounded channels.
//! Must not know: how any of the stages works, flags.
//!
//! An image that fails takes the same way as one that succeeds, so ordinals have no holes and what
//! a shard holds never depends on timing. Memory is bounded by the two channels: at most
//! `Settings::images_in_flight` prepared images exist at once, fewer where each has several views,
//! whatever the data set's size. Time is bounded for each image by `Settings::decode_time_max`.

mod encode;
mod events;
mod given_up;
mod identity;
mod planned;
mod row;
mod run;
mod settings;
mod several;
#[cfg(test)]
mod tests;
mod write;

pub use events::Event;
pub(crate) use events::Observer;
pub(crate) use given_up::give_up;
pub use identity::identity;
pub(crate) use identity::tokens_max;
pub(crate) use planned::{image_at, image_of, row_of};
pub use run::run;
pub use settings::{DECODE_TIME_MAX, OnError, Settings, Sizes, Summary};
pub(crate) use several::run_on;
