//! Owns reaching stores: one for each bucket, made when it is first asked for. Credentials come from
//! the environment, as the stores' own tools take them, and are never told to anybody.

mod connect;
mod errors;
mod objects;
mod odd_names;
mod runtime;
mod web;

pub(super) use connect::connect;
