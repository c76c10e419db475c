//! Owns object stores and web servers for tests, all on 127.0.0.1: moto's server, a proxy with
//! faults before it, a small web server. Must not know: what is stored.

#![allow(dead_code, unused_imports)]

mod cloud;
mod http;
mod moto;
mod proxy;
mod server;
mod web;

pub use cloud::{Cloud, Ended, KEY, SECRET, expect};
pub use http::{Answer, Request, call};
pub use moto::Moto;
pub use proxy::{Faults, Proxy, Seen};
pub use server::Server;
pub use web::{Page, Web};
