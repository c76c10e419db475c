//! Owns what integration tests share. `src/testing.rs` is the same file the unit tests use.

#![allow(dead_code, unused_imports)]

#[path = "../../src/testing.rs"]
mod testing;
pub use testing::*;
mod job;
pub use job::*;
pub mod appends;
pub mod cases;
pub mod containers;
pub mod drive;
pub mod effects;
pub mod outputs;
pub mod photos;
pub mod random;
pub mod recent;
pub mod said;
#[cfg(feature = "stores")]
pub mod stores;
pub mod weights;
