//! Losses against finite differences and closed forms, in f64.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::fill;
use equimod_core::SingleProcess;
use equimod_core::host::read;
use equimod_core::objective::{VicRegWeights, barlow_twins, byol, contrast, nt_xent, simsiam, spread, vicreg};

/// Step of the finite differences.
const STEP: f64 = 1e-5;

type Loss = fn(&Tensor) -> Tensor;

const WEIGHTS: VicRegWeights = VicRegWeights { invariance: 25.0, variance: 25.0, covariance: 1.0 };

/// Losses with a stop-gradient on the second argument: predictions against targets.
const AGAINST_TARGETS: [&str; 3] = ["simsiam", "byol", "moco v3"];

/// Losses over embeddings of view 1, then view 2.
fn losses() -> [(&'static str, Loss); 6] {
    [
        ("nt-xent", |zs| nt_xent(zs, 0.3, &SingleProcess).unwrap()),
        ("barlow twins", |zs| barlow_twins(zs, 0.005, &SingleProcess).unwrap().loss),
        ("vicreg", |zs| vicreg(zs, WEIGHTS, &SingleProcess).unwrap().loss),
        ("simsiam", |ps| simsiam(ps, &random("targets", ps.dims()), &SingleProcess).unwrap()),
        ("byol", |qs| byol(qs, &random("targets", qs.dims()), &SingleProcess).unwrap()),
        ("moco v3", |qs| contrast(qs, &random("targets", qs.dims()), 0.2, &SingleProcess).unwrap()),
    ]
}

fn random(name: &str, dims: &[usize]) -> Tensor {
    fill(name, dims, 1.0, 0.0, 11).to_dtype(DType::F64).unwrap()
}

fn scalar(tensor: &Tensor) -> f64 {
    tensor.to_scalar().unwrap()
}

#[test]
fn gradients_agree_with_finite_differences() {
    // The last one is wider than the block of a feature matrix that is in memory at once.
    for dims in [[6, 5], [16, 33], [8, 1500]] {
        let (zs, direction) = (random("embeddings", &dims), random("direction", &dims));
        for (name, loss) in losses() {
            let var = Var::from_tensor(&zs).unwrap();
            let gradient = loss(var.as_tensor()).backward().unwrap().remove(&var).unwrap();
            let slope = scalar(&(gradient * &direction).unwrap().sum_all().unwrap());
            let moved = |by: f64| scalar(&loss(&(&zs + (&direction * by).unwrap()).unwrap()));
            // Central differences have errors from curvature, and from rounding in sums of up to two million terms.
            let want = (moved(STEP) - moved(-STEP)) / (2.0 * STEP);
            let allowed = 1e-6 * want.abs() + 1e-13 * moved(0.0).abs() / STEP;
            assert!((slope - want).abs() < allowed, "{name} {dims:?}: {slope} {want} ({allowed:e})");
        }
    }
}

/// Four rows whose columns have mean 0, norm 2 and no correlation.
fn independent() -> Tensor {
    let rows = [[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0f64]];
    Tensor::new(&rows, &Device::Cpu).unwrap()
}

fn twice(z: &Tensor) -> Tensor {
    Tensor::cat(&[z, z], 0).unwrap()
}

#[test]
fn barlow_twins_has_its_closed_forms() {
    // Independent features, equal in both views: C is the identity matrix, except for ε.
    let term = barlow_twins(&twice(&independent()), 0.005, &SingleProcess).unwrap();
    assert!(scalar(&term.loss) < 1e-9, "{}", term.loss);
    // The same feature three times: all entries of C are 1.
    let same = independent().narrow(1, 0, 1).unwrap().repeat((1, 3)).unwrap();
    let term = barlow_twins(&twice(&same), 0.005, &SingleProcess).unwrap();
    assert!((scalar(&term.loss) - 6.0 * 0.005).abs() < 1e-6);
    assert_eq!(term.metrics.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["on_diagonal", "off_diagonal"]);
    assert!((scalar(&term.metrics[1].1) - 6.0).abs() < 1e-3);
    // Unrelated views: the diagonal of C is 0.
    let (z1, z2) = (independent().narrow(1, 0, 1).unwrap(), independent().narrow(1, 1, 1).unwrap());
    let term = barlow_twins(&Tensor::cat(&[z1, z2], 0).unwrap(), 0.005, &SingleProcess).unwrap();
    assert!((scalar(&term.loss) - 1.0).abs() < 1e-12);
}

#[test]
fn vicreg_has_its_closed_forms() {
    // Equal rows: no covariance, and standard deviations of √1e-4.
    let alike = Tensor::ones((8, 3), DType::F64, &Device::Cpu).unwrap();
    let term = vicreg(&alike, WEIGHTS, &SingleProcess).unwrap();
    assert!((scalar(&term.loss) - 25.0 * 0.99).abs() < 1e-12);
    assert_eq!((term.metrics[0].0.as_str(), scalar(&term.metrics[0].1)), ("invariance", 0.0));
    // Independent features with a standard deviation above 1: only the distance of the views remains.
    let apart = Tensor::cat(&[&independent(), &(independent() + 2.0).unwrap()], 0).unwrap();
    assert!((scalar(&vicreg(&apart, WEIGHTS, &SingleProcess).unwrap().loss) - 25.0 * 4.0).abs() < 1e-12);
    // The same feature three times: each of the six covariances is 4/3, in both views.
    let same = independent().narrow(1, 0, 1).unwrap().repeat((1, 3)).unwrap();
    let term = vicreg(&twice(&same), WEIGHTS, &SingleProcess).unwrap();
    assert!((scalar(&term.loss) - 2.0 * 6.0 * (16.0 / 9.0) / 3.0).abs() < 1e-12, "{}", term.loss);
}

#[test]
fn simsiam_has_its_closed_forms_and_stops_gradients() {
    let zs = random("embeddings", &[8, 5]);
    let swapped = Tensor::cat(&[zs.narrow(0, 4, 4).unwrap(), zs.narrow(0, 0, 4).unwrap()], 0).unwrap();
    let loss = |ps: &Tensor| scalar(&simsiam(ps, &zs, &SingleProcess).unwrap());
    assert!((loss(&swapped) + 1.0).abs() < 1e-12);
    assert!((loss(&swapped.neg().unwrap()) - 1.0).abs() < 1e-12);
    assert!((loss(&(&swapped * 7.0).unwrap()) + 1.0).abs() < 1e-12, "lengths do not count");
    let (ps, zs) = (Var::from_tensor(&random("predictions", &[8, 5])).unwrap(), Var::from_tensor(&zs).unwrap());
    let gradients = simsiam(&ps, &zs, &SingleProcess).unwrap().backward().unwrap();
    assert!(gradients.get(&ps).is_some() && gradients.get(&zs).is_none());
}

#[test]
fn byol_and_moco_v3_have_their_closed_forms_and_stop_gradients() {
    let ms = random("targets", &[8, 5]);
    let of = |qs: &Tensor| scalar(&byol(qs, &ms, &SingleProcess).unwrap());
    assert!(of(&(&ms * 3.0).unwrap()).abs() < 1e-12 && (of(&ms.neg().unwrap()) - 8.0).abs() < 1e-12);
    // Orthogonal keys that equal their queries: ctr = 2T·log(1 + (N − 1)·e^(−1/T)).
    let ks = (Tensor::eye(4, DType::F64, &Device::Cpu).unwrap() * 5.0).unwrap();
    let got = scalar(&contrast(&ks, &ks, 0.5, &SingleProcess).unwrap());
    assert!((got - (1.0 + 3.0 * (-2.0f64).exp()).ln()).abs() < 1e-12, "{got}");
    // Equal keys: log N.
    let alike = Tensor::ones((4, 3), DType::F64, &Device::Cpu).unwrap();
    let got = scalar(&contrast(&random("queries", &[4, 3]), &alike, 0.5, &SingleProcess).unwrap());
    assert!((got - 4f64.ln()).abs() < 1e-12, "{got}");
    let (qs, ms) = (Var::from_tensor(&random("q", &[8, 5])).unwrap(), Var::from_tensor(&ms).unwrap());
    for loss in [byol(&qs, &ms, &SingleProcess), contrast(&qs, &ms, 0.2, &SingleProcess)] {
        let gradients = loss.unwrap().backward().unwrap();
        assert!(gradients.get(&qs).is_some() && gradients.get(&ms).is_none());
    }
    assert!(
        contrast(&random("q", &[3, 5]), &ms, 0.2, &SingleProcess).is_err_and(|e| e.to_string().contains("got 8 rows"))
    );
}

#[test]
fn a_collapse_shows_in_how_spread_out_embeddings_are() {
    let of = |zs: &Tensor| -> Vec<f64> {
        let metrics = spread(zs, &SingleProcess).unwrap();
        read(&metrics.iter().map(|(_, scalar)| scalar).collect::<Vec<_>>()).unwrap()
    };
    // Independent features of equal norm fill all directions.
    let (all, one) = (of(&independent()), of(&Tensor::ones((8, 3), DType::F64, &Device::Cpu).unwrap()));
    assert!((all[0] - 3f64.sqrt().recip()).abs() < 1e-6 && (all[1] - 3.0).abs() < 1e-5, "{all:?}");
    assert!(one[0] < 1e-6 && one[1] < 1.0 + 1e-6, "{one:?}");
    // Two opposite points: one direction.
    let line = Tensor::new(&[[1.0, 2.0f64], [-1.0, -2.0], [2.0, 4.0], [-3.0, -6.0]], &Device::Cpu).unwrap();
    assert!((of(&line)[1] - 1.0).abs() < 1e-5);
}

#[test]
fn views_and_pairs_may_change_places() {
    let zs = random("embeddings", &[12, 7]);
    let order = |rows: &[u32]| zs.index_select(&Tensor::new(rows, &Device::Cpu).unwrap(), 0).unwrap();
    let swapped = order(&[6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5]);
    let shuffled = order(&[2, 5, 0, 1, 4, 3, 8, 11, 6, 7, 10, 9]);
    for (name, loss) in losses().into_iter().filter(|(name, _)| !AGAINST_TARGETS.contains(name)) {
        let want = scalar(&loss(&zs));
        for other in [&swapped, &shuffled] {
            assert!((scalar(&loss(other)) - want).abs() < 1e-12 * want.abs().max(1.0), "{name}");
        }
    }
    let longer = (&zs
        * Tensor::from_vec((1..=12).map(f64::from).collect(), (12, 1), &Device::Cpu)
            .unwrap()
            .broadcast_as((12, 7))
            .unwrap())
    .unwrap();
    let (want, got) = (nt_xent(&zs, 0.3, &SingleProcess).unwrap(), nt_xent(&longer, 0.3, &SingleProcess).unwrap());
    assert!((scalar(&want) - scalar(&got)).abs() < 1e-12, "lengths of rows do not count");
}

#[test]
fn rows_that_are_no_pairs_are_refused() {
    for rows in [0, 3] {
        let zs = Tensor::zeros((rows, 4), DType::F64, &Device::Cpu).unwrap();
        assert!(barlow_twins(&zs, 0.005, &SingleProcess).is_err_and(|e| e.to_string().contains("rows")));
        assert!(vicreg(&zs, WEIGHTS, &SingleProcess).is_err_and(|e| e.to_string().contains("rows")));
    }
    let one = random("one", &[2, 4]);
    assert!(barlow_twins(&one, 0.005, &SingleProcess).is_err_and(|e| e.to_string().contains("at least 2 images")));
    assert!(vicreg(&one, WEIGHTS, &SingleProcess).is_err_and(|e| e.to_string().contains("at least 2 images")));
}
