//! Owns convolutions through cuDNN: which plan each shape has, and running it. Must not know: networks,
//! who owns the buffers.
//!
//! Which configuration a convolution runs by is the fastest of `choice`'s, by `timing` or as `kept`:
//! it is found once, for the usual number of images, and holds for any smaller one, so that an image's
//! sums don't depend on the batch it comes in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use cudarc::driver::CudaStream;

use super::graph::{Addresses, graph, pack};
use super::kept::Kept;
use super::program::ConvShape;
use super::timing;
use crate::error::{Error, Result};
use crate::nvidia::choice::{self, Choice, Target};
use crate::nvidia::descriptor::Descriptor;
use crate::nvidia::errors::{dotted, failed};
use crate::nvidia::handle::{self, Handle};
use crate::nvidia::plan::Plan;

/// By a choice that was made for another number of images; None where it doesn't suit this one.
pub(super) fn plan(target: &Target, shape: &ConvShape, choice: &Choice) -> Result<Option<Plan>> {
    Plan::by(choice, target, &graph(target, shape)?)
}

/// The choices for a shape, at least one.
fn candidates(target: &Target, shape: &ConvShape) -> Result<Vec<Choice>> {
    let mut found = Vec::new();
    choice::offer(target, &graph(target, shape)?, true, |choice, _| {
        found.push(choice);
        Ok(false)
    })?;
    if found.is_empty() {
        return Err(failed("cuDNN", "no configuration for a convolution", &format!("{shape:?}")));
    }
    Ok(found)
}

/// A convolution with its addresses.
pub(super) struct Call {
    shape: ConvShape,
    pack: Descriptor,
}

/// cuDNN on a stream, with the plans of every shape it has met.
pub(super) struct Convolutions {
    stream: Arc<CudaStream>,
    kept: Kept,
    /// By the shape of the usual number of images; with how that came about.
    choices: BTreeMap<ConvShape, (Choice, String)>,
    /// None where the choice doesn't suit so few images.
    plans: BTreeMap<ConvShape, Option<Plan>>,
    /// Destroyed after what was made with it.
    handle: Handle,
}

impl Convolutions {
    /// Work goes to `stream`, on a GPU of that name.
    pub(super) fn new(stream: &Arc<CudaStream>, gpu: &str) -> Result<Convolutions> {
        let handle = Handle::new()?;
        handle.work_on(stream)?;
        let (choices, plans) = (BTreeMap::new(), BTreeMap::new());
        let kept = Kept::open(&dotted(&handle::version()), gpu);
        Ok(Convolutions { stream: Arc::clone(stream), kept, choices, plans, handle })
    }

    /// How each kind of convolution runs that was met.
    pub(super) fn report(&self) -> impl Iterator<Item = String> {
        self.choices.iter().map(|(shape, (choice, how))| {
            let ConvShape { images, height, width, inputs, outputs, kernel, stride, .. } = shape;
            let added = if shape.residual { " + residual" } else { "" };
            format!(
                "{images} x {height}x{width}, {inputs} to {outputs}, {kernel}x{kernel} by \
                 {stride}{added}: {choice}, {how}"
            )
        })
    }

    /// Bytes of workspace that a shape needs; plans it where it is new, as for the `usual` number
    /// of images. None where that doesn't suit so few.
    pub(super) fn workspace(&mut self, shape: &ConvShape, usual: usize) -> Result<Option<usize>> {
        if !self.plans.contains_key(shape) {
            let target = Target::Handle(self.handle.0);
            let chosen_for = ConvShape { images: usual, ..*shape };
            let choice = match self.choices.get(&chosen_for) {
                Some((choice, _)) => choice.clone(),
                None => {
                    let (choice, how) = self.choose(&target, chosen_for)?;
                    self.choices.insert(chosen_for, (choice.clone(), how));
                    choice
                }
            };
            let made = plan(&target, shape, &choice)?;
            self.plans.insert(*shape, made);
        }
        Ok(self.plans[shape].as_ref().map(|plan| plan.workspace_bytes))
    }

    /// The choice for a shape: the one that is kept where it is still one of cuDNN's, else the fastest,
    /// which is kept; cuDNN's first where the device has no room to time any.
    fn choose(&mut self, target: &Target, shape: ConvShape) -> Result<(Choice, String)> {
        let started = Instant::now();
        let mut candidates = candidates(target, &shape)?;
        if let Some((choice, ms)) = self.kept.get(&shape)
            && candidates.contains(choice)
        {
            return Ok((choice.clone(), format!("{ms:.3} ms when it was timed")));
        }
        let first = candidates[0].clone();
        let count = candidates.len();
        if count == 1 {
            return Ok((candidates.remove(0), "the only one".to_owned()));
        }
        let timed = timing::fastest(&self.handle, &self.stream, &shape, candidates);
        let untimed = |why: &str| Ok((first.clone(), format!("cuDNN's first of {count}: {why}")));
        match timed {
            Ok(Some((choice, ms))) => {
                self.kept.put(shape, choice.clone(), ms);
                let seconds = started.elapsed().as_secs_f64();
                Ok((choice, format!("{ms:.3} ms, the fastest of {count}, timed in {seconds:.2} s")))
            }
            Ok(None) => untimed("none could be timed"),
            Err(Error::OutOfMemory(_)) => untimed("no memory to time them"),
            Err(error) => Err(error),
        }
    }

    /// Keeps what was timed for other runs. Where that can't be written it is timed again then.
    pub(super) fn keep(&mut self) {
        let _ = self.kept.write();
    }

    /// Ties a shape to addresses, which stay valid as long as the call is used. `workspace` has
    /// the bytes that [`Self::workspace`] said.
    pub(super) fn call(&self, shape: ConvShape, at: &Addresses, workspace: u64) -> Result<Call> {
        Ok(Call { shape, pack: pack(at, workspace)? })
    }

    /// Queues a convolution.
    pub(super) fn run(&self, call: &Call) -> Result<()> {
        let Some(Some(plan)) = self.plans.get(&call.shape) else {
            return Err(failed(
                "cuDNN",
                "a convolution without a plan",
                &format!("{:?}", call.shape),
            ));
        };
        plan.run(&self.handle, &call.pack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::cuda::libraries::Library;

    /// Every kind of convolution of the f16 model, planned for a card that isn't there.
    #[test]
    fn cudnn_plans_every_convolution_for_an_h200() {
        if !Library::Cudnn.is_present() || cudarc::cudnn::result::get_version() < 90_800 {
            eprintln!("skipped: no {} of 9.8 or later", Library::Cudnn.file());
            return;
        }
        let same = ConvShape {
            images: 64,
            height: 256,
            width: 256,
            inputs: 128,
            outputs: 128,
            kernel: 3,
            stride: 1,
            before: 1,
            after: 1,
            residual: false,
        };
        let low = ConvShape { height: 16, width: 16, inputs: 512, ..same };
        let point = ConvShape { kernel: 1, before: 0, after: 0, ..low };
        let target = Target::h200();
        for shape in [
            same,
            ConvShape { residual: true, ..same },
            ConvShape { stride: 2, before: 0, ..same },
            ConvShape { inputs: 8, ..same },
            ConvShape { height: 64, width: 64, outputs: 256, ..same },
            ConvShape { outputs: 256, ..low },
            ConvShape { outputs: 512, residual: true, ..low },
            ConvShape { outputs: 1536, ..point },
            ConvShape { outputs: 512, residual: true, ..point },
            // Odd sizes, and one image.
            ConvShape { images: 1, height: 37, width: 53, inputs: 24, outputs: 40, ..same },
        ] {
            let choice = candidates(&target, &shape).unwrap().remove(0);
            println!("{shape:?}: {choice}");
            // One choice serves every number of images, and gives each the same engine.
            for images in [shape.images, 16, 4, 1] {
                let shape = ConvShape { images, ..shape };
                let plan = plan(&target, &shape, &choice).unwrap().expect("it suits fewer images");
                assert!(plan.workspace_bytes < 1 << 30, "{shape:?}: {}", plan.workspace_bytes);
                let configuration = choice
                    .configuration(&target, &graph(&target, &shape).unwrap())
                    .unwrap()
                    .expect("a configuration");
                assert_eq!(Choice::of(&configuration).unwrap(), choice, "{shape:?}");
            }
        }
        // The graph itself is checked, too: an output that doesn't fit its padding is refused.
        let broken = ConvShape { inputs: 0, ..same };
        assert!(candidates(&target, &broken).is_err());
    }
}
