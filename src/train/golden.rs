//! Owns reading a case of the training reference in tests: tensors, scalars, tolerances.
//! Integration tests include this very file.

#![allow(dead_code)]

use std::collections::HashMap;
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};

use crate::model::config::{Parts, VqganConfig};

/// Where the reference is compared: on the processor, or, with `VQTOK_TEST_DEVICE=cuda` in a build with the
/// feature candle-cuda, on the first card.
pub(crate) fn device() -> &'static Device {
    static DEVICE: OnceLock<Device> = OnceLock::new();
    DEVICE.get_or_init(|| match std::env::var("VQTOK_TEST_DEVICE").as_deref() {
        Ok("cuda") => Device::new_cuda(0).expect("a card"),
        _ => Device::Cpu,
    })
}

/// `../shared/golden_train/<name>`.
pub(crate) struct Case {
    /// `case.json`.
    pub json: serde_json::Value,
    /// `data.safetensors`.
    pub tensors: HashMap<String, Tensor>,
}

impl Case {
    /// None, with a word on stderr, where the reference data is not there.
    pub(crate) fn open(name: &str) -> Option<Case> {
        let folder = crate::testing::shared(&format!("golden_train/{name}"))?;
        let json = std::fs::read(folder.join("case.json")).unwrap();
        Some(Case {
            json: serde_json::from_slice(&json).unwrap(),
            tensors: candle_core::safetensors::load(folder.join("data.safetensors"), device())
                .unwrap(),
        })
    }

    /// A tensor as it is stored.
    pub(crate) fn tensor(&self, name: &str) -> Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("no tensor {name}")).clone()
    }

    /// The elements of a float tensor.
    pub(crate) fn f32(&self, name: &str) -> Vec<f32> {
        self.tensor(name).flatten_all().unwrap().to_vec1().unwrap()
    }

    /// The elements of an index tensor.
    pub(crate) fn i64(&self, name: &str) -> Vec<i64> {
        self.tensor(name).flatten_all().unwrap().to_vec1().unwrap()
    }

    /// The value or values of a scalar.
    pub(crate) fn scalars(&self, name: &str) -> Vec<f64> {
        let value = &self.json["scalars"][name]["value"];
        match value {
            serde_json::Value::Array(list) => list.iter().map(|v| v.as_f64().unwrap()).collect(),
            other => vec![other.as_f64().unwrap_or_else(|| panic!("no scalar {name}"))],
        }
    }

    /// Panics unless the scalar is met within its tolerance.
    pub(crate) fn check_scalar(&self, name: &str, mine: f64) {
        let tol = self.json["scalars"][name]["tol"].as_f64().unwrap();
        assert_close(name, &[mine], &self.scalars(name), tol);
    }

    /// Panics unless the list of scalars is met within its tolerance.
    pub(crate) fn check_scalars(&self, name: &str, mine: &[f64]) {
        let tol = self.json["scalars"][name]["tol"].as_f64().unwrap();
        assert_close(name, mine, &self.scalars(name), tol);
    }

    /// Panics unless the tensor is met within its tolerance.
    pub(crate) fn check(&self, name: &str, mine: &[f32]) {
        let tol = self.json["tensors"][name]["tol"]
            .as_f64()
            .unwrap_or_else(|| panic!("no tolerance for {name}"));
        let golden: Vec<f64> = self.f32(name).iter().map(|v| f64::from(*v)).collect();
        let mine: Vec<f64> = mine.iter().map(|v| f64::from(*v)).collect();
        assert_close(name, &mine, &golden, tol);
    }

    /// [`Case::check`] of a tensor, whose shape must be the stored one too.
    pub(crate) fn check_tensor(&self, name: &str, mine: &Tensor) {
        assert_eq!(mine.dims(), self.tensor(name).dims(), "shape of {name}");
        let mine: Vec<f32> =
            mine.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1().unwrap();
        self.check(name, &mine);
    }
}

/// The reference's VQGAN at any width: factor 2, attention on the lower level and in the middle.
pub(crate) fn vqgan(ch: usize, z_channels: usize, norm_groups: usize) -> VqganConfig {
    VqganConfig {
        ch,
        widths: vec![ch, 2 * ch],
        res_blocks: 1,
        attention: vec![false, true],
        mid_attention: true,
        z_channels,
        norm_groups,
        norm_eps: 1e-6,
        parts: Parts::Both,
        decoder: None,
        variant: Default::default(),
    }
}

/// The pass rule of the reference: max |mine - golden| <= tol * max |golden|.
pub(crate) fn assert_close(name: &str, mine: &[f64], golden: &[f64], tol: f64) {
    assert_eq!(mine.len(), golden.len(), "length of {name}");
    let largest = golden.iter().fold(0f64, |m, v| m.max(v.abs()));
    let off = mine.iter().zip(golden).fold(0f64, |m, (a, b)| {
        let d = (a - b).abs();
        if d.is_nan() { f64::INFINITY } else { m.max(d) }
    });
    assert!(off <= tol * largest, "{name}: off by {off:e}, allowed {:e}", tol * largest);
}
