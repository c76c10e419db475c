//! What a step is fed: the held-out split, the order, reading ahead, preparation, augmentation. Must
//! not know: what is learned.

pub mod augment;
pub mod images;
pub mod loader;
pub mod manifest;
pub(crate) mod pixels;
pub(crate) mod split;
pub(crate) mod train_data;
pub mod unreadable;
