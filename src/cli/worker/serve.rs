//! Owns the flags of `vqtok worker`, and the way of a request to its answer.

use std::path::PathBuf;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use serde_json::json;

use super::guard::Guard;
use super::heartbeat::Heartbeat;
use super::requests::{Request, listen};
use crate::cli::common::{CheckpointFlags, MachineFlags, PixelFlags};
use crate::cli::flags;
use crate::cli::onnx::{OnnxFlags, RuntimeFlags};
use crate::cli::outcome::Finished;
use crate::cli::printer::commit_word;
use crate::cli::progress::Reporter;
use crate::error::{Error, Result};
use crate::job::PartitionWorker;
use crate::pipeline::OnError;
use crate::tokens::Receipt;
use crate::util::text;

/// How often it is looked whether to stop while no request comes.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Flags of `vqtok worker`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Output folder; its plan is what `vqtok tokenize --plan-only` writes
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The tokenizer that the plan was made with
    #[arg(long, value_name = "PATH")]
    model: PathBuf,
    #[command(flatten)]
    checkpoint: CheckpointFlags,
    #[command(flatten)]
    onnx: OnnxFlags,
    #[command(flatten)]
    runtime: RuntimeFlags,
    /// Images per batch, or views; tokens don't depend on it [default: the recipe's, else what suits the
    /// device]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,
    /// What happens on a bad image: it becomes a row in failures, or its partition isn't made [default:
    /// the recipe's, else record]
    #[arg(long, value_name = "record|stop")]
    on_error: Option<OnError>,
    #[command(flatten)]
    machine: MachineFlags,
}

/// Runs the command.
pub(crate) fn run(args: Args, reporter: &Reporter) -> Result<Finished> {
    let guard = Guard::watch()?;
    args.machine.start_threads()?;
    let options = args.machine.options(&args.checkpoint, &PixelFlags::default())?;
    let options = args.runtime.over(args.onnx.over(options)).following(&args.out);
    options.check_device_for(&args.model)?;
    let tokenizer = options.open(&args.model)?;
    let mut worker = PartitionWorker::new(&args.out, tokenizer)
        .batch_size(args.batch_size)
        .on_error(args.on_error);
    worker.check()?;
    ready(&args, worker.partitions(), reporter);
    serve(worker, guard, reporter)
}

fn ready(args: &Args, partitions: Option<usize>, reporter: &Reporter) {
    let fields = json!({
        "version": env!("CARGO_PKG_VERSION"), "out": text::lossy(&args.out),
        "model": text::lossy(&args.model), "device": args.machine.device,
        "precision": args.machine.precision.as_str(), "threads": rayon::current_num_threads(),
        "partitions": partitions,
    });
    reporter.event("ready", fields);
}

/// Answers requests until there are no more.
fn serve(mut worker: PartitionWorker, guard: Guard, reporter: &Reporter) -> Result<Finished> {
    let requests = listen()?;
    let mut heartbeat = Heartbeat::start(*reporter, guard.clone())?;
    let mut clean = true;
    loop {
        if guard.is_raised() {
            return Err(guard.error(None));
        }
        match requests.recv_timeout(POLL_INTERVAL) {
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(Finished::of(clean)),
            Ok((line, Err(reason))) => {
                clean = false;
                let message = format!("line {line}: {reason}");
                reporter.event("refused", json!({"line": line, "message": message}));
            }
            Ok((_, Ok(Request { partition, deaths }))) => {
                let made = make(&mut worker, partition, deaths, &mut heartbeat, reporter);
                clean &= match made {
                    Err(Error::Interrupted) => return Err(guard.error(Some(partition))),
                    made => made?,
                };
            }
        }
    }
}

/// Makes a partition and says what became of it; whether all of its images have tokens. What costs the
/// partition alone is told and no error.
fn make(
    worker: &mut PartitionWorker,
    partition: usize,
    deaths: u32,
    heartbeat: &mut Heartbeat,
    reporter: &Reporter,
) -> Result<bool> {
    let made = worker.images(partition).and_then(|images| {
        heartbeat.begin(partition, images);
        let made = worker.make(partition, deaths, heartbeat);
        let seconds = heartbeat.end();
        Ok((images, made?, seconds))
    });
    reporter.notices();
    match made {
        Ok((images, receipt, seconds)) => {
            let clean = receipt.as_ref().is_none_or(|receipt| receipt.failures == 0);
            receipted(partition, images, receipt.as_ref(), seconds, reporter);
            Ok(clean)
        }
        // A bug may have left anything behind; a signal is no fault of the partition's.
        Err(error @ (Error::Interrupted | Error::Internal(_))) => Err(error),
        Err(error) => {
            let message = text::printable(&flags::message(&error)).into_owned();
            let fields = json!({"partition": partition, "message": message,
                                "exit_code": error.exit_code()});
            reporter.event("error", fields);
            Ok(false)
        }
    }
}

fn receipted(
    partition: usize,
    images: u64,
    receipt: Option<&Receipt>,
    seconds: f64,
    reporter: &Reporter,
) {
    let fields = match receipt {
        Some(receipt) => json!({
            "partition": partition, "images": images, "commit": commit_word(&receipt.commit),
            "rows": receipt.rows, "written": receipt.written, "failed": receipt.failures,
            "sha256": receipt.sha256, "seconds": seconds,
        }),
        None => json!({"partition": partition, "images": images, "commit": "already",
                       "seconds": seconds}),
    };
    reporter.event("receipt", fields);
}
