//! A model's weights as data: tensors where they lie, by canonical name, and their digests. Must not
//! know: containers, families, networks.

mod bytes;
pub(crate) mod digests;
pub(crate) mod store;
pub(crate) mod tensor;
