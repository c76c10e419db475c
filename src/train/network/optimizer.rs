//! Owns the update of the weights: AdamW with readable moments, clipping by the global norm, the
//! learning rate's schedule, the average of the weights.

use std::collections::BTreeMap;

use candle_core::Var;
use candle_core::backprop::GradStore;

use super::parameters::{Moved, Named, QUANTIZER_PREFIX, flat, set_flat};
use crate::error::Result;

/// Takes the gradients of `vars` out of `store`; a weight without one (it had no part in the loss)
/// is left out.
///
/// # Errors
/// A gradient that can't be read as float32.
pub fn gradients(store: &mut GradStore, vars: &BTreeMap<String, Var>) -> Result<Named> {
    let mut named = Named::new();
    for (name, var) in vars {
        if let Some(gradient) = store.remove(var) {
            named.insert(name.clone(), flat(&gradient)?);
        }
    }
    Ok(named)
}

/// The norm over all gradients; summed in float64 in the order of names.
pub(crate) fn global_norm(gradients: &Named) -> f64 {
    let sum: f64 = gradients
        .values()
        .map(|g| g.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>())
        .sum();
    sum.sqrt()
}

/// Scales all gradients by min(1, limit / (norm + 1e-6)). Returns the norm before.
pub fn clip(gradients: &mut Named, limit: f64) -> f64 {
    let norm = global_norm(gradients);
    let scale = limit / (norm + 1e-6);
    if scale < 1.0 {
        for value in gradients.values_mut().flatten() {
            *value *= scale as f32;
        }
    }
    norm
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
    /// Moving mean of the gradient.
    pub moment1: Named,
    /// Moving mean of its square.
    pub moment2: Named,
}

impl AdamW {
    /// Moments of zero.
    pub fn new(betas: (f64, f64), epsilon: f64, weight_decay: f64) -> AdamW {
        AdamW {
            betas,
            epsilon,
            weight_decay,
            updates: 0,
            moment1: Named::new(),
            moment2: Named::new(),
        }
    }

    /// One update of every weight that has a gradient.
    ///
    /// # Errors
    /// A weight that can't be read or set as float32.
    pub fn step(
        &mut self,
        vars: &BTreeMap<String, Var>,
        gradients: &Named,
        learning_rate: f64,
    ) -> Result<()> {
        self.updates += 1;
        for (name, gradient) in gradients {
            let Some(var) = vars.get(name) else { continue };
            let mut values = flat(var)?;
            let decayed = var.dims().len() > 1 && !name.starts_with(QUANTIZER_PREFIX);
            self.step_values(name, &mut values, gradient, learning_rate, decayed);
            set_flat(var, values)?;
        }
        Ok(())
    }

    /// Forgets the moments of values that were set from outside.
    pub fn forget(&mut self, moved: &Moved) {
        for moments in [&mut self.moment1, &mut self.moment2] {
            if let Some(values) = moments.get_mut(moved.name) {
                values[moved.range.clone()].fill(0.0);
            }
        }
    }

    /// p <- p (1 - lr wd) - lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps), t = `updates`.
    fn step_values(
        &mut self,
        name: &str,
        values: &mut [f32],
        gradient: &[f32],
        learning_rate: f64,
        decayed: bool,
    ) {
        let (b1, b2) = self.betas;
        let t = self.updates.min(i32::MAX as u64) as i32;
        let correct1 = learning_rate / (1.0 - b1.powi(t));
        let correct2 = 1.0 / (1.0 - b2.powi(t));
        let keep = if decayed { 1.0 - learning_rate * self.weight_decay } else { 1.0 };
        let (correct1, correct2) = (correct1 as f32, correct2 as f32);
        let (b1, b2, keep, epsilon) = (b1 as f32, b2 as f32, keep as f32, self.epsilon as f32);
        let (rest1, rest2) = ((1.0 - self.betas.0) as f32, (1.0 - self.betas.1) as f32);
        let m = entry(&mut self.moment1, name, values.len());
        let v = entry(&mut self.moment2, name, values.len());
        for (((p, g), m), v) in values.iter_mut().zip(gradient).zip(m).zip(v) {
            *m = b1 * *m + rest1 * g;
            *v = b2 * *v + rest2 * (g * g);
            *p = *p * keep - correct1 * *m / ((*v * correct2).sqrt() + epsilon);
        }
    }
}

fn entry<'a>(named: &'a mut Named, name: &str, len: usize) -> &'a mut Vec<f32> {
    named.entry(name.to_string()).or_insert_with(|| vec![0.0; len])
}

/// The moving average of the weights: e <- d e + (1 - d) p, with d = min(decay, (1+i)/(10+i)) for
/// the i-th update, so that short runs don't keep their beginning.
#[derive(Debug, Clone)]
pub(crate) struct WeightAverage {
    /// The largest d.
    pub decay: f64,
    /// Updates done.
    pub updates: u64,
    /// The averages.
    pub values: Named,
}

impl WeightAverage {
    /// Starts at `values`.
    pub(crate) fn new(decay: f64, values: Named) -> WeightAverage {
        WeightAverage { decay, updates: 0, values }
    }

    /// Takes over values that were set from outside: their past means nothing.
    pub(crate) fn take_over(&mut self, moved: &Moved, now: &[f32]) {
        if let Some(values) = self.values.get_mut(moved.name) {
            values[moved.range.clone()].copy_from_slice(&now[moved.range.clone()]);
        }
    }

    /// Takes in the weights after an update.
    pub(crate) fn update(&mut self, vars: &BTreeMap<String, Var>) -> Result<()> {
        self.updates += 1;
        let i = self.updates as f64;
        let d = self.decay.min((1.0 + i) / (10.0 + i));
        for (name, average) in &mut self.values {
            let Some(var) = vars.get(name) else { continue };
            blend(average, &flat(var)?, d);
        }
        Ok(())
    }
}

/// average <- d average + (1 - d) new
fn blend(average: &mut [f32], new: &[f32], d: f64) {
    let (d, rest) = (d as f32, (1.0 - d) as f32);
    for (a, p) in average.iter_mut().zip(new) {
        *a = d * *a + rest * p;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::golden::{Case, assert_close};

    #[test]
    fn golden_adamw_and_adam() {
        let Some(case) = Case::open("optimizer") else { return };
        for (tag, lr, betas, decay) in
            [("adamw", 1e-3, (0.9, 0.95), 0.01), ("adam", 1e-4, (0.5, 0.9), 0.0)]
        {
            let stored = |n: &str| case.f32(&format!("{tag}.{n}"));
            let p0 = if tag == "adamw" { stored("p0") } else { case.f32("adamw.p0") };
            let gradients = case.f32("adamw.grads");
            let mut p = p0.clone();
            let mut adam = AdamW::new(betas, 1e-8, decay);
            let (mut ps, mut ms, mut vs, mut ds) = (vec![], vec![], vec![], vec![]);
            for row in gradients.chunks(p.len()) {
                adam.updates += 1;
                adam.step_values("p", &mut p, row, lr, true);
                ps.extend(&p);
                ms.extend(&adam.moment1["p"]);
                vs.extend(&adam.moment2["p"]);
                ds.extend(p.iter().zip(&p0).map(|(a, b)| a - b));
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
            let mut gradients: Named = ["g0", "g1", "g2"]
                .iter()
                .map(|n| (n.to_string(), case.f32(&format!("clip.{n}"))))
                .collect();
            let norm = clip(&mut gradients, limit);
            case.check_scalar(&format!("{tag}_norm_before"), norm);
            for (name, value) in &gradients {
                case.check(&format!("{tag}.{name}"), value);
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
        for (name, warm) in [("ema.after", false), ("ema_warm.after", true)] {
            let mut e = rows[0].to_vec();
            let mut after = vec![];
            for (i, row) in rows.iter().enumerate().skip(1) {
                let i = i as f64;
                let d = if warm { 0.999f64.min((1.0 + i) / (10.0 + i)) } else { 0.999 };
                blend(&mut e, row, d);
                after.extend(&e);
            }
            case.check(name, &after);
        }
        // The same through the type that training uses.
        let vars = |row: &[f32]| -> BTreeMap<String, Var> {
            let var = Var::from_slice(row, row.len(), &candle_core::Device::Cpu).unwrap();
            BTreeMap::from([("p".to_string(), var)])
        };
        let mut average =
            WeightAverage::new(0.999, Named::from([("p".to_string(), rows[0].to_vec())]));
        let mut after = vec![];
        for row in &rows[1..] {
            average.update(&vars(row)).unwrap();
            after.extend(&average.values["p"]);
        }
        case.check("ema_warm.after", &after);
    }
}
