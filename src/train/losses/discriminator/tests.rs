//! Tests of the discriminator, its losses and the adaptive weight against the reference.

use candle_core::{DType, Device};

use super::*;
use crate::train::golden::Case;
use crate::train::network::parameters::{Parameters, flat, set_flat};

fn stored(case: &Case) -> (Parameters, Discriminator) {
    let parameters = Parameters::new(&Device::Cpu);
    let vb = parameters.builder(DType::F32);
    let network = Discriminator::new(3, 8, 3, vb).unwrap();
    for (name, var) in parameters.vars() {
        let stored = case.tensor(&format!("param.{name}"));
        assert_eq!(stored.dims(), var.dims(), "{name}");
        set_flat(&var, flat(&stored).unwrap()).unwrap();
    }
    let stored = case.tensors.keys().filter(|k| k.starts_with("param.")).count();
    assert_eq!(stored, parameters.vars().len());
    (parameters, network)
}

fn statistics(case: &Case, tag: &str) -> Statistics {
    let values = case
        .tensors
        .keys()
        .filter_map(|k| Some((k.strip_prefix(&format!("{tag}."))?.to_string(), case.tensor(k))))
        .collect();
    Statistics { values }
}

fn value(tensor: &Tensor) -> f64 {
    f64::from(tensor.to_scalar::<f32>().unwrap())
}

#[test]
fn golden_discriminator() {
    let Some(case) = Case::open("discriminator") else { return };
    let (parameters, network) = stored(&case);
    let real = Var::from_tensor(&case.tensor("real")).unwrap();
    let fake = Var::from_tensor(&case.tensor("fake")).unwrap();
    let mut statistics = statistics(&case, "stats0");
    let on_real = network.forward(&real, &mut statistics).unwrap();
    for (name, values) in &statistics.values {
        case.check_tensor(&format!("stats1.{name}"), values);
    }
    let on_fake = network.forward(&fake, &mut statistics).unwrap();
    for (name, values) in &statistics.values {
        case.check_tensor(&format!("stats2.{name}"), values);
    }
    case.check_tensor("logits_real", &on_real);
    case.check_tensor("logits_fake", &on_fake);

    let before = case.scalars("lecam_ema_before");
    let mut lecam = Lecam { real: before[0], fake: before[1], decay: 0.999 };
    let penalty = lecam.penalty(&on_real, &on_fake).unwrap();
    case.check_scalars("lecam_ema_after", &[lecam.real, lecam.fake]);
    let hinge = AdversarialLoss::Hinge.discriminator(&on_real, &on_fake).unwrap();
    let losses = [
        ("d_hinge", hinge.clone()),
        ("d_vanilla", AdversarialLoss::Vanilla.discriminator(&on_real, &on_fake).unwrap()),
        ("d_nonsat", AdversarialLoss::NonSaturating.discriminator(&on_real, &on_fake).unwrap()),
        ("d_lecam", penalty.clone()),
        ("d_hinge_lecam", (hinge + (penalty * 0.05).unwrap()).unwrap()),
        ("g_linear", AdversarialLoss::Hinge.generator(&on_fake).unwrap()),
        ("g_nonsat", AdversarialLoss::NonSaturating.generator(&on_fake).unwrap()),
    ];
    for (name, loss) in losses {
        case.check_scalar(name, value(&loss));
        let store = loss.backward().unwrap();
        let mut compared = 0;
        for (key, var) in parameters
            .vars()
            .iter()
            .chain([(&"real".to_string(), &real), (&"fake".to_string(), &fake)])
        {
            let golden = format!("grad.{name}.{key}");
            if case.tensors.contains_key(&golden) {
                let gradient = store.get(var).unwrap_or_else(|| panic!("{golden}: none"));
                case.check_tensor(&golden, gradient);
                compared += 1;
            }
        }
        let golden = format!("grad.{name}.");
        assert_eq!(compared, case.tensors.keys().filter(|k| k.starts_with(&golden)).count());
    }
}

#[test]
fn golden_adaptive_weight() {
    let Some(case) = Case::open("adaptive_weight") else { return };
    for tag in ["plain", "clamped"] {
        let var = |n: &str| Var::from_tensor(&case.tensor(&format!("{tag}.{n}"))).unwrap();
        let fixed = |n: &str| case.tensor(&format!("{tag}.{n}"));
        let conv = |x: &Tensor, w: &Tensor, b: &Tensor, stride: usize| {
            conv2d(x, w, Some(b), stride, Padding::same(1))
        };
        let (h, cw, cb) = (var("h"), var("conv.weight"), var("conv.bias"));
        let (ow, ob) = (var("conv_out.weight"), var("conv_out.bias"));
        let activation = conv(&h, &cw, &cb, 1).unwrap().silu().unwrap();
        case.check_tensor(&format!("{tag}.last_activation"), &activation);
        let image = conv(&activation, &ow, &ob, 1).unwrap();
        case.check_tensor(&format!("{tag}.x_rec"), &image);
        let x = fixed("x");
        let nll = |y: &Tensor| -> Result<Tensor> { Ok((&x - y)?.abs()?.mean_all()?) };
        let g = |y: &Tensor| -> Result<Tensor> {
            let h = conv(y, &fixed("disc.0.weight"), &fixed("disc.0.bias"), 2)?;
            let logits =
                conv(&leaky_relu(&h, 0.2)?, &fixed("disc.1.weight"), &fixed("disc.1.bias"), 1)?;
            AdversarialLoss::Hinge.generator(&logits)
        };
        let last = LastLayer { weight: &ow, bias: &ob, transposed: false };
        let nll = at_image(&image, nll).unwrap().1;
        let g = at_image(&image, g).unwrap().1;
        for (cap, name) in [(f64::MAX, "lambda"), (10.0, "lambda_capped_at_10")] {
            let found = adaptive_weight(&activation, last, (&nll, &g), 0.8, cap).unwrap();
            case.check_scalar(&format!("{tag}.norm_last_layer_nll"), found.norm_nll);
            case.check_scalar(&format!("{tag}.norm_last_layer_g"), found.norm_g);
            case.check_scalar(&format!("{tag}.{name}"), found.lambda);
            if name == "lambda" {
                let pass = (&image * &found.gradient).unwrap().sum_all().unwrap();
                let store = pass.backward().unwrap();
                for (name, var) in [
                    ("h", &h),
                    ("conv.weight", &cw),
                    ("conv.bias", &cb),
                    ("conv_out.weight", &ow),
                    ("conv_out.bias", &ob),
                ] {
                    let golden = format!("{tag}.grad_total.{name}");
                    case.check_tensor(&golden, store.get(var).unwrap());
                }
            }
        }
    }
}

#[test]
fn softplus_overflows_nowhere() {
    let x = Tensor::new(&[-200f32, -1.0, 0.0, 1.0, 200.0], &Device::Cpu).unwrap();
    let y = softplus(&x).unwrap().to_vec1::<f32>().unwrap();
    let expected = [0.0, 0.313_261_7, std::f32::consts::LN_2, 1.313_261_7, 200.0];
    for (y, expected) in y.iter().zip(expected) {
        assert!((y - expected).abs() < 1e-6, "{y} {expected}");
    }
}
