//! `vqtok worker`: partitions of a plan for whoever hands them out, as JSON lines on stdin and stdout.
//! Must not know: who that is.
//!
//! | line on stdin | means |
//! |---|---|
//! | `{"partition": 3}` | make partition 3, or find that it is there |
//! | `{"partition": 3, "deaths": 2}` | the same; it has ended two workers before, see `job::worker` |
//!
//! | event on stdout | means |
//! |---|---|
//! | `ready` | once: the model is loaded; what it is, on which device, and how many `partitions` the plan has: null where none is written yet, which each request then looks for |
//! | `heartbeat` | every second while a partition is in work: how many of its images are done |
//! | `receipt` | its outcome: `commit` is committed, already (another worker's, or there before) or lost |
//! | `error` | it could not be made, and why; 75 as `exit_code`: it can be tried again. The worker goes on |
//! | `refused` | a line that is no request, by its number. The worker goes on |
//!
//! Requests are answered one after the other, in their order. At the end of stdin what was asked for
//! is still made; where the process that started this one is gone, the partition in work is dropped at
//! once, as on SIGTERM and SIGINT: exit code 75. A partition that was dropped leaves nothing that is
//! seen. Exit codes otherwise: 0; 1, where images failed, a line was refused or a partition could not
//! be made; 2, where the model can't be used; 70, a bug.

mod guard;
mod heartbeat;
mod requests;
mod serve;

pub(super) use serve::{Args, run};
