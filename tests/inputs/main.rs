//! Inputs: folders, archives, lists and tables; views and buckets of their images.

#[path = "../support/mod.rs"]
mod support;

mod buckets;
mod folders;
mod overflow;
mod partition_order;
mod source_fields;
mod sources;
mod views;
