//! Owns a graph together with the configuration that computes it, and running both. Must not know: what
//! the graph computes, how the configuration was chosen.

use cudarc::cudnn::sys;
use sys::cudnnBackendAttributeName_t as Attribute;
use sys::cudnnBackendAttributeType_t as Type;

use super::choice::{self, Choice, Target};
use super::descriptor::{Descriptor, check};
use super::handle::Handle;
use crate::error::Result;

/// What can be run.
pub(crate) struct Plan {
    plan: Descriptor,
    pub workspace_bytes: usize,
}

impl Plan {
    /// Of a finalized plan.
    ///
    /// # Errors
    /// What the library refuses.
    pub(crate) fn of(plan: Descriptor) -> Result<Plan> {
        let mut bytes = [0i64];
        let name = Attribute::CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE;
        plan.get(name, Type::CUDNN_TYPE_INT64, &mut bytes)?;
        Ok(Plan { plan, workspace_bytes: usize::try_from(bytes[0]).unwrap_or(0) })
    }

    /// A graph by a choice that was made for another one of the same operations; None where it doesn't suit.
    ///
    /// # Errors
    /// No memory; what the library refuses.
    pub(crate) fn by(choice: &Choice, target: &Target, graph: &Descriptor) -> Result<Option<Plan>> {
        let Some(configuration) = choice.configuration(target, graph)? else { return Ok(None) };
        choice::finalized(target, &configuration)?.map(Plan::of).transpose()
    }

    /// The first of the configurations that may compute a graph whose workspace isn't too large; None where
    /// there is none.
    ///
    /// # Errors
    /// No memory; a graph that the library refuses.
    pub(crate) fn first(
        target: &Target,
        graph: &Descriptor,
        tensor_cores: bool,
        workspace_max: usize,
    ) -> Result<Option<Plan>> {
        let mut found = None;
        choice::offer(target, graph, tensor_cores, |_, plan| {
            found = Some(Plan::of(plan)?).filter(|plan| plan.workspace_bytes <= workspace_max);
            Ok(found.is_some())
        })?;
        Ok(found)
    }

    /// Queues a run, on the addresses of a pack.
    ///
    /// # Errors
    /// What the library refuses.
    pub(crate) fn run(&self, handle: &Handle, pack: &Descriptor) -> Result<()> {
        // SAFETY: the plan and the pack are of the same graph, and the pack's addresses are those of
        // buffers that the caller keeps, each of the graph's sizes.
        let status = unsafe { sys::cudnnBackendExecute(handle.0, self.plan.0, pack.0) };
        check(status, "a convolution")
    }
}
