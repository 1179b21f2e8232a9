//! Every rule of the verdict, at both sides.
#![allow(clippy::unwrap_used, missing_docs)]

use equimod_eval::ResultRow;
use equimod_eval::results::{
    AT_AN_END, EFFECTIVE_RANK, FEW_SHOT, FEW_STEPS, NORMALIZED_STD, NOT_CONFIRMED, OTHER_EPOCHS, OVER_TWO, POOLED_R2,
    Paired, R2, SUITE_MEAN,
};
use equimod_eval::study::paired_t;
use equimod_eval::verdict::{
    Advice, COLLAPSED_RANK, FALLING, FEW_DIMENSIONS, MOST_SENTENCES, NARROWER, READABLE, SHORT_RUN, TELLS_APART,
    TrainingFacts, VERY_SHORT, Verdict, WIDE, of_evaluation, of_trainings, verdict,
};

fn accuracy(value: f64, interval: (f64, f64), untrained: Option<f64>) -> ResultRow {
    ResultRow {
        protocol: "logistic".into(),
        task: "category".into(),
        metric: "top-1 accuracy".into(),
        value,
        interval: Some(interval),
        untrained,
        chance: Some(0.1),
        ..ResultRow::default()
    }
}

fn equivariance(interval: (f64, f64), control: f64) -> Vec<ResultRow> {
    let row = |metric: &str, value: f64, interval| ResultRow {
        protocol: "equivariance".into(),
        task: "equimod".into(),
        metric: metric.into(),
        value,
        interval,
        ..ResultRow::default()
    };
    let middle = (interval.0 + interval.1) / 2.0;
    let control = row("absolute equivariance, shuffled parameters", control, None);
    vec![row("absolute equivariance", middle, Some(interval)), control]
}

fn has(verdict: &Verdict, text: &str) -> bool {
    verdict.sentences.iter().any(|sentence| sentence.contains(text))
}

fn long() -> TrainingFacts {
    TrainingFacts { steps: 10 * SHORT_RUN, warmup_steps: 10, ..TrainingFacts::default() }
}

#[test]
fn features_gain_lose_or_stay() {
    let of = |interval, untrained| verdict(&[accuracy(0.875, interval, Some(untrained))], None);
    assert!(has(&of((0.80, 0.94), 0.79), "gained by training in top-1 accuracy: +8.5 points"));
    assert!(has(&of((0.80, 0.94), 0.80), "neither gained nor lost"));
    assert!(has(&of((0.80, 0.94), 0.94), "neither gained nor lost"));
    let lost = of((0.80, 0.94), 0.962);
    assert!(has(&lost, "lost by training in top-1 accuracy: ") && has(&lost, "87.5 % against 96.2 %"), "{lost:?}");
    assert!(has(&lost, "-8.7 points"), "{lost:?}");
    let rows = [accuracy(0.5, (0.45, 0.55), Some(0.3)), accuracy(0.5, (0.45, 0.55), Some(0.5))];
    assert!(has(&verdict(&rows, None), "gained by training in 1 of 2 accuracies, by up to +20.0"));
    // A larger difference within its interval is no gain, and a predictor says nothing about features.
    let within = [accuracy(0.5, (0.45, 0.55), Some(0.4)), accuracy(0.5, (0.2, 0.8), Some(0.3))];
    assert!(has(&verdict(&within, None), "in 1 of 2 accuracies, by up to +10.0 points"));
    let predictor = ResultRow {
        protocol: "retrieval by the predictor".into(),
        metric: "H@1".into(),
        ..accuracy(0.5, (0.45, 0.55), Some(0.1))
    };
    assert!(!has(&verdict(&[predictor], None), "gained"));
    let mixed = [accuracy(0.9, (0.8, 0.95), Some(0.7)), accuracy(0.5, (0.4, 0.6), Some(0.7))];
    let text = "lost by training in 1 of 2 accuracies and gained in 1, by up to +20.0 points: top-1 accuracy of category \
                (logistic) is 50.0 % against 70.0 % of the untrained network, -20.0 points.";
    assert!(has(&verdict(&mixed, None), text), "{:?}", verdict(&mixed, None));
    assert!(verdict(&[], None).sentences.is_empty());
}

#[test]
fn the_baseline_is_better_worse_or_not_clearly_different() {
    let row = |interval, baseline| ResultRow { baseline: Some(baseline), ..accuracy(0.5, interval, None) };
    let of = |rows: &[ResultRow]| verdict(rows, Some(&long()));
    let better = of(&[row((0.45, 0.55), 0.44), row((0.45, 0.55), 0.45), row((0.45, 0.55), 0.40)]);
    let text = "of 3 accuracies: higher in 2 (+10.0 points on category, logistic), no clear difference in 1.";
    assert!(has(&better, text), "{better:?}");
    assert_eq!(better.advice, Some(Advice::RepeatWithSeed));
    let worse = of(&[row((0.45, 0.55), 0.56), row((0.45, 0.55), 0.55)]);
    assert!(has(&worse, "of 2 accuracies: lower in 1 (-6.0 points on category, logistic), no clear"), "{worse:?}");
    let open = of(&[row((0.45, 0.55), 0.5)]);
    assert!(has(&open, "Against the baseline") && has(&open, "there is no clear difference (0.0 points)."), "{open:?}");
    // Nothing trained the baseline's predictor.
    let predicted = ResultRow { protocol: "retrieval by the predictor".into(), ..row((0.45, 0.55), 0.1) };
    assert!(!has(&of(&[predicted]), "Against the baseline"));
    let only = of(&[row((0.45, 0.55), 0.6)]);
    let text = "with this one seed, top-1 accuracy is lower (-10.0 points on category, logistic).";
    assert!(has(&only, text), "{only:?}");
    let none = of(&[accuracy(0.5, (0.45, 0.55), None)]);
    assert!(!has(&none, "baseline") && none.advice != Some(Advice::RepeatWithSeed));
}

#[test]
fn predictions_beat_copying_and_their_control_or_not() {
    let of = |interval, control| verdict(&equivariance(interval, control), None);
    assert!(has(&of((0.1, 0.3), 0.05), "closer to the views"));
    assert!(has(&of((0.1, 0.3), 0.1), "do not use the parameters"));
    assert!(has(&of((0.0, 0.3), -0.5), "no closer to the views"));
    assert!(has(&of((-0.9, 0.0), -1.0), "no closer to the views"));
    assert_eq!(of((0.1, 0.3), 0.05).advice, None);
    assert_eq!(of((-0.9, 0.0), -1.0).advice, Some(Advice::TrainLonger));
    assert!(has(&of((-0.9, -0.1), -1.0), "copying the image would be better"));
    // Training has other statistics; its values say something where they contradict.
    let trained = |name: &str, value, interval| {
        let facts = TrainingFacts { equivariance: vec![(name.into(), value)], ..long() };
        verdict(&equivariance(interval, -1.0), Some(&facts))
    };
    let with = |of: &Verdict| has(of, "; +0.250 in training, with the statistics of each batch): copying");
    assert!(with(&trained("equimod", 0.25, (-0.9, -0.1))) && !with(&trained("other", 0.25, (-0.9, -0.1))));
    assert!(has(&trained("equimod", 0.25, (-0.1, 0.1)), "in training") && !has(&of((-0.1, 0.1), -1.0), "in training"));
    assert!(!has(&trained("equimod", 0.25, (0.1, 0.3)), "in training"));
    assert!(!has(&trained("equimod", 0.0, (-0.9, -0.1)), "in training"));
    // Measures of one augmentation alone do not decide.
    let mut alone = equivariance((-0.9, -0.1), -1.0);
    alone.iter_mut().for_each(|row| row.task = "equimod, hue alone".into());
    assert!(!has(&verdict(&alone, None), "copying the image would be better"));
    // But one that they follow worse than copies is named, and one that they follow only with any parameters.
    let said = |interval, control| {
        let mut rows = equivariance(interval, control);
        rows.iter_mut().for_each(|row| row.task = "equimod, hue alone".into());
        verdict(&rows, None).sentences.first().cloned().unwrap_or_default()
    };
    let uninformed =
        "Alone, hue (equimod) is not predicted clearly better with its own parameters than with wrong ones.";
    assert_eq!(said((0.1, 0.3), 0.1), uninformed);
    assert_eq!(said((-0.1, 0.3), 0.05), uninformed);
    assert_eq!(said((0.1, 0.3), 0.05), "Alone, predictions are best for hue (equimod) 0.200.");
    assert_eq!(said((0.0, 0.3), -0.5), "");
    let worse = "Alone, hue (equimod) is predicted worse than by copying the un-augmented image.";
    assert_eq!((said((-0.9, -0.1), -1.0).as_str(), said((-0.9, 0.0), -1.0)), (worse, String::new()));
}

#[test]
fn a_predictor_that_finds_the_view_is_named() {
    let said = |chance| {
        let row = ResultRow {
            protocol: "retrieval by the predictor".into(),
            task: "equimod".into(),
            metric: "H@1".into(),
            chance: Some(chance),
            ..accuracy(0.5, (0.45, 0.55), Some(0.1))
        };
        verdict(&[row], None).sentences.join(" ")
    };
    let text = "The predictor of equimod tells views apart: it ranks the right one first in 50.0 % (chance 33.0 %, untrained \
                10.0 %).";
    assert!(said(0.33).contains(text) && !said(0.33).contains("not clearly above chance"), "{}", said(0.33));
    assert!(TELLS_APART == 1.5 && said(0.34).contains("equimod hardly tells views apart: it ranks"));
    assert!(!said(0.45).contains("tells views apart") && said(0.45).contains("not clearly above chance"));
}

#[test]
fn paired_differences_decide_where_they_are_known() {
    let side = |interval, p_value| {
        let paired = Some(Paired { interval, p_value });
        // The interval of the value alone contains that of the other network.
        let row = ResultRow { over_untrained: paired, ..accuracy(0.5, (0.4, 0.6), Some(0.45)) };
        verdict(&[row], None).sentences.join(" ")
    };
    assert!(side((0.01, 0.09), None).contains("gained by training in top-1 accuracy: +5.0 points"));
    assert!(side((0.01, 0.09), Some(0.05)).contains("gained by training"));
    let open = side((0.01, 0.09), Some(0.06));
    assert!(
        open.contains("neither gained nor lost by training as far as top-1 accuracy can tell: +5.0 points"),
        "{open}"
    );
    assert!(
        open.contains("are borderline: the interval excludes 0, but McNemar's exact test has p above 0.05."),
        "{open}"
    );
    let around = side((0.0, 0.1), Some(0.01));
    assert!(around.contains("neither gained nor lost") && around.contains("lie within the uncertainty"), "{around}");
    // Without a difference on any image, nothing is said.
    assert!(!side((0.0, 0.0), Some(1.0)).contains("gained"));
    let paired = Some(Paired { interval: (-0.1, -0.01), p_value: None });
    let row = ResultRow { over_baseline: paired, baseline: Some(0.55), ..accuracy(0.5, (0.4, 0.6), None) };
    assert!(has(&verdict(&[row], Some(&long())), "top-1 accuracy is lower (-5.0 points"));
}

#[test]
fn short_unsettled_and_collapsed_runs_are_named() {
    let lost = [accuracy(0.5, (0.4, 0.6), Some(0.7))];
    let gained = [accuracy(0.5, (0.4, 0.6), Some(0.3))];
    let of = |rows: &[ResultRow], facts: TrainingFacts| verdict(rows, Some(&facts));
    let short = |steps| TrainingFacts { steps, ..long() };
    assert!(has(&of(&lost, short(SHORT_RUN - 1)), "The run is short"));
    assert!(!has(&of(&lost, short(SHORT_RUN)), "The run is short"));
    assert!(!has(&of(&gained, short(SHORT_RUN - 1)), "The run is short"));
    assert_eq!(of(&lost, short(SHORT_RUN - 1)).advice, Some(Advice::TrainLonger));
    assert_eq!(of(&lost, long()).advice, None);
    let falling = |decrease| TrainingFacts { still_falling: Some(decrease), ..long() };
    // Where every test image is right, nothing could be gained.
    let paired = Paired { interval: (-0.01, 0.05), p_value: Some(0.5) };
    let whole = |value| ResultRow { over_untrained: Some(paired), ..accuracy(value, (0.9, 1.0), Some(0.98)) };
    assert!(!has(&of(&[whole(1.0)], short(SHORT_RUN - 1)), "short") && has(&of(&[whole(0.99)], short(500)), "short"));
    assert!(has(&of(&lost, falling(FALLING + 1e-3)), "The loss was still 2 % lower in the last fifth"));
    assert!(!has(&of(&lost, falling(FALLING)), "last fifth"));
    let both = TrainingFacts { still_falling: Some(0.5), ..short(100) };
    assert!(has(&of(&gained, both), "under-trained"));
    let warmup = |warmup_steps| TrainingFacts { steps: 100, warmup_steps, ..TrainingFacts::default() };
    assert!(has(&of(&gained, warmup(51)), "too short") && !has(&of(&gained, warmup(50)), "too short"));
    let collapsed = TrainingFacts { collapsed: Some(("embedding_std".into(), 1e-4)), ..long() };
    let verdict = of(&lost, collapsed);
    assert!(verdict.sentences[0].contains("collapsed") && verdict.advice == Some(Advice::LowerRate));
    assert!(!has(&of(&lost, long()), "collapsed"));
    let back = of(&gained, TrainingFacts { unchanged: Some((4.0, 5.5, 3.99)), still_falling: Some(0.1), ..long() });
    let text = "The loss rose from 4.00 to 5.50, and ended at 3.99, hardly lower: the learning rate is too high";
    assert!(has(&back, text) && !has(&back, "under-trained") && back.advice == Some(Advice::FindRate), "{back:?}");
    let risen = of(&gained, TrainingFacts { risen: Some((4.0, 5.5)), ..long() });
    assert!(has(&risen, "The loss rose from 4.00 to 5.50") && risen.advice == Some(Advice::FindRate));
    assert!(!has(&of(&gained, long()), "The loss rose"));
}

#[test]
fn a_loss_that_did_not_fall_is_named() {
    let flat = verdict(&[], Some(&TrainingFacts { flat: Some((4.0, 3.9)), ..long() }));
    assert!(
        has(&flat, "The loss did not clearly fall: it was 4.00 in the first fifth and 3.90 in the last,"),
        "{flat:?}"
    );
    assert_eq!(flat.advice, Some(Advice::FindRate));
}

#[test]
fn an_evaluation_of_a_short_run_says_so() {
    let of = |steps, untrained| {
        let facts = TrainingFacts { steps, ..TrainingFacts::default() };
        of_evaluation(&[accuracy(0.5, (0.45, 0.55), Some(untrained))], Some(&facts))
    };
    // A run that gained is short below 100 steps, and one that did not below 2000.
    assert!(has(&of(VERY_SHORT - 1, 0.3), "The run is short: it has 99 steps.") && !has(&of(VERY_SHORT, 0.3), "short"));
    assert!(has(&of(SHORT_RUN - 1, 0.5), "The run is short: it has 1999 steps.") && !has(&of(SHORT_RUN, 0.5), "short"));
    let collapsed = TrainingFacts { collapsed: Some(("effective_rank".into(), 1.2)), ..TrainingFacts::default() };
    let failed = of_evaluation(&[accuracy(0.5, (0.45, 0.55), None)], Some(&collapsed));
    assert!(has(&failed, "Embeddings collapsed") && !has(&failed, "short"));
}

#[test]
fn what_training_started_from_is_named_beside_gains() {
    let facts = |from: Option<&str>| TrainingFacts { started_from: from.map(str::to_owned), ..long() };
    let said = |from, untrained| verdict(&[accuracy(0.5, (0.45, 0.55), untrained)], Some(&facts(from)));
    let text =
        "Training started from the weights of out/a: differences from the untrained network include what these had.";
    assert!(has(&said(Some("out/a"), Some(0.3)), text));
    assert!(!has(&said(Some("out/a"), None), "started from") && !has(&said(None, Some(0.3)), "started from"));
    assert!(has(&of_evaluation(&[accuracy(0.5, (0.45, 0.55), Some(0.3))], Some(&facts(Some("out/a")))), text));
}

#[test]
fn runs_that_are_compared_are_short_or_not() {
    let run =
        |steps: u64, falling: f64| TrainingFacts { steps, still_falling: Some(falling), ..TrainingFacts::default() };
    let said = |runs: &[TrainingFacts]| {
        let named: Vec<_> = ["a", "b", "c"].map(str::to_owned).into_iter().zip(runs.iter().cloned()).collect();
        of_trainings(&named).unwrap_or_default()
    };
    let (short, long) = (VERY_SHORT - 1, VERY_SHORT);
    let end = "longer training may change the differences.";
    assert_eq!(said(&[run(short, 0.0), run(short, 0.0)]), format!("Both runs are short (99 steps): {end}"));
    assert_eq!(said(&[run(10, 0.0), run(long, 0.0)]), format!("a is short (10 steps): {end}"));
    assert_eq!(said(&[run(1, 0.0), run(9, 0.0), run(5, 0.0)]), format!("All 3 runs are short (1 to 9 steps): {end}"));
    assert_eq!(said(&[run(long, 0.0), run(long, FALLING)]), "");
    // Of one run alone, its name; a short one beside one whose loss still fell.
    assert_eq!(said(&[run(long, FALLING + 0.001)]), format!("a ended while the loss still fell: {end}"));
    let both = said(&[run(10, FALLING + 0.001), run(long, FALLING + 0.001)]);
    assert_eq!(both, format!("a is short (10 steps), and b ended while the loss still fell: {end}"));
    let falling = said(&[run(long, 0.0), run(long, FALLING + 0.001), run(long, FALLING + 0.001)]);
    assert_eq!(falling, format!("b, c ended while the loss still fell: {end}"));
    let failed = TrainingFacts { risen: Some((4.0, 5.0)), ..run(short, 0.0) };
    assert_eq!(said(&[failed.clone(), run(long, 0.0)]), "a failed in training: the loss rose.");
    let collapsed = TrainingFacts { collapsed: Some(("online.embedding_std".into(), 0.01)), ..run(long, 0.0) };
    assert_eq!(said(&[run(long, 0.0), collapsed.clone()]), "b failed in training: embeddings collapsed.");
    let both = "Both runs failed in training: embeddings collapsed, or the loss rose.";
    assert_eq!(said(&[failed.clone(), collapsed]), both);
    let many = [vec![(String::from("d"), run(long, 0.0))], vec![(String::from("e"), failed); 4]].concat();
    assert!(of_trainings(&many).unwrap().starts_with("4 of 5 runs failed in training"));
    let open = TrainingFacts { unfinished: Some("interrupted".into()), ..run(short, 0.0) };
    let text = "a was not finished: the differences say nothing of finished ones.";
    assert_eq!(said(&[open.clone(), run(short, 0.0)]), text);
    // A run that is not finished is not called short or under-trained.
    let alone = of_evaluation(&[accuracy(0.5, (0.4, 0.6), Some(0.7))], Some(&open));
    assert!(has(&alone, "The run was not finished (interrupted): it has 99 steps.") && !has(&alone, "short"));
}

#[test]
fn a_clear_difference_on_held_out_images_depends_on_their_draw() {
    let of = |interval, detail: &str| {
        let over_untrained = Some(Paired { interval, p_value: None });
        let row = ResultRow { over_untrained, detail: detail.into(), ..accuracy(0.5, (0.4, 0.6), Some(0.3)) };
        verdict(&[row], None)
    };
    let text = "The test images were drawn from the training images: intervals do not cover the draw";
    assert!(has(&of((0.1, 0.3), "L-BFGS; 70 held-out images of 5 classes"), text));
    for (interval, detail) in [((-0.1, 0.3), "70 held-out images"), ((0.1, 0.3), "70 test images")] {
        assert!(!has(&of(interval, detail), text), "{detail}");
    }
    let compared = |low: f64| {
        let model = |name: &str| ResultRow {
            model: name.into(),
            detail: "70 held-out images".into(),
            ..accuracy(0.5, (0.4, 0.6), None)
        };
        let difference = ResultRow {
            model: "b − a".into(),
            metric: "difference of top-1 accuracy".into(),
            chance: None,
            ..accuracy(0.1, (low, 0.2), None)
        };
        verdict(&[model("a"), model("b"), difference], None)
    };
    assert!(has(&compared(0.05), text) && !has(&compared(-0.05), text));
}

#[test]
fn a_baseline_that_failed_is_named_and_asks_for_a_lower_rate() {
    let row = ResultRow { baseline: Some(0.3), ..accuracy(0.5, (0.4, 0.6), Some(0.3)) };
    let of = |baseline_failure| TrainingFacts { steps: SHORT_RUN, baseline_failure, ..TrainingFacts::default() };
    let (failed, sound) = (of(Some("the loss rose")), of(None));
    let text = "The baseline failed in training, because the loss rose: differences from it say little of the module.";
    let found = verdict(std::slice::from_ref(&row), Some(&failed));
    assert!(has(&found, text) && found.advice == Some(Advice::LowerRate), "{found:?}");
    assert!(has(&of_evaluation(std::slice::from_ref(&row), Some(&failed)), text));
    let found = verdict(std::slice::from_ref(&row), Some(&sound));
    assert!(!has(&found, "failed in training") && found.advice == Some(Advice::RepeatWithSeed), "{found:?}");
    // Without a number of the baseline, there is nothing to say.
    assert!(!has(&verdict(&[ResultRow { baseline: None, ..row }], Some(&failed)), "failed in training"));
}

#[test]
fn a_suite_names_the_model_that_leads() {
    let row = |model: &str, task: &str, metric: &str, value: f64| ResultRow {
        model: model.into(),
        protocol: if metric == SUITE_MEAN { "transfer" } else { "logistic" }.into(),
        task: task.into(),
        metric: metric.into(),
        value,
        ..ResultRow::default()
    };
    let rows = [
        row("a", "birds", "top-1 accuracy", 0.5),
        row("a", "cars", "top-1 accuracy", 0.75),
        ResultRow { interval: Some((0.55, 0.7)), ..row("b", "birds", "top-1 accuracy", 0.625) },
        row("b", "cars", "top-1 accuracy", 0.7),
        row("a", "2 tasks", SUITE_MEAN, 0.625),
        row("b", "2 tasks", SUITE_MEAN, 0.665),
    ];
    let text = "By the mean over 2 tasks, b is 4.0 points above a (66.5 % and 62.5 %), and higher in 1 of 2; in 1 of them, its \
                whole interval lies above the other value, but no paired test was made.";
    assert_eq!(verdict(&rows, None).sentences, [text]);
    let mut unclear = rows.to_vec();
    unclear[2].interval = Some((0.5, 0.7));
    assert!(has(
        &verdict(&unclear, None),
        "higher in 1 of 2; in none of them, its whole interval lies above the other value."
    ));
    unclear[2].interval = Some((0.625, 0.625));
    assert!(has(
        &verdict(&unclear, None),
        "higher in 1 of 2; in none of them, its whole interval lies above the other value."
    ));
    let with_untrained = [rows.to_vec(), vec![row("a untrained", "2 tasks", SUITE_MEAN, 0.5)]].concat();
    assert!(has(&verdict(&with_untrained, None), "; a minus its untrained network is +12.5 points."));
    // Of one model, there is only its mean.
    assert!(has(&verdict(&rows[..5], None), "The mean over 2 tasks is 62.5 %; what training has to do"));
}

#[test]
fn chance_and_ends_of_ranges_are_named() {
    assert!(has(&verdict(&[accuracy(0.12, (0.1, 0.14), None)], None), "not clearly above chance"));
    assert!(!has(&verdict(&[accuracy(0.12, (0.101, 0.14), None)], None), "not clearly above chance"));
    assert!(has(&verdict(&[accuracy(0.12, (0.101, 0.14), None)], None), "Top-1 accuracy lies clearly above chance"));
    assert!(!has(&verdict(&[accuracy(0.12, (0.101, 0.14), Some(0.1))], None), "above chance"));
    let low = |task: &str| ResultRow { task: task.into(), ..accuracy(0.12, (0.1, 0.14), None) };
    let three = verdict(&[low("kind"), low("size"), low("color")], None);
    assert!(has(&three, "of kind (logistic) and 2 more are not clearly above chance"), "{three:?}");
    let mut row = accuracy(0.5, (0.4, 0.6), Some(0.3));
    row.chosen = Some(format!("w 1e-2, {AT_AN_END}"));
    let at_end = verdict(std::slice::from_ref(&row), Some(&long()));
    assert!(has(&at_end, "at an end of the range") && at_end.advice == Some(Advice::WidenRange));
    let other = ResultRow { task: "size".into(), ..row.clone() };
    // It stands beside the gain that it qualifies.
    let gained = [row.clone(), accuracy(0.1, (0.05, 0.14), Some(0.1))];
    assert!(verdict(&gained, Some(&long())).sentences[1].contains("at an end of the range"));
    // Nothing is wider than the whole range.
    for (strengths, wider) in [(4, true), (45, false)] {
        let chosen = Some(format!("w 1e-6, the best of {strengths} on 9 images: 50.0 %, {AT_AN_END}"));
        assert_eq!(has(&verdict(&[ResultRow { chosen, ..row.clone() }], None), "a wider range may do better"), wider);
    }
    let both = verdict(&[row.clone(), row.clone(), other], Some(&long()));
    assert!(has(&both, "strengths of category, size are at an end"), "{both:?}");
    row.chosen = Some("w 1e-1".into());
    assert_eq!(verdict(&[row], Some(&long())).advice, None);
    // One model without the untrained network.
    assert_eq!(verdict(&[accuracy(0.5, (0.4, 0.6), None)], None).advice, Some(Advice::EvaluateUntrained));
    let flag = ResultRow { interval: None, ..accuracy(0.5, (0.4, 0.6), Some(0.4)) };
    assert_eq!(verdict(&[flag], None).advice, None);
    assert_eq!(verdict(&[accuracy(0.5, (0.4, 0.6), Some(0.3))], None).advice, None);
}

#[test]
fn a_small_test_set_is_named() {
    let of = |half: f64| verdict(&[accuracy(0.5, (0.5 - half, 0.5 + half), Some(0.2))], None);
    assert!(has(&of(0.01 * WIDE + 1e-3), "The test set is small: intervals reach up to ±13 points"));
    assert!(!has(&of(0.01 * WIDE - 1e-3), "small"));
    // An interval over seeds says nothing about the size of the test set.
    let seeds = ResultRow { metric: "difference of top-1 accuracy".into(), ..accuracy(0.0, (-1.2, 1.2), None) };
    assert!(!has(&verdict(&[seeds], None), "small"));
    // All images predicted as one class: the mean over classes is certain, too.
    let constant = ResultRow { metric: "mean per class accuracy".into(), ..accuracy(0.25, (0.25, 0.25), None) };
    assert!(!has(&verdict(&[constant], None), "width"));
    let certain = |value: f64| verdict(&[accuracy(value, (value, value), None)], None);
    assert!(has(&certain(1.0), "has no width, because every test image is right"));
    assert!(has(&certain(0.0), "has no width, because no test image is right"));
    assert!(!has(&of(0.01), "width"));
}

#[test]
fn where_every_image_is_right_few_labels_are_the_next_question() {
    let of = |value: f64| verdict(&[accuracy(value, (value, value), Some(0.9))], Some(&long())).advice;
    assert_eq!([of(1.0), of(0.999)], [Some(Advice::EvaluateFewShot), None]);
    let compared = |second: f64| {
        let model = |name: &str, value| ResultRow { model: name.into(), ..accuracy(value, (value, value), None) };
        let difference = ResultRow {
            model: "b − a".into(),
            metric: "difference of top-1 accuracy".into(),
            chance: None,
            ..accuracy(second - 1.0, (second - 1.0, 0.0), None)
        };
        verdict(&[model("a", 1.0), model("b", second), difference], None)
    };
    let text = "No difference on category, because every test image is right for all models: only more or harder images \
                can show one.";
    assert!(has(&compared(1.0), text) && has(&compared(0.99), "No clear difference on category (-1.0 points)."));
}

#[test]
fn a_linear_layer_with_other_epochs_is_named() {
    let of = |detail: String| {
        let row = ResultRow { protocol: "linear".into(), detail, ..accuracy(0.5, (0.4, 0.6), Some(0.2)) };
        verdict(&[row], None)
    };
    let tuned = ResultRow {
        protocol: "finetune".into(),
        detail: format!("3 epochs ({OTHER_EPOCHS})"),
        ..accuracy(0.5, (0.4, 0.6), Some(0.2))
    };
    assert!(has(&verdict(&[tuned], None), "The fine-tuned network of category was not trained for the published"));
    let text = "The linear layer of category was not trained for the published number of epochs";
    assert!(has(&of(format!("2 epochs ({OTHER_EPOCHS})")), text) && !has(&of("90 epochs".into()), text));
}

#[test]
fn a_linear_layer_with_few_steps_is_named_and_leads_to_logistic_regression() {
    let of = |detail: String| {
        let row = ResultRow { protocol: "linear".into(), detail, ..accuracy(0.5, (0.4, 0.6), Some(0.2)) };
        verdict(&[row], None)
    };
    let few = of(format!("SGD, 90 epochs of batches of 256 (270 {FEW_STEPS}), crops"));
    assert!(has(&few, "Features gained by training"));
    assert!(has(
        &few,
        "The linear layer of category had only 270 steps, too few to converge: a higher accuracy may be"
    ));
    let whole = of("SGD, 90 epochs of batches of 256, crops".into());
    assert!(!has(&whole, "The linear layer of category had only"));
    assert_eq!([few.advice, whole.advice], [Some(Advice::FitToOptimum), None]);
}

#[test]
fn an_interval_without_width_names_the_networks_beside_it() {
    let row = ResultRow { baseline: Some(1.0), metric: "recall@1".into(), ..accuracy(1.0, (1.0, 1.0), Some(0.9)) };
    let text = "only more or harder images can show a difference from the untrained network (90.0 %) and the baseline \
                (100.0 %).";
    assert!(has(&verdict(std::slice::from_ref(&row), None), text));
    // A difference that is clear nevertheless is none that only other images can show.
    let paired = |low| Some(Paired { interval: (low, 0.2), p_value: Some(0.01) });
    let clear = ResultRow { over_untrained: paired(0.01), ..row.clone() };
    assert!(has(&verdict(std::slice::from_ref(&clear), None), "can show a difference from the baseline (100.0 %)."));
    let both = ResultRow { over_baseline: paired(0.01), ..clear };
    assert!(!has(&verdict(&[both], None), "has no width"));
    assert!(has(&verdict(&[ResultRow { over_untrained: paired(0.0), ..row }], None), text));
}

#[test]
fn comparisons_name_what_differs_and_what_does_not() {
    let difference = |task: &str, value: f64, interval| ResultRow {
        model: "equimod − simclr".into(),
        task: task.into(),
        metric: "difference of top-1 accuracy".into(),
        chance: None,
        ..accuracy(value, interval, None)
    };
    let rows = [
        difference("birds", 0.02, (0.001, 0.04)),
        difference("cars", 0.02, (0.0, 0.04)),
        difference("flowers", -0.03, (-0.04, -0.01)),
    ];
    let unconfirmed = ResultRow { detail: format!("p = 0.051, {NOT_CONFIRMED}"), ..rows[0].clone() };
    let borderline = verdict(&[unconfirmed], None);
    let text = "Borderline on birds (+2.0 points): the interval excludes 0, but McNemar's exact test has p above 0.05.";
    assert_eq!(borderline.sentences, [text]);
    let of_two = ResultRow { detail: format!("{OVER_TWO} (Student's t)"), ..rows[1].clone() };
    // Two and three differences with a standard deviation of 1.
    let width = |differences: &[f64]| paired_t(differences).map(|t| t.interval.1 - t.interval.0).unwrap();
    let ratio = width(&[-0.5f64.sqrt(), 0.5f64.sqrt()]) / width(&[-1.0, 0.0, 1.0]);
    let text = &format!("a third makes it {ratio:.1} times narrower.");
    assert!(has(&verdict(&[of_two], None), text) && !has(&verdict(&rows, None), text));
    let verdict = verdict(&rows, None);
    assert_eq!(
        verdict.sentences,
        [
            "equimod is better than simclr on birds (+2.0 points); simclr is better than equimod on flowers (+3.0 points); \
          no clear difference on cars (+2.0 points)."
        ]
    );
    assert_eq!(verdict.advice, None);
}

#[test]
fn the_effective_rank_tells_whether_features_collapsed() {
    let of = |value: f64, untrained| {
        let rank = ResultRow {
            protocol: "health".into(),
            metric: EFFECTIVE_RANK.into(),
            value,
            untrained,
            ..ResultRow::default()
        };
        verdict(&[rank], None)
    };
    assert!(has(&of(COLLAPSED_RANK, None), "have not collapsed: they use about 2.0 dimensions"));
    assert!(has(&of(COLLAPSED_RANK - 0.01, None), "Features collapsed"));
    assert!(has(&of(31.4, Some(12.0)), "(untrained: 12.0)"));
}

#[test]
fn features_of_few_dimensions_beside_the_untrained_network_are_named() {
    let of = |value: f64| {
        let row = ResultRow { metric: EFFECTIVE_RANK.into(), value, untrained: Some(20.0), ..ResultRow::default() };
        verdict(&[row], None).sentences[0].clone()
    };
    assert!(
        of(20.0 * FEW_DIMENSIONS - 0.1)
            .contains("but use few dimensions: their effective rank is 4.9, and 20.0 before")
    );
    assert!(
        of(20.0 * FEW_DIMENSIONS).contains("they use about 5.0 dimensions, their effective rank (untrained: 20.0)")
    );
    let row = ResultRow {
        metric: EFFECTIVE_RANK.into(),
        value: 9.0,
        untrained: Some(10.0),
        baseline: Some(8.0),
        ..ResultRow::default()
    };
    let text = "they use about 9.0 dimensions, their effective rank (untrained: 10.0, baseline: 8.0)";
    assert!(has(&verdict(&[row], None), text));
}

#[test]
fn features_that_lie_closer_together_than_before_training_are_named() {
    let of = |value: f64| {
        let row = |metric: &str, value, untrained| ResultRow {
            metric: metric.into(),
            value,
            untrained: Some(untrained),
            ..ResultRow::default()
        };
        verdict(&[row(EFFECTIVE_RANK, 11.0, 9.0), row(NORMALIZED_STD, value, 0.2)], None)
    };
    assert!(has(&of(0.2 * NARROWER - 1e-6), "closer together than before training"));
    assert!(!has(&of(0.2 * NARROWER + 1e-6), "closer together"));
}

#[test]
fn few_shot_intervals_do_not_speak_for_other_images() {
    let row = |value: f64| ResultRow {
        protocol: format!("{FEW_SHOT}prototype"),
        baseline: Some(0.1),
        ..accuracy(value, (value - 0.004, value + 0.004), Some(0.4))
    };
    let found = verdict(&[row(0.43), row(0.546)], None);
    let text = "Few-shot accuracy minus that of the untrained network is +3.0 to +14.6 points, and minus that of \
                the baseline +33.0 to +44.6 points; intervals are over episodes that share the test images, so other \
                images may say otherwise.";
    assert_eq!(found.sentences, [text]);
    // Of both signs, which is which.
    let one_shot = |value: f64| ResultRow { metric: "1-shot accuracy".into(), ..row(value) };
    assert!(has(
        &verdict(&[one_shot(0.39), row(0.546)], None),
        "-1.0 to +14.6 points (lowest: 1-shot by prototype; highest: "
    ));
    assert!(
        has(&verdict(&[one_shot(0.3999), row(0.546)], None), "untrained network is 0.0 to +14.6 points")
            || has(&verdict(&[one_shot(0.3999), row(0.546)], None), "untrained network is 0.0 to +14.6 points")
    );
    let against_baseline = verdict(&[ResultRow { untrained: None, ..row(0.2) }], None);
    assert!(has(&against_baseline, "minus that of the baseline is +10.0 points, and the untrained network was not"));
    let alone = |value: f64| ResultRow { untrained: None, baseline: None, ..row(value) };
    let found = verdict(&[alone(0.2)], None);
    assert_eq!(found.advice, Some(Advice::EvaluateUntrained));
    assert!(found.sentences.len() == 1 && has(&found, "untrained network was not evaluated"), "{found:?}");
    assert!(has(&verdict(&[alone(0.103)], None), "Few-shot accuracy is not clearly above chance."));
    let found = verdict(&[alone(0.103), alone(0.105)], None);
    assert!(has(&found, "Few-shot accuracy is clearly above chance in 1 of 2 settings only."), "{found:?}");
}

#[test]
fn parameters_can_be_read_off_features_or_not() {
    let row = |protocol: &str, value, untrained| ResultRow {
        protocol: protocol.into(),
        metric: POOLED_R2.into(),
        value,
        untrained,
        ..ResultRow::default()
    };
    let rows = [row("params, absolute", READABLE + 0.01, Some(0.02)), row("params, relative", READABLE - 0.01, None)];
    let hue = ResultRow { metric: R2.into(), task: "hue".into(), ..row("params, absolute", 0.5, None) };
    let rows = [rows.to_vec(), vec![hue]].concat();
    let expected = [
        "Features say a little of how a view was augmented: R² of all parameters 0.06, more than those of the untrained network, 0.02 (1 is perfect, guessing gives 0); \
         best hue 0.50.",
        "Features hardly say how augmentation changed from view to view: R² of all parameters 0.04 (1 is perfect, guessing \
         gives 0).",
    ];
    assert_eq!(verdict(&rows, None).sentences, expected);
    let brightness = ResultRow { metric: R2.into(), task: "brightness".into(), ..row("params, relative", 0.8, None) };
    let little = verdict(&[rows[1].clone(), brightness], None).sentences[0].clone();
    assert!(little.starts_with("On the whole, features hardly say") && little.ends_with("best brightness 0.80."));
    // Against guessing and other networks, the interval decides, and without one a difference of 0.02.
    let said = |value: f64, interval: Option<(f64, f64)>, untrained: f64| {
        let row = ResultRow { interval, baseline: Some(0.5), ..row("params, absolute", value, Some(untrained)) };
        verdict(&[row], None).sentences[0].clone()
    };
    for (value, interval, untrained, part) in [
        (
            0.4,
            Some((0.3, 0.5)),
            0.29,
            "say how a view was augmented: R² of all parameters 0.40 (0.30 to 0.50), more than",
        ),
        (0.4, Some((0.3, 0.5)), 0.31, "0.40 (0.30 to 0.50), about as much as those of the untrained network, 0.31"),
        (
            0.4,
            Some((0.3, 0.5)),
            0.51,
            "less than those of the untrained network, 0.51, about as much as those of the baseline",
        ),
        (0.4, Some((0.01, 0.5)), 0.0, "Features say how"),
        (0.4, Some((-0.01, 0.5)), 0.0, "Features hardly say how"),
        (0.4, None, 0.379, "R² of all parameters 0.40, more than those of the untrained"),
        (0.4, None, 0.381, "R² of all parameters 0.40, about as much as those of the untrained"),
        (0.4, None, 0.381, "less than those of the baseline, 0.50"),
        (
            -0.06,
            Some((-0.2, 0.1)),
            READABLE - 0.01,
            "as little as those of the untrained network, 0.04, less than those",
        ),
    ] {
        let said = said(value, interval, untrained);
        assert!(said.contains(part), "{part} in {said}");
    }
}

#[test]
fn parameters_of_two_networks_are_compared_on_the_same_images() {
    let said = |interval| {
        let row = ResultRow {
            protocol: "params, absolute".into(),
            metric: POOLED_R2.into(),
            value: 0.13,
            interval: Some((0.07, 0.17)),
            baseline: Some(0.06),
            over_baseline: Some(Paired { interval, p_value: None }),
            ..ResultRow::default()
        };
        verdict(&[row], None)
    };
    assert!(has(&said((0.01, 0.12)), "more than those of the baseline, 0.06"));
    assert!(has(&said((-0.01, 0.12)), "about as much as those of the baseline, 0.06"));
}

#[test]
fn a_verdict_is_short() {
    let mut rows = vec![accuracy(0.5, (0.4, 0.6), Some(0.7)), accuracy(0.1, (0.05, 0.15), Some(0.7))];
    rows[0].chosen = Some(AT_AN_END.into());
    rows.extend(equivariance((-0.9, -0.1), -1.0));
    let facts = TrainingFacts {
        steps: 100,
        collapsed: Some(("effective_rank".into(), 1.0)),
        still_falling: Some(0.1),
        ..TrainingFacts::default()
    };
    let collapsed = verdict(&rows, Some(&facts));
    assert!(collapsed.sentences.len() <= MOST_SENTENCES && has(&collapsed, "collapsed"), "{collapsed:?}");
    // Longer training does not mend it.
    assert!(!has(&collapsed, "under-trained"), "{collapsed:?}");
    rows[0].baseline = Some(0.9);
    let found = verdict(&rows, Some(&TrainingFacts { collapsed: None, ..facts }));
    assert_eq!(found.sentences.len(), MOST_SENTENCES);
    // What matters most stays.
    assert!(has(&found, "under-trained") && has(&found, "baseline") && !has(&found, "at an end"), "{found:?}");
}
