//! Losses and equivariance measures against the reference.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use candle_core::{DType, Tensor, Var};
use common::{Golden, values};
use equimod_core::SingleProcess;
use equimod_core::equivariance::{Equivariance, equivariance_rows};
use equimod_core::objective::{VicRegWeights, barlow_twins, byol, nt_xent, simsiam, vicreg};

/// Loss and gradient of a case in an element type.
fn loss_and_gradient(golden: &Golden, case: &str, dtype: DType) -> (Tensor, Tensor) {
    let z = Var::from_tensor(&golden.get(&format!("{case}/z")).to_dtype(dtype).unwrap()).unwrap();
    // Temperatures are exact decimals, stored as f32.
    let temperature = (golden.scalar(&format!("{case}/temperature")) * 1e6).round() / 1e6;
    let loss = nt_xent(&z, temperature, &SingleProcess).unwrap();
    let gradient = loss.backward().unwrap().remove(&z).unwrap();
    (loss.reshape(1).unwrap(), gradient)
}

#[test]
fn golden_nt_xent() {
    let Some(golden) = Golden::open("ntxent.safetensors") else { return };
    for case in golden.meta_json("cases").as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let (loss, gradient) = loss_and_gradient(&golden, name, DType::F32);
        golden.check_f32(&format!("{name}/loss"), &loss);
        check_gradient(&golden, name, &gradient);
        // The metadata holds the loss in f64.
        let (loss, _) = loss_and_gradient(&golden, name, DType::F64);
        let (got, want) = (values(&loss)[0], case["loss"].as_f64().unwrap());
        assert!((got - want).abs() <= 2e-6 * want.abs().max(1.0), "{name}: {got} {want}");
    }
}

/// Rows with a norm below the eps of `F.normalize` have gradients of order 1e10, which are compared to 1e-3.
fn check_gradient(golden: &Golden, case: &str, gradient: &Tensor) {
    let rows_name = format!("{case}/degenerate_rows");
    let name = format!("{case}/grad_z");
    if !golden.has(&rows_name) {
        return golden.check_f32(&name, gradient);
    }
    let want = golden.get(&name);
    let mut regular = gradient.to_vec2::<f32>().unwrap();
    for row in golden.values(&rows_name) {
        let row = row as usize;
        let want = want.get(row).unwrap().to_vec1::<f32>().unwrap();
        let scale = want.iter().map(|v| v.abs()).fold(0f32, f32::max);
        for (got, want) in regular[row].iter().zip(&want) {
            assert!((got - want).abs() <= 1e-3 * scale.max(1e-6), "{case} row {row}: {got} {want}");
        }
        regular[row] = want;
    }
    golden.check_f32(&name, &Tensor::new(regular, gradient.device()).unwrap());
}

#[test]
fn golden_measures_of_equivariance() {
    let Some(golden) = Golden::open("knn_metrics.safetensors") else { return };
    let cases: Vec<_> = golden.tensors.keys().filter_map(|k| k.strip_suffix("/yt_hat")).collect();
    assert!(!cases.is_empty());
    for case in cases {
        let get = |name: &str| golden.get(&format!("{case}/{name}")).clone();
        let rows = equivariance_rows(&get("y0"), &get("yt"), &get("yt_hat")).unwrap();
        let all = Equivariance::of(&rows);
        let tensor = |v: Vec<f64>| Tensor::new(v, &candle_core::Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
        golden.check_f32(&format!("{case}/eqgain_rows"), &tensor(rows.iter().map(|r| r.absolute()).collect()));
        golden.check_f32(&format!("{case}/eqgain_bis_rows"), &tensor(rows.iter().map(|r| r.relative()).collect()));
        golden.check_f32(&format!("{case}/eqgain"), &tensor(vec![all.absolute]));
        golden.check_f32(&format!("{case}/eqgain_bis"), &tensor(vec![all.relative]));
    }
}

/// Value and gradients, by halves of the rows, of a loss over `first` and `second`, concatenated.
fn two_views(
    golden: &Golden,
    case: &str,
    names: [&str; 2],
    dtype: DType,
    loss: impl Fn(&Tensor) -> Tensor,
) -> (Tensor, [Tensor; 2]) {
    let of = |name: &str| golden.get(&format!("{case}/{name}")).to_dtype(dtype).unwrap();
    let both = Var::from_tensor(&Tensor::cat(&[of(names[0]), of(names[1])], 0).unwrap()).unwrap();
    let value = loss(both.as_tensor());
    let gradient = value.backward().unwrap().remove(&both).unwrap();
    let rows = gradient.dim(0).unwrap() / 2;
    (value.reshape(1).unwrap(), [0, 1].map(|half| gradient.narrow(0, half * rows, rows).unwrap()))
}

/// Calls `check` with the name of every case of `objective`.
fn each_case(golden: &Golden, objective: &str, check: impl Fn(&str)) {
    let cases: Vec<_> = golden.tensors.keys().filter_map(|key| key.strip_suffix("/loss")).collect();
    let cases: Vec<_> = cases.into_iter().filter(|case| case.starts_with(&format!("{objective}/"))).collect();
    assert!(!cases.is_empty(), "no case of {objective}");
    cases.into_iter().for_each(check);
}

/// Compares in f32 with the file's tolerances, and the loss in f64 with the rounding of the stored f32.
fn check_two_views(golden: &Golden, case: &str, names: [&str; 2], loss: impl Fn(&Tensor) -> Tensor) {
    let (value, gradients) = two_views(golden, case, names, DType::F32, &loss);
    golden.check_f32(&format!("{case}/loss"), &value);
    for (name, gradient) in names.iter().zip(&gradients) {
        golden.check_f32(&format!("{case}/grad_{name}"), gradient);
    }
    let (value, gradients) = two_views(golden, case, names, DType::F64, &loss);
    golden.check_f32(&format!("{case}/loss"), &value);
    for (name, gradient) in names.iter().zip(&gradients) {
        golden.check_f32(&format!("{case}/grad_{name}"), gradient);
    }
}

#[test]
fn golden_barlow_twins() {
    let Some(golden) = Golden::open("ssl_losses.safetensors") else { return };
    each_case(&golden, "barlow", |case| {
        let settings = golden.meta_json(case);
        let (redundancy, scale) = (settings["lam"].as_f64().unwrap(), settings["scale"].as_f64().unwrap());
        let loss = |zs: &Tensor| (barlow_twins(zs, redundancy, &SingleProcess).unwrap().loss * scale).unwrap();
        check_two_views(&golden, case, ["z1", "z2"], loss);
    });
}

#[test]
fn golden_vicreg() {
    let Some(golden) = Golden::open("ssl_losses.safetensors") else { return };
    each_case(&golden, "vicreg", |case| {
        // One codebase adds the variance terms of both views, the other averages them.
        let settings = golden.meta_json(case);
        let of = |name: &str| settings[name].as_f64().unwrap();
        let views = if case.contains("sololearn") { 2.0 } else { 1.0 };
        let weights = VicRegWeights { invariance: of("sim"), variance: views * of("var"), covariance: of("cov") };
        check_two_views(&golden, case, ["z1", "z2"], |zs| vicreg(zs, weights, &SingleProcess).unwrap().loss);
    });
}

#[test]
fn golden_simsiam() {
    let Some(golden) = Golden::open("ssl_losses.safetensors") else { return };
    each_case(&golden, "simsiam", |case| {
        let of = |name: &str| golden.get(&format!("{case}/{name}")).clone();
        let zs = Tensor::cat(&[of("z1"), of("z2")], 0).unwrap();
        let loss = |ps: &Tensor| simsiam(ps, &zs.to_dtype(ps.dtype()).unwrap(), &SingleProcess).unwrap();
        check_two_views(&golden, case, ["p1", "p2"], loss);
    });
}

#[test]
fn golden_byol() {
    let Some(golden) = Golden::open("ssl_losses.safetensors") else { return };
    each_case(&golden, "byol", |case| {
        for dtype in [DType::F32, DType::F64] {
            let of = |name: &str| golden.get(&format!("{case}/{name}")).to_dtype(dtype).unwrap();
            let q = Var::from_tensor(&of("q")).unwrap();
            let loss = byol(&q, &of("m_z"), &SingleProcess).unwrap();
            golden.check_f32(&format!("{case}/grad_q"), loss.backward().unwrap().get(&q).unwrap());
            golden.check_f32(&format!("{case}/loss"), &loss.reshape(1).unwrap());
        }
    });
}
