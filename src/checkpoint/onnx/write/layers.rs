//! Owns the layers of networks as nodes of a graph.

use super::graph::{Graph, Name};
use super::proto::{Attribute, Kind};
use crate::error::{Error, Result};
use crate::model::topology::{
    BottleneckSpec, ConvGeometry, ConvSpec, Emit, NormSpec, Resample, ResnetSpec, Shortcut,
};

/// Every pixel as often as makes the map larger.
const NEAREST: [Attribute<'static>; 3] = [
    Attribute::Text("mode", "nearest"),
    Attribute::Text("coordinate_transformation_mode", "asymmetric"),
    Attribute::Text("nearest_mode", "floor"),
];

impl Graph {
    fn convolved(&mut self, x: &str, name: &str, conv: ConvSpec) -> Result<Name> {
        let [weight, bias] = conv.parameters.map(|parameter| format!("{name}.{parameter}"));
        let weight = self.weight(&weight)?;
        let bias = if conv.bias { Some(self.weight(&bias)?) } else { None };
        let inputs: Vec<&str> = [x, &weight].into_iter().chain(bias.as_deref()).collect();
        let ConvGeometry { kernel, stride, before, after } = conv.geometry;
        let [kernel, stride, before, after] = [kernel, stride, before, after].map(|n| n as i64);
        let attributes = [
            Attribute::Ints("kernel_shape", &[kernel, kernel]),
            Attribute::Ints("strides", &[stride, stride]),
            Attribute::Ints("pads", &[before, before, after, after]),
        ];
        Ok(self.op("Conv", &inputs, &attributes))
    }

    /// `(x - mean) / sqrt(var + eps)` of each group of channels, in float32 whatever layers compute in.
    fn normalised(&mut self, x: &str, norm: NormSpec) -> Name {
        let x = self.wide(x);
        let groups = norm.groups;
        let sides = self.integers(&[3], &[0, groups as i64, -1]);
        let grouped = self.op("Reshape", &[&x, &sides], &[]);
        let ones = self.floats(&[groups], &vec![1.0; groups], Kind::F32);
        let zeros = self.floats(&[groups], &vec![0.0; groups], Kind::F32);
        let epsilon = Attribute::Float("epsilon", norm.eps as f32);
        let normed = self.op("InstanceNormalization", &[&grouped, &ones, &zeros], &[epsilon]);
        let shape = self.map("Shape", &x);
        self.op("Reshape", &[&normed, &shape], &[])
    }

    fn group_norm(&mut self, x: &str, name: &str, norm: NormSpec) -> Result<Name> {
        let normed = self.normalised(x, norm);
        if !norm.by_codes {
            let map = self.affine(&normed, name)?;
            return Ok(self.narrow(&map));
        }
        let map = self.affine(&normed, &format!("{name}.norm_layer"))?;
        let (codes, shape) = (self.input.0.clone(), self.map("Shape", &map));
        let mut spread = Vec::new();
        for part in ["conv_y", "conv_b"] {
            let made =
                self.convolved(&codes, &format!("{name}.{part}"), ConvGeometry::POINT.into())?;
            let made = self.wide(&made);
            spread.push(self.op("Resize", &[&made, "", "", &shape], &NEAREST));
        }
        let scaled = self.op("Mul", &[&map, &spread[0]], &[]);
        let shifted = self.op("Add", &[&scaled, &spread[1]], &[]);
        Ok(self.narrow(&shifted))
    }

    /// A scale and a shift by channel, in float32.
    fn affine(&mut self, x: &str, name: &str) -> Result<Name> {
        let [weight, bias] = ["weight", "bias"].map(|parameter| format!("{name}.{parameter}"));
        let (weight, bias) = (self.by_channel(&weight)?, self.by_channel(&bias)?);
        let scaled = self.op("Mul", &[x, &weight], &[]);
        Ok(self.op("Add", &[&scaled, &bias], &[]))
    }

    /// x * sigmoid(x).
    fn gated(&mut self, x: &str) -> Name {
        let gate = self.map("Sigmoid", x);
        self.op("Mul", &[x, &gate], &[])
    }

    fn doubled(&mut self, x: &str) -> Name {
        let scales = self.floats(&[4], &[1.0, 1.0, 2.0, 2.0], Kind::F32);
        self.op("Resize", &[x, "", &scales], &NEAREST)
    }

    /// Zeros above an odd height and on the left of an odd width.
    fn even(&mut self, x: &str) -> Name {
        let shape = self.map("Shape", x);
        let two = self.integers(&[4], &[1, 1, 2, 2]);
        let before = self.op("Mod", &[&shape, &two], &[]);
        let after = self.integers(&[4], &[0; 4]);
        let pads = self.op("Concat", &[&before, &after], &[Attribute::Int("axis", 0)]);
        self.op("Pad", &[x, &pads], &[])
    }

    fn pooled(&mut self, x: &str, kind: &str) -> Name {
        let sides: &[i64] = &[2, 2];
        self.op(
            kind,
            &[x],
            &[Attribute::Ints("kernel_shape", sides), Attribute::Ints("strides", sides)],
        )
    }

    /// Takes a layer's output, of so many channels.
    fn gives(&mut self, map: Name, channels: usize) -> Result<()> {
        (self.last, self.channels) = (map, channels);
        Ok(())
    }

    /// A linear layer of one row an image, against a map.
    fn linear(&mut self, rows: &str, name: &str) -> Result<Name> {
        let weight = self.weight_as(&format!("{name}.weight"), Kind::F32)?;
        let bias = self.weight_as(&format!("{name}.bias"), Kind::F32)?;
        let made = self.op("Gemm", &[rows, &weight, &bias], &[Attribute::Int("transB", 1)]);
        let axes = self.integers(&[2], &[2, 3]);
        Ok(self.op("Unsqueeze", &[&made, &axes], &[]))
    }
}

impl Emit for Graph {
    fn conv(&mut self, name: &str, outputs: usize, conv: impl Into<ConvSpec>) -> Result<()> {
        let x = self.last.clone();
        let map = self.convolved(&x, name, conv.into())?;
        self.gives(map, outputs)
    }

    fn conv_head(
        &mut self,
        name: &str,
        [_, kept]: [usize; 2],
        conv: impl Into<ConvSpec>,
    ) -> Result<()> {
        let x = self.last.clone();
        let map = self.convolved(&x, name, conv.into())?;
        let bounds = [0, kept as i64, 1].map(|n| self.integers(&[1], &[n]));
        let map = self.op("Slice", &[&map, &bounds[0], &bounds[1], &bounds[2]], &[]);
        self.gives(map, kept)
    }

    fn upsample(&mut self, name: &str) -> Result<()> {
        let (x, channels) = (self.last.clone(), self.channels);
        let x = self.doubled(&x);
        let map = self.convolved(&x, name, ConvGeometry::SAME_3.into())?;
        self.gives(map, channels)
    }

    fn transposed(&mut self, name: &str, outputs: usize) -> Result<()> {
        let [weight, bias] = ["weight", "bias"].map(|parameter| format!("{name}.{parameter}"));
        let (x, weight, bias) = (self.last.clone(), self.weight(&weight)?, self.weight(&bias)?);
        let attributes = [
            Attribute::Ints("kernel_shape", &[4, 4]),
            Attribute::Ints("strides", &[2, 2]),
            Attribute::Ints("pads", &[1, 1, 1, 1]),
        ];
        let map = self.op("ConvTranspose", &[&x, &weight, &bias], &attributes);
        self.gives(map, outputs)
    }

    fn norm_silu(&mut self, name: &str, norm: NormSpec) -> Result<()> {
        let (x, channels) = (self.last.clone(), self.channels);
        let normed = self.group_norm(&x, name, norm)?;
        let map = self.gated(&normed);
        self.gives(map, channels)
    }

    fn relu(&mut self) -> Result<()> {
        let (x, channels) = (self.last.clone(), self.channels);
        let map = self.map("Relu", &x);
        self.gives(map, channels)
    }

    fn silu(&mut self) -> Result<()> {
        let (x, channels) = (self.last.clone(), self.channels);
        let map = self.gated(&x);
        self.gives(map, channels)
    }

    fn affine_resnet(&mut self, name: &str) -> Result<()> {
        let (x, channels) = (self.last.clone(), self.channels);
        let mut h = x.clone();
        for part in ["1", "2"] {
            let wide = self.wide(&h);
            let shifted = self.affine(&wide, &format!("{name}.norm{part}"))?;
            let shifted = self.narrow(&shifted);
            let active = self.gated(&shifted);
            let conv = format!("{name}.conv{part}");
            h = self.convolved(&active, &conv, ConvGeometry::SAME_3.into())?;
        }
        let map = self.op("Add", &[&x, &h], &[]);
        self.gives(map, channels)
    }

    fn keep_codes(&mut self) -> Result<()> {
        let map = (self.last.clone(), self.channels);
        (self.last, self.channels) = std::mem::replace(&mut self.input, map);
        Ok(())
    }

    fn resnet(&mut self, name: &str, outputs: usize, spec: ResnetSpec) -> Result<()> {
        let (x, inputs) = (self.last.clone(), self.channels);
        let of = |geometry: ConvGeometry| match spec.bias {
            true => geometry.into(),
            false => geometry.unbiased(),
        };
        let mut h = x.clone();
        for part in ["1", "2"] {
            let normed = self.group_norm(&h, &format!("{name}.norm{part}"), spec.norm)?;
            let active = self.gated(&normed);
            h = self.convolved(&active, &format!("{name}.conv{part}"), of(ConvGeometry::SAME_3))?;
        }
        let from = if spec.shortcut == Shortcut::Input { &x } else { &h };
        let skip = match inputs == outputs {
            true => x.clone(),
            false => {
                self.convolved(from, &format!("{name}.nin_shortcut"), of(ConvGeometry::POINT))?
            }
        };
        let map = self.op("Add", &[&skip, &h], &[]);
        self.gives(map, outputs)
    }

    fn attention(&mut self, name: &str, norm: NormSpec) -> Result<()> {
        let (x, channels) = (self.last.clone(), self.channels);
        let normed = self.group_norm(&x, &format!("{name}.norm"), norm)?;
        let sides = self.integers(&[3], &[0, channels as i64, -1]);
        let mut flat = Vec::new();
        for part in ["q", "k", "v"] {
            let made =
                self.convolved(&normed, &format!("{name}.{part}"), ConvGeometry::POINT.into())?;
            flat.push(self.op("Reshape", &[&made, &sides], &[]));
        }
        let queries = self.permuted(&flat[0], &[0, 2, 1]);
        let scores = self.op("MatMul", &[&queries, &flat[1]], &[]);
        let scale = self.floats(&[], &[(channels as f64).powf(-0.5) as f32], self.float);
        let scaled = self.op("Mul", &[&scores, &scale], &[]);
        let weights = self.op("Softmax", &[&scaled], &[Attribute::Int("axis", -1)]);
        let weights = self.permuted(&weights, &[0, 2, 1]);
        let mixed = self.op("MatMul", &[&flat[2], &weights], &[]);
        let shape = self.map("Shape", &x);
        let mixed = self.op("Reshape", &[&mixed, &shape], &[]);
        let out =
            self.convolved(&mixed, &format!("{name}.proj_out"), ConvGeometry::POINT.into())?;
        let map = self.op("Add", &[&x, &out], &[]);
        self.gives(map, channels)
    }

    fn plain_residual(&mut self, names: [&str; 2], _: usize) -> Result<()> {
        let (x, channels) = (self.last.clone(), self.channels);
        let mut h = x.clone();
        for (name, geometry) in names.into_iter().zip([ConvGeometry::SAME_3, ConvGeometry::POINT]) {
            let active = self.map("Relu", &h);
            h = self.convolved(&active, name, geometry.into())?;
        }
        let map = self.op("Add", &[&x, &h], &[]);
        self.gives(map, channels)
    }

    fn bottleneck(&mut self, name: &str, outputs: usize, spec: BottleneckSpec) -> Result<()> {
        let (x, inputs) = (self.last.clone(), self.channels);
        let conv = |kernel: usize| ConvGeometry::same(kernel).named(spec.parameters);
        let mut h = x.clone();
        for (place, kernel) in (1..).zip(spec.kernels) {
            let active = self.map("Relu", &h);
            h = self.convolved(&active, &format!("{name}.res_path.conv_{place}"), conv(kernel))?;
        }
        let skip = match inputs == outputs {
            true => x,
            false => self.convolved(&x, &format!("{name}.id_path"), conv(1))?,
        };
        let gain = self.floats(&[], &[spec.gain as f32], self.float);
        let scaled = self.op("Mul", &[&h, &gain], &[]);
        let map = self.op("Add", &[&skip, &scaled], &[]);
        self.gives(map, outputs)
    }

    fn resample(&mut self, how: Resample) -> Result<()> {
        let (x, channels) = (self.last.clone(), self.channels);
        let map = match how {
            Resample::Mean => self.pooled(&x, "AveragePool"),
            Resample::Largest => self.pooled(&x, "MaxPool"),
            Resample::Double => self.doubled(&x),
            Resample::Even => self.even(&x),
            Resample::Neighbours => {
                return Err(Error::internal("a mean of neighbours isn't written as ONNX"));
            }
        };
        self.gives(map, channels)
    }

    fn depth_to_space(&mut self, patch: [usize; 2]) -> Result<()> {
        debug_assert_eq!(patch, [2, 2], "what convolutional networks have");
        let (x, channels) = (self.last.clone(), self.channels);
        let attributes = [Attribute::Int("blocksize", 2), Attribute::Text("mode", "DCR")];
        let map = self.op("DepthToSpace", &[&x], &attributes);
        self.gives(map, channels / 4)
    }

    fn adaptive_norm(&mut self, name: &str, norm: NormSpec) -> Result<()> {
        let (x, channels) = (self.last.clone(), self.channels);
        let input = self.input.0.clone();
        let q = self.wide(&input);
        let sides = self.integers(&[3], &[0, 0, -1]);
        let q = self.op("Reshape", &[&q, &sides], &[]);
        let along: &[i64] = &[2];
        let mean = self.op("ReduceMean", &[&q], &[Attribute::Ints("axes", along)]);
        let centred = self.op("Sub", &[&q, &mean], &[]);
        let axis = self.integers(&[1], &[2]);
        let alone = Attribute::Int("keepdims", 0);
        let squares = self.op("Mul", &[&centred, &centred], &[]);
        let sum = self.op("ReduceSum", &[&squares, &axis], &[alone]);
        let shape = self.map("Shape", &q);
        let place = self.integers(&[1], &[2]);
        let count = self.op("Gather", &[&shape, &place], &[]);
        let count = self.cast(&count, Kind::F32);
        let less = self.with("Sub", &count, 1.0);
        let variance = self.op("Div", &[&sum, &less], &[]);
        let steady = self.with("Add", &variance, norm.eps as f32);
        let deviation = self.map("Sqrt", &steady);
        let mean = self.op("Squeeze", &[&mean, &axis], &[]);
        let gamma = self.linear(&deviation, &format!("{name}.gamma"))?;
        let beta = self.linear(&mean, &format!("{name}.beta"))?;
        let normed = self.normalised(&x, norm);
        let scaled = self.op("Mul", &[&normed, &gamma], &[]);
        let shifted = self.op("Add", &[&scaled, &beta], &[]);
        let map = self.narrow(&shifted);
        self.gives(map, channels)
    }
}
