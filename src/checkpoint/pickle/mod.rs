//! Pickles as data: a machine that calls nothing and imports nothing, and the tensors, names and
//! metadata in the graph it makes. Must not know: families.

pub(crate) mod graph;
pub(crate) mod machine;
pub(crate) mod metadata;
pub(crate) mod numpy;
pub(crate) mod objects;
pub(crate) mod state_dict;
pub(crate) mod storage;
pub(crate) mod tensors;
pub(crate) mod value;
