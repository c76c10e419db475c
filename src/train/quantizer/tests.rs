//! Tests of the quantizers against the float64 reference, in float32 and in float64.

use candle_core::{DType, Device, Tensor, Var};

use crate::model::config::{QuantizerConfig, QuantizerRule};
use crate::model::quantizer::normalise_rows;
use crate::train::golden::Case;
use crate::train::network::parameters::{
    CODEBOOK_NAME, Named, Parameters, QUANTIZER_PREFIX, flat, set_flat,
};
use crate::train::network::random::Draws;
use crate::train::quantizer::ema::EmaCodes;
use crate::train::quantizer::finite_scalar::FsqCodes;
use crate::train::quantizer::gradient::GradientCodes;
use crate::train::quantizer::layout::{like_latents, rows_of, to_rows};
use crate::train::quantizer::lookup_free::{LfqCodes, entropies};
use crate::train::quantizer::nearest::Nearest;
use crate::train::quantizer::residual::ResidualCodes;
use crate::train::quantizer::simvq::SimVqCodes;
use crate::train::quantizer::trainable::{QuantizeOutput, TrainableQuantizer};
use crate::train::settings::codebook::{CodebookSettings, CodebookStart, Estimator, SignLatents};

fn nearest_of_8(sphere: bool) -> Nearest {
    Nearest {
        codes: 16,
        dim: 8,
        sphere,
        commitment: 0.25,
        code_weight: 1.0,
        estimator: Estimator::StraightThrough,
    }
}

fn value(t: &Tensor) -> f64 {
    t.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

fn indices(quantized: &QuantizeOutput) -> Vec<i64> {
    quantized.indices.iter().map(|i| i64::from(*i)).collect()
}

const TYPES: [DType; 2] = [DType::F32, DType::F64];

/// Quantizes the case's `z`; checks codes, losses, value and gradient; the store is for more.
fn check(
    case: &Case,
    tag: &str,
    quantizer: &dyn TrainableQuantizer,
    dtype: DType,
) -> candle_core::backprop::GradStore {
    let input = |name: &str| case.tensor(&format!("{tag}{name}")).to_dtype(dtype).unwrap();
    let z = Var::from_tensor(&input("z")).unwrap();
    let q = quantizer.forward(&z).unwrap();
    assert_eq!(indices(&q), case.i64(&format!("{tag}indices")));
    for (name, part) in
        [("commitment_loss", &q.losses.commitment), ("codebook_loss", &q.losses.codes)]
    {
        if let Some(part) = part {
            case.check_scalar(name, value(part));
        }
    }
    let out =
        if case.tensors.contains_key(&format!("{tag}quantized")) { "quantized" } else { "codes" };
    case.check_tensor(&format!("{tag}{out}"), &q.latents);
    let through = (&q.latents * input("upstream")).unwrap().sum_all().unwrap();
    let store = q.losses.added_to(&through).unwrap().backward().unwrap();
    let name = if case.tensors.contains_key("grad_z_total") { "grad_z_total" } else { "grad_z" };
    case.check_tensor(&format!("{tag}{name}"), store.get(&z).unwrap());
    store
}

#[test]
fn golden_gradient_codes_plain_and_on_the_sphere() {
    for (name, sphere) in [("vq_gradient", false), ("vq_l2norm", true)] {
        let Some(case) = Case::open(name) else { return };
        for dtype in TYPES {
            let parameters = Parameters::new(&Device::Cpu);
            let settings = CodebookSettings::default();
            let codes =
                GradientCodes::new(nearest_of_8(sphere), (0, 1), &settings, &parameters, dtype)
                    .unwrap();
            let var = &parameters.vars()[CODEBOOK_NAME];
            set_flat(var, case.f32("codebook")).unwrap();
            let store = check(&case, "", &codes, dtype);
            case.check_tensor("grad_codebook", store.get(var).unwrap());
            let saved = codes.codebook(&parameters.values().unwrap()).unwrap();
            assert_eq!(saved, Some(case.f32("codebook")));
        }
    }
}

#[test]
fn golden_simvq() {
    let Some(case) = Case::open("vq_simvq") else { return };
    for dtype in TYPES {
        let parameters = Parameters::new(&Device::Cpu);
        let start = CodebookStart::Random;
        let table = case.f32("table");
        let codes = SimVqCodes::new(nearest_of_8(false), start, table, &parameters, dtype).unwrap();
        let vars = parameters.vars();
        for name in ["proj.weight", "proj.bias"] {
            set_flat(&vars[&format!("{QUANTIZER_PREFIX}{name}")], case.f32(name)).unwrap();
        }
        let saved = codes.codebook(&parameters.values().unwrap()).unwrap().unwrap();
        case.check("codebook", &saved);
        let store = check(&case, "", &codes, dtype);
        for name in ["proj.weight", "proj.bias"] {
            let gradient = store.get(&vars[&format!("{QUANTIZER_PREFIX}{name}")]).unwrap();
            case.check_tensor(&format!("grad_{name}"), gradient);
        }
    }
}

#[test]
fn golden_moving_averages_in_training() {
    let Some(mut case) = Case::open("vq_ema") else { return };
    let z = case.tensor("z0");
    case.tensors.insert("z".into(), z);
    let mut codes = EmaCodes::new(nearest_of_8(false), &CodebookSettings::default(), &Device::Cpu);
    let state = [("embedding", "codebook"), ("count", "ema_count"), ("sum", "ema_sum")];
    codes.restore(state.map(|(to, from)| (to.to_string(), case.f32(from))).into()).unwrap();
    for dtype in TYPES {
        check(&case, "", &codes, dtype);
    }
    for step in 0..3 {
        let q = codes.forward(&case.tensor(&format!("z{step}"))).unwrap();
        assert_eq!(indices(&q), case.i64(&format!("indices_update{}", step + 1)));
        codes.update(&q.rows, &q.indices);
    }
    let saved = codes.codebook(&Named::new()).unwrap().unwrap();
    case.check("after3_codebook", &saved);
    assert!(codes.restore(Named::new()).is_err());
}

#[test]
fn golden_rotation_with_moving_averages() {
    let Some(case) = Case::open("vq_rotation") else { return };
    let nearest = Nearest { estimator: Estimator::Rotation, ..nearest_of_8(false) };
    let mut codes = EmaCodes::new(nearest, &CodebookSettings::default(), &Device::Cpu);
    codes.place(&(0..16).collect::<Vec<_>>(), &case.f32("codebook")).unwrap();
    for dtype in TYPES {
        check(&case, "", &codes, dtype);
    }
}

#[test]
fn golden_fsq() {
    let Some(case) = Case::open("fsq") else { return };
    for tag in ["a", "b", "c"] {
        let levels: Vec<usize> = case.json["hyper"][format!("levels_{tag}")]
            .as_array()
            .unwrap()
            .iter()
            .map(|l| l.as_u64().unwrap() as usize)
            .collect();
        let codes = FsqCodes::new(&levels).unwrap();
        for dtype in TYPES {
            let z = case.tensor(&format!("{tag}_z")).to_dtype(dtype).unwrap();
            case.check_tensor(&format!("{tag}_bounded"), &codes.bounded(&z).unwrap());
            check(&case, &format!("{tag}_"), &codes, dtype);
        }
        // The inference has the same codes and vectors.
        let fsq = crate::model::fsq::Fsq::new(&levels).unwrap();
        let config = QuantizerConfig {
            levels: levels.clone(),
            ..QuantizerConfig::new(QuantizerRule::Fsq, fsq.codes(), fsq.dim())
        };
        let inference = crate::model::quantizer::VectorQuantizer::new(&config, None, None).unwrap();
        let rows = to_rows(&case.f32(&format!("{tag}_z")), levels.len(), 16);
        let (found, _) = inference.quantize(rows, levels.len()).unwrap();
        let found_i64: Vec<i64> = found.iter().map(|i| i64::from(*i)).collect();
        assert_eq!(found_i64, case.i64(&format!("{tag}_indices")));
        let vectors = to_rows(&case.f32(&format!("{tag}_codes")), levels.len(), 16);
        assert_eq!(inference.lookup(&found).unwrap(), vectors);
    }
}

#[test]
fn golden_lfq() {
    let Some(case) = Case::open("lfq") else { return };
    let codes = LfqCodes {
        bits: 10,
        latents: SignLatents::Free,
        commitment: 0.25,
        entropy_weight: 0.1,
        temperature: 0.01,
    };
    let rows: Vec<f64> = to_rows(&case.f32("z"), 10, 16).into_iter().map(f64::from).collect();
    let e = entropies(&rows, 10, 0.01);
    case.check_scalar("sample_entropy", e.sample);
    case.check_scalar("batch_entropy", e.batch);
    case.check_scalar("entropy_loss", e.sample - e.batch);
    for (name, rows) in [("sample", e.sample_gradient), ("batch", e.batch_gradient)] {
        let rows = Tensor::new(rows, &Device::Cpu).unwrap();
        let mine = like_latents(&rows, &case.tensor("z")).unwrap();
        case.check_tensor(&format!("grad_z_{name}_entropy"), &mine);
    }
    for dtype in TYPES {
        check(&case, "", &codes, dtype);
        let z = case.tensor("z").to_dtype(dtype).unwrap();
        let loss = codes.forward(&z).unwrap().losses.entropy.unwrap();
        case.check_scalar("entropy_loss", value(&loss) * 10.0);
    }
}

#[test]
fn moving_averages_on_the_sphere_follow_the_latents() {
    let mut codes = EmaCodes::new(nearest_of_8(true), &CodebookSettings::default(), &Device::Cpu);
    let mut draws = Draws::new(1, "sphere", 0);
    let rows = draws.uniform(16 * 40 * 8, 3.0);
    codes.start(&rows, 64, &mut draws, &mut |_, _| Ok(())).unwrap();
    let z = Tensor::from_vec(draws.uniform(4 * 8 * 16, 5.0), (4, 8, 4, 4), &Device::Cpu).unwrap();
    for _ in 0..2000 {
        let q = codes.forward(&z).unwrap();
        codes.update(&q.rows, &q.indices);
    }
    let q = codes.forward(&z).unwrap();
    let lengths: Vec<f32> = q.rows.chunks(8).map(|r| r.iter().map(|v| v * v).sum()).collect();
    assert!(lengths.iter().all(|l| (l - 1.0).abs() < 1e-5));
    // What the decoder gets has length one as well.
    let out = rows_of(&q.latents).unwrap();
    assert!(out.chunks(8).all(|r| (r.iter().map(|v| v * v).sum::<f32>() - 1.0).abs() < 1e-4));
    // Each used code points along the mean of the latents that chose it.
    let book = codes.codebook(&Named::new()).unwrap().unwrap();
    let mut mean = vec![0f32; 16 * 8];
    for (row, k) in q.rows.chunks(8).zip(&q.indices) {
        mean[*k as usize * 8..][..8].iter_mut().zip(row).for_each(|(m, v)| *m += v);
    }
    let (mut book, mut used) = (book, 0);
    normalise_rows(&mut book, 8);
    normalise_rows(&mut mean, 8);
    for (e, m) in book.chunks(8).zip(mean.chunks(8)).filter(|(_, m)| m[0] != 0.0) {
        used += 1;
        assert!(e.iter().zip(m).all(|(a, b)| (a - b).abs() < 1e-3), "{e:?} {m:?}");
    }
    assert!(used > 8, "{used}");
}

#[test]
fn zero_latents_have_a_finite_gradient_on_the_sphere() {
    let parameters = Parameters::new(&Device::Cpu);
    let settings = CodebookSettings::default();
    let codes =
        GradientCodes::new(nearest_of_8(true), (0, 1), &settings, &parameters, DType::F32).unwrap();
    parameters.initialize(1).unwrap();
    let z = Var::zeros((1, 8, 1, 2), DType::F32, &Device::Cpu).unwrap();
    let q = codes.forward(&z).unwrap();
    let sum = q.losses.added_to(&q.latents.sum_all().unwrap()).unwrap();
    let gradient = flat(sum.backward().unwrap().get(&z).unwrap()).unwrap();
    assert!(gradient.iter().all(|v| v.is_finite()), "{gradient:?}");
}

#[test]
fn golden_residual_of_three_gradient_codebooks() {
    let Some(case) = Case::open("vq_residual") else { return };
    let settings = CodebookSettings::default();
    for dtype in TYPES {
        let z = Var::from_tensor(&case.tensor("z").to_dtype(dtype).unwrap()).unwrap();
        let (nearest, parameters) = (nearest_of_8(false), Parameters::new(&Device::Cpu));
        let level = |level| -> Box<dyn TrainableQuantizer> {
            let place = (level, 3);
            Box::new(GradientCodes::new(nearest, place, &settings, &parameters, dtype).unwrap())
        };
        let codes = ResidualCodes::new(nearest, (0..3).map(level).collect(), &Device::Cpu);
        let var = &parameters.vars()[CODEBOOK_NAME];
        set_flat(var, case.f32("codebooks")).unwrap();
        let saved = codes.codebook(&parameters.values().unwrap()).unwrap();
        assert_eq!(saved, Some(case.f32("codebooks")));

        let (levels, rest) = codes.by_level(&z).unwrap();
        let found: Vec<i64> = levels.iter().flat_map(indices).collect();
        assert_eq!(found, case.i64("indices"));
        let zero = Tensor::zeros((), dtype, &Device::Cpu).unwrap();
        let loss = |level: &QuantizeOutput| value(&level.losses.added_to(&zero).unwrap());
        case.check_scalars("loss_per_level", &levels.iter().map(loss).collect::<Vec<_>>());
        case.check_tensor("residual", &rest);

        let q = codes.forward(&z).unwrap();
        let of_all = (0..).zip(&found).map(|(i, k): (i64, _)| k + i / 32 * 16);
        assert_eq!(indices(&q), of_all.collect::<Vec<_>>());
        case.check_scalar("vq_loss", value(&q.losses.added_to(&zero).unwrap()));
        case.check_tensor("quantized", &q.codes);
        case.check_tensor("quantized", &q.latents);
        let upstream = case.tensor("upstream").to_dtype(dtype).unwrap();
        let through = (q.latents * upstream).unwrap().sum_all().unwrap();
        let store = q.losses.added_to(&through).unwrap().backward().unwrap();
        case.check_tensor("grad_z", store.get(&z).unwrap());
        case.check("grad_codebooks", &flat(store.get(var).unwrap()).unwrap());
    }
}

#[test]
fn residual_levels_start_learn_and_come_back_one_by_one() {
    let nearest = nearest_of_8(false);
    let fresh = || {
        let level = || EmaCodes::new(nearest, &CodebookSettings::default(), &Device::Cpu);
        ResidualCodes::new(
            nearest,
            (0..3).map(|_| Box::new(level()) as Box<dyn TrainableQuantizer>).collect(),
            &Device::Cpu,
        )
    };
    let mut draws = Draws::new(3, "residual", 0);
    let z = draws.uniform(4 * 8 * 16, 2.0);
    let z = Tensor::from_vec(z, (4, 8, 4, 4), &Device::Cpu).unwrap();
    let mut codes = fresh();
    codes.start(&rows_of(&z).unwrap(), 64, &mut draws, &mut |_, _| Ok(())).unwrap();
    let left = |codes: &ResidualCodes, levels: usize| -> f64 {
        let (found, _) = codes.by_level(&z).unwrap();
        let sum = found[..levels].iter().try_fold(z.clone(), |rest, q| rest - &q.codes).unwrap();
        value(&sum.sqr().unwrap().mean_all().unwrap())
    };
    // Each level leaves less over than the ones before it.
    let rests: Vec<f64> = (0..4).map(|levels| left(&codes, levels)).collect();
    assert!(rests.windows(2).all(|pair| pair[1] < 0.8 * pair[0]), "{rests:?}");

    let q = codes.forward(&z).unwrap();
    codes.update(&q.rows, &q.indices);
    let mut back = fresh();
    back.restore(codes.state()).unwrap();
    let book = |codes: &ResidualCodes| codes.codebook(&Named::new()).unwrap().unwrap();
    assert_eq!(book(&back), book(&codes));
    assert_eq!(back.state(), codes.state());
    // Code 5 of the second level and no other.
    let before = book(&codes);
    codes.place(&[16 + 5], &[0.5; 8]).unwrap();
    let moved = (0..48).filter(|k| book(&codes)[k * 8..][..8] != before[k * 8..][..8]);
    assert_eq!(moved.collect::<Vec<_>>(), [21]);
}
