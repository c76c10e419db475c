//! Owns which columns a plan has.

use arrow::datatypes::{Fields, SchemaRef};

use crate::tokens::schema;

/// Which columns a plan has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// `plan.v1`: every image is a file.
    Files,
    /// `plan.v2`.
    Parts,
    /// `plan.v3`: images go into buckets.
    Buckets,
}

impl Layout {
    /// That with these columns.
    pub(super) fn of(columns: &Fields) -> Option<Layout> {
        let layouts = [Layout::Files, Layout::Parts, Layout::Buckets];
        layouts.into_iter().find(|layout| layout.columns().fields() == columns)
    }

    /// That with this schema word.
    pub(super) fn of_word(word: &str) -> Option<Layout> {
        let layouts = [Layout::Files, Layout::Parts, Layout::Buckets];
        layouts.into_iter().find(|layout| layout.word() == word)
    }

    /// Its schema word.
    pub(super) fn word(self) -> &'static str {
        match self {
            Layout::Files => schema::PLAN,
            Layout::Parts => schema::PLAN_OF_PARTS,
            Layout::Buckets => schema::PLAN_OF_BUCKETS,
        }
    }

    /// Its columns.
    pub(super) fn columns(self) -> SchemaRef {
        match self {
            Layout::Files => schema::plan(),
            Layout::Parts => schema::plan_of_parts(),
            Layout::Buckets => schema::plan_of_buckets(),
        }
    }
}
