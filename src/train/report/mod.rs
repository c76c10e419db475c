//! What a training leaves to be looked at: the log, TensorBoard events, pictures, a page. Must not
//! know: how a step is made.

pub(crate) mod code_map;
pub(crate) mod page;
pub(crate) mod pictures;
pub(crate) mod record;
pub(crate) mod tensorboard;
