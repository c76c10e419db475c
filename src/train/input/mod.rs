//! What a step is fed: the held-out split, the order, reading ahead, preparation, augmentation. Must
//! not know: what is learned.

pub(crate) mod augment;
pub(crate) mod crop_cache;
pub(crate) mod images;
pub(crate) mod loader;
pub(crate) mod manifest;
pub(crate) mod pixels;
pub(crate) mod split;
pub(crate) mod train_data;
pub(crate) mod unreadable;
