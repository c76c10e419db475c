//! Holds graphs against candle, layer by layer and whole.

use super::*;

/// Emits a layer for both, behind a 1x1 with the unit matrix, which brings the input into a map
/// with moments; gives what ours and candle's make of the same map.
macro_rules! both {
    ($isa:expr, $x:expr, $emit:expr) => {{
        let (isa, x) = ($isa, $x);
        let (channels, height, width) = x.dims3().unwrap();
        let maker = Maker::default();
        let unit = Tensor::eye(channels, DType::F32, &Device::Cpu).unwrap();
        let unit = unit.reshape((channels, channels, 1, 1)).unwrap();
        maker.made.lock().unwrap().insert("unit.weight".into(), unit);
        let mut theirs = sequential::Builder::new(maker.builder(), channels);
        theirs.conv("unit", channels, ConvGeometry::POINT.unbiased()).unwrap();
        $emit(&mut theirs).unwrap();
        let want = theirs.finish().forward(&x.unsqueeze(0).unwrap()).unwrap();
        let weights = Weights::from(maker.weights());
        let mut ours = Builder::new(isa, &weights, channels);
        ours.conv("unit", channels, ConvGeometry::POINT.unbiased()).unwrap();
        $emit(&mut ours).unwrap();
        let got = run_graph(&ours.finish(None), x, height, width);
        (got, want.squeeze(0).unwrap())
    }};
}

#[test]
fn every_layer_equals_candle() {
    let norm = NormSpec::new(4, 1e-6);
    let block = |bias, shortcut| ResnetSpec { norm, bias, shortcut };
    let bottleneck = |kernels| BottleneckSpec { kernels, gain: 0.25, parameters: ["w", "b"] };
    let sizes = [(1, 1), (2, 3), (5, 4), (8, 8), (13, 17), (16, 16), (31, 6)];
    for isa in Isa::available() {
        for (i, (height, width)) in sizes.into_iter().enumerate() {
            let (c_in, c_out) = [(8, 8), (16, 32), (36, 12), (64, 64)][i % 4];
            let x = random(i as u64, c_in * height * width);
            let x = &Tensor::from_vec(x, (c_in, height, width), &Device::Cpu).unwrap();
            let check = |what: &str, (got, want): (Tensor, Tensor)| {
                let off = difference(&got, &want);
                // The tiles of Winograd cost about a digit against the plain sum.
                assert!(off < 1e-5, "{what} {c_in}->{c_out} {height}x{width}: {off:.2e}");
            };
            for (bias, shortcut) in [(true, Shortcut::Input), (false, Shortcut::Output)] {
                let spec = block(bias, shortcut);
                check("resnet", both!(isa, x, |e| Emit::resnet(e, "r", c_out, spec)));
            }
            check("attention", both!(isa, x, |e| Emit::attention(e, "a", norm)));
            check("upsample", both!(isa, x, |e| Emit::upsample(e, "u")));
            check("transposed", both!(isa, x, |e| Emit::transposed(e, "t", c_out)));
            check("residual", both!(isa, x, |e| Emit::plain_residual(e, ["c", "d"], 12)));
            let spec = bottleneck([3, 3, 3, 1]);
            check("bottleneck", both!(isa, x, |e| Emit::bottleneck(e, "b", c_out, spec)));
            check("depth to space", both!(isa, x, |e| Emit::depth_to_space(e, [2, 2])));
            check("double", both!(isa, x, |e| Emit::resample(e, Resample::Double)));
            if height > 1 && width > 1 {
                let halve = ConvGeometry::HALVE_3;
                check("downsample", both!(isa, x, |e| Emit::conv(e, "d", c_in, halve)));
                check("mean", both!(isa, x, |e| Emit::resample(e, Resample::Mean)));
                check("largest", both!(isa, x, |e| Emit::resample(e, Resample::Largest)));
            }
        }
    }
}

/// At twice the codes' size, in front of a convolution.
fn doubled(e: &mut impl Emit, outputs: usize, norm: NormSpec) -> crate::error::Result<()> {
    e.upsample("u")?;
    e.norm_silu("n", norm)?;
    e.conv("c", outputs, ConvGeometry::SAME_3)
}

/// By what becomes of the codes, beside them.
fn kept(e: &mut impl Emit, outputs: usize, spec: ResnetSpec) -> crate::error::Result<()> {
    e.affine_resnet("f")?;
    e.keep_codes()?;
    e.conv("p", outputs, ConvGeometry::POINT)?;
    e.resnet("r", outputs, spec)
}

/// Layers that read the codes again, or come of more than one step.
#[test]
fn layers_of_modulated_decoders_equal_candle() {
    let norm = NormSpec { by_codes: true, ..NormSpec::new(4, 1e-6) };
    let spec = ResnetSpec { norm, bias: true, shortcut: Shortcut::Input };
    for isa in Isa::available() {
        for (i, (height, width)) in [(1, 1), (2, 3), (5, 4), (13, 17)].into_iter().enumerate() {
            let (c_in, c_out) = [(8, 8), (16, 32), (36, 12), (64, 64)][i];
            let x = random(i as u64, c_in * height * width);
            let x = &Tensor::from_vec(x, (c_in, height, width), &Device::Cpu).unwrap();
            let check = |what: &str, (got, want): (Tensor, Tensor)| {
                let off = difference(&got, &want);
                assert!(off < 2e-5, "{what} {c_in}->{c_out} {height}x{width}: {off:.2e}");
            };
            check("resnet", both!(isa, x, |e| Emit::resnet(e, "r", c_out, spec)));
            check("attention", both!(isa, x, |e| Emit::attention(e, "a", norm)));
            check("silu", both!(isa, x, Emit::silu));
            check("affine resnet", both!(isa, x, |e| Emit::affine_resnet(e, "f")));
            check("even", both!(isa, x, |e| Emit::resample(e, Resample::Even)));
            check("doubled", both!(isa, x, |e| doubled(e, c_out, norm)));
            check("kept codes", both!(isa, x, |e| kept(e, c_out, spec)));
            let stem = ConvGeometry::patches(2);
            if height > 1 && width > 1 {
                check("patches", both!(isa, x, |e| Emit::conv(e, "p", c_out, stem)));
            }
        }
    }
}

/// An activation in front of the convolution that computes it.
fn behind(e: &mut impl Emit, what: Nonlinearity, outputs: usize) -> crate::error::Result<()> {
    e.nonlinearity(what)?;
    e.conv("c", outputs, ConvGeometry::SAME_3)
}

/// The map's pixels among others of a row, of which some are taken again.
fn among_others(e: &mut impl Emit, map: RowMap, pixels: usize) -> crate::error::Result<()> {
    let (patches, latents) = match map {
        RowMap::Patches(_) => (pixels, 3),
        RowMap::Latents(_) => (5, pixels),
    };
    e.token_row(TokenRow { side: "s", patches, latents, map })?;
    e.layer_norm("n", 1e-5)?;
    e.take_pixels(1, [1, patches + latents - 1])?;
    e.pixels_as_channels()
}

#[test]
fn layers_of_transformers_equal_candle() {
    let gelu = MlpSpec::Plain { first: "f", between: Nonlinearity::Gelu, last: "l" };
    let spec = |heads, head_dim, mlp| TransformerSpec {
        heads,
        head_dim,
        mlp_dim: 21,
        eps: 1e-5,
        attention_norm: "a",
        qkv: ("q", Some("b")),
        attention_out: "o",
        mlp_norm: "m",
        mlp,
    };
    for isa in Isa::available() {
        for (i, (height, width)) in [(1, 1), (2, 3), (1, 20), (13, 17)].into_iter().enumerate() {
            let (c_in, c_out) = [(8, 8), (16, 32), (36, 12), (64, 16)][i];
            let x = random(i as u64, c_in * height * width);
            let x = &Tensor::from_vec(x, (c_in, height, width), &Device::Cpu).unwrap();
            let check = |what: &str, (got, want): (Tensor, Tensor)| {
                let off = difference(&got, &want);
                assert!(off < 2e-5, "{what} {c_in}->{c_out} {height}x{width}: {off:.2e}");
            };
            for spec in [spec(1, 7, gelu), spec(3, 16, MlpSpec::Gated("g")), spec(2, 20, gelu)] {
                check("layer", both!(isa, x, |e| Emit::transformer_layer(e, "t", spec)));
            }
            for outputs in [c_in / 4, 3 * c_in] {
                check(
                    "projection",
                    both!(isa, x, |e| Emit::attention_projection(e, "p", outputs, 9)),
                );
            }
            for side in [InvertedSide::Halves, InvertedSide::Keeps, InvertedSide::Doubles] {
                let spec = InvertedSpec { hidden: 27, side, eps: 1e-6 };
                check(
                    "inverted",
                    both!(isa, x, |e| Emit::inverted_bottleneck(e, "i", c_out, spec)),
                );
            }
        }
    }
}

#[test]
fn what_stands_around_transformers_equals_candle() {
    for isa in Isa::available() {
        for (i, (height, width)) in [(1, 1), (2, 3), (1, 20), (13, 17)].into_iter().enumerate() {
            let (c_in, c_out) = [(8, 8), (16, 32), (36, 12), (64, 16)][i];
            let x = random(i as u64, c_in * height * width);
            let x = &Tensor::from_vec(x, (c_in, height, width), &Device::Cpu).unwrap();
            let check = |what: &str, (got, want): (Tensor, Tensor)| {
                let off = difference(&got, &want);
                assert!(off < 2e-5, "{what} {c_in}->{c_out} {height}x{width}: {off:.2e}");
            };
            check("linear", both!(isa, x, |e| Emit::linear(e, "l", c_out)));
            let patch = [height.min(2), width.min(3)];
            if height % patch[0] + width % patch[1] == 0 {
                check("embedding", both!(isa, x, |e| Emit::patch_embedding(e, "p", c_out, patch)));
            }
            check("pixels", both!(isa, x, |e| Emit::patch_pixels(e, "p", c_out, [2, 3])));
            for grid in [Some([height, width]), None] {
                check("positions", both!(isa, x, |e| Emit::positions(e, "p", grid)));
            }
            for what in [Nonlinearity::Tanh, Nonlinearity::Gelu] {
                check("behind", both!(isa, x, |e| behind(e, what, c_out)));
            }
            check("mixture", both!(isa, x, |e| Emit::mixture(e, "m", [c_in, c_out])));
            let pixels = height * width;
            let map = RowMap::Patches("latents");
            check("patches", both!(isa, x, |e| among_others(e, map, pixels)));
            if height == 1 {
                let map = RowMap::Latents("mask");
                check("latents", both!(isa, x, |e| among_others(e, map, pixels)));
            }
        }
    }
}

#[test]
fn whole_networks_equal_candle_at_any_size() {
    for (widths, ch, z, dim) in [(vec![32, 32, 64], 32, 16, 8), (vec![16, 48], 8, 3, 3)] {
        let config = vqgan(&widths, ch, z);
        let (settings, weights) = model(config.clone(), QuantizerRule::L2, 50, dim);
        let reference = CandleEngine::new(
            Model::load(settings.clone(), weights.clone(), &Device::Cpu).unwrap(),
        );
        let weights = Weights::from(weights);
        for isa in Isa::available() {
            let encoder =
                builder::encoder(isa, &weights, &settings.architecture, Io::from(&settings))
                    .unwrap();
            for (height, width) in [(16, 16), (24, 40), (17, 29), (64, 36), (150, 18)] {
                let batch = images(1, 1, height, width);
                let want = reference.latents(&batch).unwrap()[0][0].squeeze(0).unwrap();
                let table = settings.pixels.input.table();
                let pixels: Vec<f32> = batch.pixels.iter().map(|&b| table[b as usize]).collect();
                let x = Tensor::from_vec(pixels, (height, width, 3), &Device::Cpu)
                    .and_then(|x| x.permute((2, 0, 1)))
                    .unwrap();
                let off = difference(&run_graph(&encoder, &x, height, width), &want);
                assert!(off < 2e-5, "encoder {height}x{width}: {off:.2e}");
            }
        }
    }
}

#[test]
fn an_arena_serves_graphs_of_any_widths_and_slots_in_turn() {
    let config = vqgan(&[64, 64], 32, 8);
    let (settings, weights) = model(config, QuantizerRule::L2, 50, 8);
    let (isa, weights) = (Isa::available()[0], Weights::from(weights));
    let io = Io::from(&settings);
    let wide = builder::encoder(isa, &weights, &settings.architecture, io).unwrap();
    let mut b = Builder::new(isa, &weights, 3);
    b.conv("encoder.conv_in", 32, ConvGeometry::SAME_3).unwrap();
    for _ in 0..20 {
        let eye = Tensor::ones((8, 32, 1, 1), DType::F32, &Device::Cpu).unwrap();
        b.branch(ConvLayer::new("branch", eye, None, ConvGeometry::POINT).unwrap());
    }
    let many = b.finish(None);
    let x = Tensor::from_vec(random(1, 3 * 12 * 12), (3, 12, 12), &Device::Cpu).unwrap();
    let mut arena = Arena::default();
    let first = run_graph_in(&mut arena, &wide, &x, 12, 12);
    run_graph_in(&mut arena, &many, &x, 12, 12);
    let again = run_graph_in(&mut arena, &wide, &x, 12, 12);
    assert_eq!(difference(&again, &first), 0.0);
}

#[test]
#[cfg(target_os = "linux")]
fn an_image_beyond_all_memory_is_told() {
    let (config, weights) = model(vqgan(&[16, 24], 8, 5), QuantizerRule::L2, 50, 8);
    let (weights, io) = (Weights::from(weights), Io::from(&config));
    let graph = builder::encoder(Isa::Portable, &weights, &config.architecture, io).unwrap();
    let error = Arena::default().fit(&graph.bind(400_000, 300_000)).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, crate::error::Error::OutOfMemory(_)), "{text}");
    assert!(text.contains("the maps of one input of 300000x400000 take"), "{text}");
}

#[test]
fn a_vq_vae_equals_candle() {
    for (hidden, downsamples, res_hidden) in [(24, 1, 8), (32, 2, 16), (40, 3, 20)] {
        let config = VqvaeConfig { hidden, downsamples, res_blocks: 2, res_hidden };
        let (network, io) = (Architecture::Vqvae(config), Io { channels: 3, dim: 12 });
        let maker = Maker::default();
        let net = Autoencoder::load(maker.builder(), &network, io).unwrap();
        let weights = Weights::from(maker.weights());
        let factor = 1 << downsamples;
        for isa in Isa::available() {
            let encoder = builder::encoder(isa, &weights, &network, io).unwrap();
            let decoder = builder::decoder(isa, &weights, &network, io).unwrap();
            for (h, w) in [(1, 1), (4, 4), (5, 7)] {
                let (height, width) = (h * factor, w * factor);
                let x = random(1, 3 * height * width);
                let x = Tensor::from_vec(x, (3, height, width), &Device::Cpu).unwrap();
                let want = net.encode(&x.unsqueeze(0).unwrap()).unwrap().squeeze(0).unwrap();
                let off = difference(&run_graph(&encoder, &x, height, width), &want);
                assert!(off < 1e-5, "encoder {height}x{width}: {off:.2e}");
                let z = random(2, 12 * h * w);
                let z = Tensor::from_vec(z, (12, h, w), &Device::Cpu).unwrap();
                let want = net.decode(&z.unsqueeze(0).unwrap()).unwrap().squeeze(0).unwrap();
                let off = difference(&run_graph(&decoder, &z, h, w), &want);
                assert!(off < 1e-5, "decoder {height}x{width}: {off:.2e}");
            }
        }
    }
}
