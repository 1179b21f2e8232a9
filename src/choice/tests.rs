//! Each rule on both sides of its limit.

use crate::recipes::from_text;
use equimod_core::BackboneConfig;

use super::facts::{Behind, Facts, Images, Machine};
use super::rules::{Choice, Given, choose};
use super::text::Written;

/// Images of 500 px, and two cores.
fn facts() -> Facts {
    let images = Images {
        source: "my \"images\"/".into(),
        count: 5000,
        sized: 400,
        short_sides: [300, 500, 900],
        decoded: 256,
        failed: 0,
        transparent: 0,
        background: None,
        formats: [("JPEG", 250), ("PNG", 6)].into(),
        mean: [0.512_345, 0.4, 0.3],
        std: [0.25, 0.24, 0.23],
        labels: vec![("class".into(), 3)],
    };
    let machine = Machine { cores: 2, gpu: None, memory: Some(8 << 30), ranks: 1 };
    Facts { images, machine }
}

fn chosen(change: impl Fn(&mut Facts)) -> Choice {
    let mut facts = facts();
    change(&mut facts);
    choose(&facts, &Given::default())
}

/// A color that was chosen, and the numbers of images that are blank on it and on white.
fn on(color: &str, blank: [u64; 2]) -> Behind {
    Behind { color: color.parse().unwrap(), is_given: false, blank }
}

fn gpu(facts: &mut Facts) {
    facts.machine.gpu = Some("cuda:0".into());
    facts.machine.memory = Some(80 << 30);
}

#[test]
fn the_median_side_gives_the_size_and_the_size_the_stem_and_the_policy() {
    let of = |median: usize, on_gpu: bool| {
        let choice = chosen(|facts| {
            facts.images.short_sides[1] = median;
            if on_gpu {
                gpu(facts);
            }
        });
        (choice.size.value, choice.stem.value.clone(), choice.policy.value)
    };
    for (median, size) in [(20, 32), (63, 32), (64, 64), (95, 64)] {
        assert_eq!(of(median, false), (size, "cifar".to_owned(), "simclr-cifar10".to_owned()), "{median}");
    }
    for (median, size) in [(96, 96), (127, 96), (128, 128), (223, 128)] {
        assert_eq!(of(median, false), (size, "imagenet".to_owned(), "simclr-imagenet".to_owned()), "{median}");
    }
    assert_eq!((of(500, false).0, of(224, true).0, of(223, true).0), (128, 224, 128));
    assert!(chosen(|_| ()).size.why.contains("median short side 500 px"));
}

#[test]
fn the_machine_gives_width_architecture_and_largest_batch() {
    let on_cores = |cores: usize| {
        let choice = chosen(|facts| (facts.machine.cores, facts.machine.memory) = (cores, None));
        (choice.width.value, choice.batch.value, choice.heads.value)
    };
    assert_eq!(on_cores(7), (16, 64, [512, 64]));
    assert_eq!(on_cores(8), (32, 128, [1024, 128]));
    assert_eq!(on_cores(31), on_cores(8));
    assert_eq!(on_cores(32), (64, 256, [2048, 128]));
    assert_eq!(chosen(|_| ()).on_gpu, None);
    let many = |count: usize| {
        chosen(|facts| {
            gpu(facts);
            facts.images.count = count;
        })
    };
    let (few, many) = (many(99_999), many(100_000));
    assert_eq!((few.architecture.value.as_str(), few.width.value, few.batch.value), ("resnet18", 64, 512));
    assert_eq!((many.architecture.value.as_str(), many.learning_rate.value), ("resnet50", 2.4));
    assert_eq!(many.on_gpu.map(|settings| settings.map(|setting| setting.value)), Some(["auto", "20"]));
}

#[test]
fn images_memory_and_ranks_limit_the_batch() {
    let with = |count: usize, memory: Option<u64>, ranks: usize| {
        let choice = chosen(|facts| {
            facts.images.count = count;
            (facts.machine.memory, facts.machine.ranks) = (memory, ranks);
        });
        (choice.batch.value, choice.batch.why)
    };
    assert_eq!(with(128, None, 1).0, 64);
    assert_eq!(with(127, None, 1), (32, "at most half of the 127 images".into()));
    assert_eq!(with(8, None, 1).0, 4);
    assert_eq!(with(5000, Some(8 << 30), 1).0, 64);
    let (small, why) = with(5000, Some(256 << 20), 1);
    assert!(small < 64 && small.is_power_of_two() && why.contains("memory"), "{small} {why}");
    assert_eq!((with(5000, None, 3).0, with(8, None, 3).0), (63, 6));
}

#[test]
fn the_number_of_images_gives_the_epochs_and_these_the_warm_up() {
    let with = |count: usize, on_gpu: bool| {
        let choice = chosen(|facts| {
            facts.images.count = count;
            if on_gpu {
                gpu(facts);
            }
        });
        (choice.epochs.value, choice.warmup_epochs.value, choice.checkpoint_epochs.value)
    };
    assert_eq!(with(1000, false), (200, 10.0, 10));
    assert_eq!(with(20_000, false), (50, 5.0, 2));
    assert_eq!(with(1_000_000, false), (10, 1.0, 1));
    assert_eq!((with(50_000, true).0, with(1000, true).0, with(2_000_000, true).0), (800, 800, 100));
    assert_eq!(with(200_000, true).0, 200);
    let small = chosen(|facts| facts.images.short_sides[1] = 64);
    assert_eq!(small.epochs.value, 50, "views of 64 px with the CIFAR stem cost four times as much");
}

#[test]
fn transparent_broken_and_uniform_images_are_provided_for() {
    let sound = chosen(|_| ());
    assert_eq!((&sound.background, &sound.skip_share), (&None, &None));
    assert_eq!((sound.mean.value, sound.std.value), ([0.5123, 0.4, 0.3], [0.25, 0.24, 0.23]));
    let other = chosen(|facts| {
        (facts.images.transparent, facts.images.failed) = (3, 2);
        facts.images.background = Some(on("white", [0, 0]));
        facts.images.std[1] = 0.0;
    });
    assert_eq!(other.std.value, [0.25, 0.01, 0.23]);
    let background = other.background.unwrap();
    assert!(background.value == "white" && background.why.contains("3 of 254 images"));
    let of = |behind: Behind| chosen(|facts| facts.images.background = Some(behind)).background.unwrap();
    let icons = of(on("black", [2, 25]));
    assert!(icons.value == "black" && icons.why.contains("; 25 of them blank on white; 2 of them blank on it, which"));
    let given = of(Behind { is_given: true, ..on("#808080", [0, 0]) });
    assert!(given.value == "#808080" && given.why.starts_with("as given") && !given.why.contains("blank"), "{given:?}");
    assert_eq!(other.skip_share.unwrap().value, 0.02);
    // One broken image may be among those of a small folder that were not tried.
    let unseen = |count: usize| {
        let skipped = chosen(|facts| facts.images.count = count).skip_share;
        skipped.map(|share| (share.value, (share.value * count as f64) as usize))
    };
    assert_eq!((unseen(351), unseen(254), unseen(1000)), (Some((0.0029, 1)), None, None));
}

#[test]
fn given_settings_change_those_that_depend_on_them() {
    let settings = ["data.batch=16", "schedule.epochs = 4", "augmentation.size=32", "data.batch=8", "backbone.width=x"];
    let given = Given::of(&settings.map(str::to_owned));
    let expected = Given { size: Some(32), batch: Some(8), epochs: Some(4), ..Given::default() };
    assert_eq!(given, expected);
    let choice = choose(&facts(), &given);
    assert_eq!(
        (choice.stem.value.as_str(), choice.warmup_epochs.value, choice.learning_rate.value),
        ("cifar", 0.4, 1.41)
    );
    assert_eq!(choice.size.why, "as given");
    let given = Given { size: Some(64), learning_rate: Some(0.5), ..Given::default() };
    let choice = choose(&facts(), &given);
    assert_eq!((choice.learning_rate.value, chosen(|_| ()).learning_rate.value), (0.5, 4.0));
    assert_eq!(
        choice.size.why,
        "as given; an image takes about 4 times as long as at 32 px, and longer than at 128 px, where the first layers quarter \
         each side"
    );
}

#[test]
fn the_text_resolves_to_the_choice_and_gives_each_reason() {
    for change in [|_: &mut Facts| (), gpu] {
        let mut facts = facts();
        change(&mut facts);
        (facts.images.transparent, facts.images.failed) = (1, 1);
        facts.images.background = Some(on("white", [0, 0]));
        let choice = choose(&facts, &Given::default());
        let written = Written { facts, choice };
        let text = written.text("equimod init");
        assert_eq!(text, written.text("equimod init"));
        let recipe = from_text("test", &text, &[]).unwrap();
        let Written { choice, facts } = &written;
        assert_eq!(recipe.data.source, facts.images.source);
        assert_eq!((recipe.data.batch, recipe.augmentation.size), (choice.batch.value, choice.size.value));
        assert_eq!((recipe.schedule.epochs, recipe.data.skip_share), (choice.epochs.value, 0.01));
        assert_eq!(recipe.data.background.to_string(), "white");
        assert!(recipe.equivariance.equimod.is_some());
        // The name says the method as long as no setting changes it.
        let named = |setting: &str| written.name_with(&[setting.into()]).starts_with("SimCLR + EquiMod on 5000 images");
        assert!(named("data.batch=8") && !named("equivariance.equimod=false") && !named("objective.kind=byol"));
        let BackboneConfig::ResNet(backbone) = &recipe.backbone else { panic!("{:?}", recipe.backbone) };
        assert_eq!(backbone.width, choice.width.value);
        let settings = text.lines().filter(|line| line.contains(" = ") && !line.starts_with('#'));
        for line in settings.filter(|line| !line.starts_with("about") && !line.starts_with("source")) {
            assert!(line.contains(" # "), "{line} has no reason");
        }
        assert!(text.contains("250 JPEG, 6 PNG") && text.contains("class (3 classes)"), "{text}");
    }
}
