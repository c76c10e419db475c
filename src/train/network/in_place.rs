//! Owns what is done to weights, moments and averages in place: on the device that holds them, without a
//! graph. Must not know: names, schedules.
//!
//! All tensors are contiguous float32, and the elements of an operation correspond one to one.

use candle_core::{
    CpuStorage, InplaceOp1, InplaceOp2, InplaceOp3, Layout, Result as TensorResult, bail,
};

#[cfg(feature = "candle-cuda")]
use candle_core::CudaStorage;

#[cfg(feature = "candle-cuda")]
use crate::model::cuda::{compute_in_place, launches};
use crate::model::storage::{slice, slice_mut};

/// x <- scale x
pub(super) struct Scale(pub f32);

impl InplaceOp1 for Scale {
    fn name(&self) -> &'static str {
        "vqtok-scale"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> TensorResult<()> {
        slice_mut(x, layout)?.iter_mut().for_each(|x| *x *= self.0);
        Ok(())
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(&self, x: &mut CudaStorage, layout: &Layout) -> TensorResult<()> {
        let plan = launches::scale(layout.shape().elem_count(), self.0);
        compute_in_place(&plan, (x, layout), &[])
    }
}

/// average <- keep average + rest new, or rest new^2
pub(super) struct Blend {
    pub keep: f32,
    pub rest: f32,
    pub squared: bool,
}

impl InplaceOp2 for Blend {
    fn name(&self) -> &'static str {
        "vqtok-blend"
    }

    fn cpu_fwd(
        &self,
        average: &mut CpuStorage,
        al: &Layout,
        new: &CpuStorage,
        nl: &Layout,
    ) -> TensorResult<()> {
        let (average, new) = (slice_mut(average, al)?, slice::<f32>(new, nl)?);
        same_length(self.name(), average, &[new])?;
        let Blend { keep, rest, squared } = *self;
        match squared {
            true => average.iter_mut().zip(new).for_each(|(a, x)| *a = keep * *a + rest * (x * x)),
            false => average.iter_mut().zip(new).for_each(|(a, x)| *a = keep * *a + rest * x),
        }
        Ok(())
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(
        &self,
        average: &mut CudaStorage,
        al: &Layout,
        new: &CudaStorage,
        nl: &Layout,
    ) -> TensorResult<()> {
        let plan = launches::blend(self.squared, al.shape().elem_count(), self.keep, self.rest);
        compute_in_place(&plan, (average, al), &[(new, nl)])
    }
}

/// p <- keep p - rate m / (sqrt(v correct) + epsilon), m and v the moments.
pub(super) struct Descend {
    pub keep: f32,
    pub rate: f32,
    pub correct: f32,
    pub epsilon: f32,
}

impl InplaceOp3 for Descend {
    fn name(&self) -> &'static str {
        "vqtok-descend"
    }

    fn cpu_fwd(
        &self,
        p: &mut CpuStorage,
        pl: &Layout,
        m: &CpuStorage,
        ml: &Layout,
        v: &CpuStorage,
        vl: &Layout,
    ) -> TensorResult<()> {
        let (p, m, v) = (slice_mut(p, pl)?, slice::<f32>(m, ml)?, slice::<f32>(v, vl)?);
        same_length(self.name(), p, &[m, v])?;
        for ((p, m), v) in p.iter_mut().zip(m).zip(v) {
            *p = *p * self.keep - self.rate * *m / ((*v * self.correct).sqrt() + self.epsilon);
        }
        Ok(())
    }

    #[cfg(feature = "candle-cuda")]
    fn cuda_fwd(
        &self,
        p: &mut CudaStorage,
        pl: &Layout,
        m: &CudaStorage,
        ml: &Layout,
        v: &CudaStorage,
        vl: &Layout,
    ) -> TensorResult<()> {
        let numbers = [self.keep, self.rate, self.correct, self.epsilon];
        let plan = launches::descend(pl.shape().elem_count(), numbers);
        compute_in_place(&plan, (p, pl), &[(m, ml), (v, vl)])
    }
}

fn same_length(name: &str, to: &[f32], from: &[&[f32]]) -> TensorResult<()> {
    match from.iter().find(|from| from.len() != to.len()) {
        Some(from) => bail!("{name} of {} numbers by {}", to.len(), from.len()),
        None => Ok(()),
    }
}
