//! Owns the update of the weights: AdamW with readable moments, clipping by the global norm, the
//! learning rate's schedule, the average of the weights.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{DType, Tensor, Var};

use super::in_place::{Blend, Descend, Scale};
use super::parameters::{Moved, QUANTIZER_PREFIX, Tensors};
use super::reductions::sum_of_squares;
use crate::error::Result;

/// Takes the gradients of `vars` out of `store`; a weight without one (it had no part in the loss)
/// is left out.
///
/// # Errors
/// A device without room for them.
pub fn gradients(store: &mut GradStore, vars: &BTreeMap<String, Var>) -> Result<Tensors> {
    let mut named = Tensors::new();
    for (name, var) in vars {
        if let Some(gradient) = store.remove(var) {
            named.insert(name.clone(), gradient.detach().contiguous()?);
        }
    }
    Ok(named)
}

/// The norm over all gradients; summed in float64 in the order of names.
pub(crate) fn global_norm(gradients: &Tensors) -> Result<f64> {
    let squares = gradients.values().map(sum_of_squares);
    Ok(squares.sum::<Result<f64>>()?.sqrt())
}

/// Scales all gradients, in place, by min(1, limit / (norm + 1e-6)). Returns the norm before.
///
/// # Errors
/// Gradients that aren't float32.
pub fn clip(gradients: &mut Tensors, limit: f64) -> Result<f64> {
    let norm = global_norm(gradients)?;
    let scale = limit / (norm + 1e-6);
    if scale < 1.0 {
        for gradient in gradients.values() {
            gradient.inplace_op1(&Scale(scale as f32))?;
        }
    }
    Ok(norm)
}

/// Linear warm-up over `max(1, round(share * total))` steps, then half a cosine from `base` to
/// `floor`. `step` counts from 0.
pub(crate) fn cosine(step: usize, total: usize, warm_up_share: f64, base: f64, floor: f64) -> f64 {
    let warm_up = (warm_up_share * total as f64).round().max(1.0);
    let step = step as f64;
    if step < warm_up {
        return base * (step + 1.0) / warm_up;
    }
    let progress = ((step - warm_up) / (total as f64 - warm_up).max(1.0)).min(1.0);
    floor + (base - floor) / 2.0 * (1.0 + (std::f64::consts::PI * progress).cos())
}

/// AdamW (Loshchilov & Hutter 2019): decay apart from the gradient.
#[derive(Debug, Clone)]
pub struct AdamW {
    /// (b1, b2)
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// For tensors of two and more dimensions; biases, norms and codes are never decayed.
    pub weight_decay: f64,
    /// Updates done.
    pub updates: u64,
    /// Moving mean of the gradient, flat.
    pub moment1: Tensors,
    /// Moving mean of its square, flat.
    pub moment2: Tensors,
}

impl AdamW {
    /// Moments of zero.
    pub fn new(betas: (f64, f64), epsilon: f64, weight_decay: f64) -> AdamW {
        AdamW {
            betas,
            epsilon,
            weight_decay,
            updates: 0,
            moment1: Tensors::new(),
            moment2: Tensors::new(),
        }
    }

    /// One update, in place, of every weight that has a gradient.
    ///
    /// # Errors
    /// A weight or gradient that isn't float32; a gradient of another size.
    pub fn step(
        &mut self,
        vars: &BTreeMap<String, Var>,
        gradients: &Tensors,
        learning_rate: f64,
    ) -> Result<()> {
        self.updates += 1;
        for (name, gradient) in gradients {
            let Some(var) = vars.get(name) else { continue };
            let decayed = var.dims().len() > 1 && !name.starts_with(QUANTIZER_PREFIX);
            self.update(name, var, gradient, learning_rate, decayed)?;
        }
        Ok(())
    }

    /// Forgets the moments of values that were set from outside.
    pub(crate) fn forget(&mut self, moved: &Moved) -> Result<()> {
        for moments in [&self.moment1, &self.moment2] {
            if let Some(values) = moments.get(moved.name) {
                let zeros = Tensor::zeros(moved.range.len(), DType::F32, values.device())?;
                values.slice_set(&zeros, 0, moved.range.start)?;
            }
        }
        Ok(())
    }

    /// p <- p (1 - lr wd) - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps), t = `updates`.
    fn update(
        &mut self,
        name: &str,
        weight: &Tensor,
        gradient: &Tensor,
        learning_rate: f64,
        decayed: bool,
    ) -> Result<()> {
        let (b1, b2) = self.betas;
        let t = self.updates.min(i32::MAX as u64) as i32;
        let first = Blend { keep: b1 as f32, rest: (1.0 - b1) as f32, squared: false };
        let second = Blend { keep: b2 as f32, rest: (1.0 - b2) as f32, squared: true };
        let keep = if decayed { 1.0 - learning_rate * self.weight_decay } else { 1.0 };
        let descend = Descend {
            keep: keep as f32,
            rate: (learning_rate / (1.0 - b1.powi(t))) as f32,
            correct: (1.0 / (1.0 - b2.powi(t))) as f32,
            epsilon: self.epsilon as f32,
        };
        let m = entry(&mut self.moment1, name, weight)?;
        m.inplace_op2(gradient, &first)?;
        let v = entry(&mut self.moment2, name, weight)?;
        v.inplace_op2(gradient, &second)?;
        Ok(weight.inplace_op3(&m, &v, &descend)?)
    }
}

/// The moment of a weight, which begins with zeros.
fn entry(moments: &mut Tensors, name: &str, weight: &Tensor) -> Result<Tensor> {
    if let Some(moment) = moments.get(name) {
        return Ok(moment.clone());
    }
    let moment = Tensor::zeros(weight.elem_count(), DType::F32, weight.device())?;
    moments.insert(name.to_string(), moment.clone());
    Ok(moment)
}

/// The moving average of the weights: e <- d e + (1 - d) p, with d = min(decay, (1+i)/(10+i)) for
/// the i-th update, so that short runs don't keep their beginning.
#[derive(Debug, Clone)]
pub(crate) struct WeightAverage {
    /// The largest d.
    pub decay: f64,
    /// Updates done.
    pub updates: u64,
    /// The averages, flat.
    pub values: Tensors,
}

impl WeightAverage {
    /// Starts at what `vars` are now.
    pub(crate) fn new(decay: f64, vars: &BTreeMap<String, Var>) -> Result<WeightAverage> {
        let now = |var: &Var| var.flatten_all()?.force_contiguous().map(|now| now.detach());
        let values = vars.iter().map(|(name, var)| Ok((name.clone(), now(var)?)));
        Ok(WeightAverage { decay, updates: 0, values: values.collect::<Result<_>>()? })
    }

    /// Takes over values that were set from outside: their past means nothing.
    pub(crate) fn take_over(&mut self, moved: &Moved, now: &Var) -> Result<()> {
        if let Some(values) = self.values.get(moved.name) {
            let now = now.flatten_all()?.narrow(0, moved.range.start, moved.range.len())?;
            values.slice_set(&now, 0, moved.range.start)?;
        }
        Ok(())
    }

    /// Takes in the weights after an update.
    pub(crate) fn update(&mut self, vars: &BTreeMap<String, Var>) -> Result<()> {
        self.updates += 1;
        let i = self.updates as f64;
        let d = self.decay.min((1.0 + i) / (10.0 + i));
        let blend = Blend { keep: d as f32, rest: (1.0 - d) as f32, squared: false };
        for (name, average) in &self.values {
            let Some(var) = vars.get(name) else { continue };
            average.inplace_op2(var.as_tensor(), &blend)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::train::golden::{Case, assert_close};
    use crate::train::network::parameters::flat;

    fn tensor(values: &[f32]) -> Tensor {
        Tensor::from_slice(values, values.len(), &Device::Cpu).unwrap()
    }

    /// One weight called p, of two dimensions, so that it decays.
    fn weight(values: &[f32]) -> BTreeMap<String, Var> {
        let var = Var::from_slice(values, (1, values.len()), &Device::Cpu).unwrap();
        BTreeMap::from([("p".to_string(), var)])
    }

    fn named(values: &[f32]) -> Tensors {
        Tensors::from([("p".to_string(), tensor(values))])
    }

    #[test]
    fn golden_adamw_and_adam() {
        let Some(case) = Case::open("optimizer") else { return };
        for (tag, lr, betas, decay) in
            [("adamw", 1e-3, (0.9, 0.95), 0.01), ("adam", 1e-4, (0.5, 0.9), 0.0)]
        {
            let p0 = case.f32("adamw.p0");
            let gradients = case.f32("adamw.grads");
            let vars = weight(&p0);
            let mut adam = AdamW::new(betas, 1e-8, decay);
            let (mut ps, mut ms, mut vs, mut ds) = (vec![], vec![], vec![], vec![]);
            for row in gradients.chunks(p0.len()) {
                adam.step(&vars, &named(row), lr).unwrap();
                let p = flat(&vars["p"]).unwrap();
                ms.extend(flat(&adam.moment1["p"]).unwrap());
                vs.extend(flat(&adam.moment2["p"]).unwrap());
                ds.extend(p.iter().zip(&p0).map(|(a, b)| a - b));
                ps.extend(p);
            }
            for (name, mine) in
                [("p_after", ps), ("m_after", ms), ("v_after", vs), ("delta_after", ds)]
            {
                case.check(&format!("{tag}.{name}"), &mine);
            }
        }
    }

    #[test]
    fn golden_clip() {
        let Some(case) = Case::open("optimizer") else { return };
        for (tag, limit) in [("clip_active", 1.0), ("clip_idle", 100.0)] {
            let mut gradients: Tensors = ["g0", "g1", "g2"]
                .iter()
                .map(|n| (n.to_string(), tensor(&case.f32(&format!("clip.{n}")))))
                .collect();
            let norm = clip(&mut gradients, limit).unwrap();
            case.check_scalar(&format!("{tag}_norm_before"), norm);
            for (name, value) in &gradients {
                case.check(&format!("{tag}.{name}"), &flat(value).unwrap());
            }
        }
    }

    #[test]
    fn golden_cosine() {
        let Some(case) = Case::open("optimizer") else { return };
        let steps = case.scalars("cosine_steps");
        for (name, floor) in [("cosine_lr", 0.0), ("cosine_lr_floor_1e-5", 1e-5)] {
            let mine: Vec<f64> =
                steps.iter().map(|s| cosine(*s as usize, 1000, 0.02, 1e-3, floor)).collect();
            assert_close(name, &mine, &case.scalars(name), 1e-12);
        }
    }

    #[test]
    fn golden_weight_average() {
        let Some(case) = Case::open("optimizer") else { return };
        let rows = case.f32("ema.params");
        let rows: Vec<&[f32]> = rows.chunks(4).collect();
        let average = tensor(rows[0]);
        let mut after = vec![];
        for row in &rows[1..] {
            let blend = Blend { keep: 0.999, rest: (1.0 - 0.999f64) as f32, squared: false };
            average.inplace_op2(&tensor(row), &blend).unwrap();
            after.extend(flat(&average).unwrap());
        }
        case.check("ema.after", &after);
        // With the decay that rises, through the type that training uses.
        let mut average = WeightAverage::new(0.999, &weight(rows[0])).unwrap();
        let mut after = vec![];
        for row in &rows[1..] {
            average.update(&weight(row)).unwrap();
            after.extend(flat(&average.values["p"]).unwrap());
        }
        case.check("ema_warm.after", &after);
    }

    #[test]
    fn values_that_were_set_begin_anew() {
        let vars = weight(&[1.0, 2.0, 3.0, 4.0]);
        let mut adam = AdamW::new((0.9, 0.95), 1e-8, 0.0);
        adam.step(&vars, &named(&[1.0; 4]), 1e-3).unwrap();
        let mut average = WeightAverage::new(0.999, &vars).unwrap();
        let before = flat(&vars["p"]).unwrap();
        let set = Tensor::new(&[[10f32, 20.0, 30.0, 40.0]], &Device::Cpu).unwrap();
        vars["p"].set(&set).unwrap();
        assert_eq!(flat(&average.values["p"]).unwrap(), before, "an average has its own storage");
        let moved = Moved { name: "p", range: 1..3 };
        adam.forget(&moved).unwrap();
        average.take_over(&moved, &vars["p"]).unwrap();
        for moment in [&adam.moment1, &adam.moment2] {
            let zeros: Vec<bool> = flat(&moment["p"]).unwrap().iter().map(|v| *v == 0.0).collect();
            assert_eq!(zeros, [false, true, true, false]);
        }
        assert_eq!(flat(&average.values["p"]).unwrap(), [before[0], 20.0, 30.0, before[3]]);
        // A gradient of another size is an error and no update of a part.
        assert!(adam.step(&vars, &named(&[1.0; 3]), 1e-3).is_err());
    }
}
