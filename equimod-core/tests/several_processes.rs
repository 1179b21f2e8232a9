//! N processes compute the same as one process with the whole batch, over several steps; they are threads here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;
mod ranks;
mod threads;

use std::sync::Arc;
use std::time::Duration;

use candle_core::DType;
use common::parts::{self, EQUIMOD, MODULES, OBJECTIVES};
use equimod_core::{RankThreads, SingleProcess, run_ranks};
use ranks::{Case, Found, NARROW, Tolerances, WIDE, distance};
use threads::Threads;

/// Largest distance of the gradients of several ranks in f32 to those in f64, in multiples of that of one process.
const ROUNDING: f64 = 2.0;

/// Compares a case on several numbers of ranks to one process; returns whether the method exists.
fn compare(case: Case, numbers: &[usize], tolerances: Tolerances) -> bool {
    let Some(reference) = case.run(SingleProcess::shared()).unwrap() else { return false };
    for &ranks in numbers {
        let group = RankThreads { ranks, threads: 1, timeout: Duration::from_secs(120) };
        let found = run_ranks(group, move |collective| case.run(collective)).unwrap();
        for (rank, found) in found.iter().enumerate() {
            let found = found.as_ref().unwrap();
            let (off, name) = distance(&format!("{case:?}"), &reference, found, tolerances);
            assert!(off <= 1.0, "{case:?}, rank {rank} of {ranks}: {name} is off by {off:.1} times what is allowed");
        }
    }
    true
}

/// Relative distance (L2, over all parameters) of the gradients of the first step to `exact` ones.
fn rounding(exact: &Found, found: &Found) -> f64 {
    let first = |(name, _): &&(String, Vec<f64>)| name.starts_with("gradient 0 ");
    let (mut off, mut all) = (0.0, 0.0);
    for ((name, exact), (other, found)) in exact.iter().filter(first).zip(found.iter().filter(first)) {
        assert_eq!((name, exact.len()), (other, found.len()));
        off += exact.iter().zip(found).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
        all += exact.iter().map(|value| value.powi(2)).sum::<f64>();
    }
    assert!(all > 0.0);
    (off / all).sqrt()
}

/// Compares the rounding errors of gradients in f32 of two ranks to those of one process.
fn compare_rounding(case: Case) {
    let Some(exact) = case.run(SingleProcess::shared()).unwrap() else { return };
    let case = Case { dtype: DType::F32, ..case };
    let alone = rounding(&exact, &case.run(SingleProcess::shared()).unwrap().unwrap());
    let group = RankThreads { ranks: 2, threads: 1, timeout: Duration::from_secs(120) };
    let found = run_ranks(group, move |collective| case.run(collective)).unwrap();
    let of_ranks = rounding(&exact, found[0].as_ref().unwrap());
    assert!(of_ranks <= ROUNDING * alone.max(1e-6), "{case:?}: off by {of_ranks:.1e}, one process by {alone:.1e}");
}

/// Every objective with every module that supports it.
fn all() -> impl Iterator<Item = Case> {
    let modules = ["{}", EQUIMOD].into_iter().chain(MODULES);
    let cases = OBJECTIVES
        .into_iter()
        .flat_map(move |objective| modules.clone().map(move |modules| Case::new(objective, modules)));
    // Without an objective there is nothing to train but a module.
    cases.filter(|case| !(case.objective.contains("none") && case.modules == "{}"))
}

#[test]
fn several_ranks_equal_one_process_in_f64() {
    parts::assert_complete();
    let compared = all().filter(|case| compare(*case, &[2, 3, 4], WIDE)).count();
    assert!(compared > 50, "{compared} methods");
}

#[test]
fn several_ranks_equal_one_process_in_f32() {
    for case in all().filter(|case| case.modules == EQUIMOD || case.objective == OBJECTIVES[1]) {
        compare(Case { dtype: DType::F32, ..case }, &[2, 3], NARROW);
        compare_rounding(case);
    }
}

#[test]
fn recomputation_and_parts_equal_one_process() {
    for modules in [EQUIMOD, MODULES[2], MODULES[3]] {
        for objective in [OBJECTIVES[0], OBJECTIVES[1]] {
            let case = Case::new(objective, modules);
            assert!(compare(Case { recompute: true, ..case }, &[2], WIDE));
            assert!(compare(Case { parts: 2, ..case }, &[2, 4], WIDE));
        }
    }
}

/// Sums in another order in every call, as the contract allows.
#[test]
fn the_order_of_sums_does_not_matter() {
    let with_byol = MODULES.map(|modules| Case::new(OBJECTIVES[1], modules));
    for case in OBJECTIVES.map(|objective| Case::new(objective, EQUIMOD)).into_iter().chain(with_byol) {
        let reference = case.run(SingleProcess::shared()).unwrap().unwrap();
        for size in [2, 3] {
            for found in Threads::run(size, |collective| case.run(Arc::new(collective)).unwrap().unwrap()) {
                let (off, name) = distance(&format!("{case:?}"), &reference, &found, WIDE);
                assert!(off <= 1.0, "{case:?}, {size} ranks: {name} is off by {off:.1} times what is allowed");
            }
        }
    }
}
