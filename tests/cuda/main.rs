//! Drives the GPU engine as a user does, on stand-ins for the driver, cuBLAS and cuDNN that compute on
//! the host. What the stand-ins refuse and count is in `tests/support/cuda`.

#[allow(dead_code)]
#[path = "../../benches/common/encoder.rs"]
mod drawn;
#[path = "../support/stand_ins.rs"]
mod stand_ins;
#[path = "../support/mod.rs"]
mod support;

mod cards;
mod families;
mod faults;
mod flights;
mod inside;
mod scene;
mod tokens;
mod training;
