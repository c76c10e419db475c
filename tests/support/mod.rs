//! Owns what integration tests share. `src/testing.rs` is the same file the unit tests use.

#![allow(dead_code, unused_imports)]

#[path = "../../src/testing.rs"]
mod testing;
pub use testing::*;
mod job;
pub mod random;
pub use job::*;
