//! The `checkpoint` room.
