//! Data sets and the loader: order, determinism, errors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use equimod_data::dataset::{IndexConfig, PackConfig, Storage, index_shards, pack};
use equimod_data::{
    AugmentationConfig, Batch, Concat, Dataset, Encoding, FolderDataset, Image, LayoutConfig, Loader, LoaderConfig,
    MemoryDataset, PackedDataset, ParamLayout, ParquetDataset, Policy, ShardsDataset, Size, Statistics,
};

fn emoji(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../assets/emoji").join(name)
}

fn loader(dataset: Arc<dyn Dataset>, batch: usize, threads: usize) -> equimod_data::Result<Loader> {
    let policy = Policy::built_in("simclr-cifar10", 16)?;
    let statistics = Statistics::PublishedSimClrCifar10;
    let layout = ParamLayout::new(&policy, &LayoutConfig { statistics, ..LayoutConfig::default() }, &[])?;
    let config = LoaderConfig { seed: 5, batch, clean: true, threads, prefetch: 3, ..LoaderConfig::default() };
    Loader::new(dataset, policy, layout, &config)
}

fn write_image(path: &Path, side: usize, shade: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let image = Image::new(Size { height: side, width: side + 3 }, vec![shade; side * (side + 3) * 3]).unwrap();
    fs::write(path, image.encode_png().unwrap()).unwrap();
}

#[test]
fn the_bundled_table_has_images_tasks_and_texts() {
    let data = ParquetDataset::open(&emoji("noto-test.parquet"), None).unwrap();
    assert_eq!(data.len(), 697);
    let count = |task: &str| {
        let task = data.task(task).unwrap();
        (0..data.len()).filter(|&i| data.label(task, i).is_some()).count()
    };
    // The table in the data set's own notice.
    assert_eq!((count("category"), count("subgroup"), count("skin_tone"), count("flag")), (697, 322, 360, 52));
    assert_eq!(data.tasks()[data.task("subgroup").unwrap()].classes.len(), 55);
    assert_eq!(data.image(3).unwrap().size(), Size::square(32));
    assert_eq!(data.sizes().unwrap(), vec![Size::square(32); 697]);
    assert!(data.text("name", 0).is_some_and(|name| !name.is_empty()));
    assert!(data.task("species").unwrap_err().to_string().contains("skin_tone"));
}

#[test]
fn batches_are_the_same_for_any_number_of_threads_and_any_start() {
    let data = Arc::new(ParquetDataset::open(&emoji("noto-test.parquet"), None).unwrap());
    // More than three epochs of two batches each.
    let take = |threads: usize, first: u64| -> Vec<Batch> {
        let loader = loader(data.clone(), 300, threads).unwrap();
        assert_eq!(loader.batches(), 2);
        loader.start(first).unwrap().take(7 - first as usize).map(Result::unwrap).collect()
    };
    let reference = take(1, 0);
    assert_eq!(take(2, 0), reference);
    assert_eq!(take(7, 0), reference);
    assert_eq!(take(2, 4), reference[4..]);
    assert_eq!(loader(data.clone(), 300, 1).unwrap().batch(2, 1).unwrap(), reference[5]);
    assert_ne!(reference[0].views, reference[2].views);
    assert_eq!((reference[5].epoch, reference[5].index), (2, 1));
}

#[test]
fn folders_give_classes_or_none() {
    let folder = tempfile::tempdir().unwrap();
    write_image(&folder.path().join("b/deep/x.png"), 20, 3);
    write_image(&folder.path().join("a/y.PNG"), 30, 200);
    fs::write(folder.path().join("a/notes.txt"), "no image").unwrap();
    let data = FolderDataset::open(folder.path()).unwrap();
    assert_eq!((data.len(), data.tasks()[0].classes.clone()), (2, vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!((data.label(0, 0), data.label(0, 1)), (Some(0), Some(1)));
    let before = data.fingerprint().unwrap();
    write_image(&folder.path().join("z.png"), 9, 1);
    let data = FolderDataset::open(folder.path()).unwrap();
    assert_eq!((data.len(), data.tasks().len(), data.label(0, 0)), (3, 0, None));
    assert_ne!(data.fingerprint().unwrap(), before);
    let batch = loader(Arc::new(data), 3, 2).unwrap().batch(0, 0).unwrap();
    assert_eq!(batch.clean.unwrap().bytes.len(), 3 * 16 * 16 * 3);
}

#[test]
fn bad_sources_are_reported_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| FolderDataset::open(path).err().unwrap().to_string();
    assert!(open(&folder.path().join("none")).contains("no such folder"));
    assert!(open(folder.path()).contains("holds no images"));
    let file = folder.path().join("broken.jpg");
    fs::write(&file, b"\xff\xd8\xff\xe0 cut").unwrap();
    assert!(open(&file).contains("not a folder"));
    let data = Arc::new(FolderDataset::open(folder.path()).unwrap());
    assert!(data.image(0).unwrap_err().to_string().contains("broken.jpg"));
    assert!(data.image(1).unwrap_err().to_string().contains("no image 1"));
    // The loader passes the error on and stops cleanly.
    let mut batches = loader(data.clone(), 1, 2).unwrap().start(0).unwrap();
    assert!(batches.next().unwrap().unwrap_err().to_string().contains("broken.jpg"));
    drop(batches);
    assert!(loader(data, 2, 1).err().unwrap().to_string().contains("do not fill a batch of 2"));
}

#[test]
fn bad_tables_are_reported_in_one_sentence() {
    let bytes = fs::read(emoji("noto-test.parquet")).unwrap();
    let open = |bytes: &[u8]| ParquetDataset::from_bytes("t", bytes.to_vec().into(), None).err().map(|e| e.to_string());
    for cut in [0, 3, bytes.len() / 2, bytes.len() - 9] {
        assert!(open(&bytes[..cut]).unwrap().contains("truncated or not a parquet file"), "{cut}");
    }
    assert!(open(&bytes).is_none());
}

#[test]
fn joined_sets_count_on_and_must_agree() {
    let open = |name: &str| -> Arc<dyn Dataset> { Arc::new(ParquetDataset::open(&emoji(name), None).unwrap()) };
    let (noto, twemoji) = (open("noto-test.parquet"), open("twemoji-test.parquet"));
    let both = Concat::new("emoji", vec![noto.clone(), twemoji.clone()]).unwrap();
    assert_eq!(both.len(), noto.len() + twemoji.len());
    assert_eq!(both.image(noto.len() + 2).unwrap(), twemoji.image(2).unwrap());
    assert_eq!(both.label(1, noto.len() + 5), twemoji.label(1, 5));
    // Retrieval across designs relies on the same emoji in the same order.
    assert!(
        (0..noto.len()).all(|i| noto.text("emoji", i).is_some() && noto.text("emoji", i) == twemoji.text("emoji", i))
    );
    let folder = tempfile::tempdir().unwrap();
    write_image(&folder.path().join("x.png"), 20, 3);
    let other = Arc::new(FolderDataset::open(folder.path()).unwrap());
    assert!(Concat::new("mixed", vec![noto, other]).err().unwrap().to_string().contains("different labels"));
}

/// `count` images in indexed tar shards of seven images.
fn shards(folder: &Path, count: usize) -> Arc<dyn Dataset> {
    for (number, first) in (0..count).step_by(7).enumerate() {
        let mut builder = tar::Builder::new(fs::File::create(folder.join(format!("x-{number:03}.tar"))).unwrap());
        for k in first..(first + 7).min(count) {
            let image = Image::new(Size { height: 9, width: 12 }, vec![k as u8; 9 * 12 * 3]).unwrap();
            let bytes = image.encode_png().unwrap();
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, format!("{k:05}.png"), bytes.as_slice()).unwrap();
        }
        builder.finish().unwrap();
    }
    index_shards(folder, &IndexConfig::default(), &mut |_| {}).unwrap();
    Arc::new(ShardsDataset::open(folder).unwrap())
}

/// The same images as a packed file.
fn packed(folder: &Path, source: &dyn Dataset) -> Arc<dyn Dataset> {
    let path = folder.join("x.equimod");
    pack(source, &path, &PackConfig { resize: None, storage: Storage::Raw, threads: 1 }, &mut |_| {}).unwrap();
    Arc::new(PackedDataset::open(&path).unwrap())
}

fn windowed(dataset: Arc<dyn Dataset>, process: (usize, usize), threads: usize, keep_remainder: bool) -> Loader {
    let policy = Policy::built_in("byol-cifar10", 16).unwrap();
    let layout = ParamLayout::new(&policy, &LayoutConfig::default(), &[Size { height: 9, width: 12 }]).unwrap();
    let config = LoaderConfig {
        seed: 5,
        batch: 20,
        clean: true,
        threads,
        keep_remainder,
        process,
        window: Some(32),
        ..LoaderConfig::default()
    };
    Loader::new(dataset, policy, layout, &config).unwrap()
}

#[test]
fn an_epoch_from_shards_is_the_same_for_any_threads_and_any_processes() {
    let folder = tempfile::tempdir().unwrap();
    let shards = shards(folder.path(), 107);
    let packed = packed(folder.path(), shards.as_ref());
    for keep_remainder in [false, true] {
        let batches = if keep_remainder { 6 } else { 5 };
        let take = |dataset: &Arc<dyn Dataset>, process, threads| -> Vec<Batch> {
            let loader = windowed(dataset.clone(), process, threads, keep_remainder);
            assert_eq!(loader.batches(), batches);
            loader.start(0).unwrap().take(2 * batches).map(Result::unwrap).collect()
        };
        let reference = take(&shards, (0, 1), 1);
        for threads in [2, 7] {
            assert_eq!(take(&shards, (0, 1), threads), reference);
            assert_eq!(take(&packed, (0, 1), threads), reference);
        }
        // Every sample occurs once per epoch, except for the dropped remainder.
        let mut seen: Vec<usize> = reference[..batches].iter().flat_map(|batch| batch.indices.clone()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), if keep_remainder { 107 } else { 100 });
        // Three processes have consecutive shares of the batches of one process.
        let shares: Vec<Vec<Batch>> = (0..3).map(|rank| take(&shards, (rank, 3), 2)).collect();
        for (k, whole) in reference.iter().enumerate() {
            let join =
                |part: fn(&Batch) -> Vec<u8>| shares.iter().flat_map(|share| part(&share[k])).collect::<Vec<u8>>();
            assert_eq!(join(|batch| batch.views[1].bytes.clone()), whole.views[1].bytes);
            let params: Vec<f32> = shares.iter().flat_map(|share| share[k].params[0].clone()).collect();
            assert_eq!(params, whole.params[0]);
        }
    }
}

#[test]
fn a_chunk_of_the_batch_shares_its_augmentation_on_every_process() {
    let folder = tempfile::tempdir().unwrap();
    let shards = shards(folder.path(), 24);
    let batch = |process| {
        let policy = Policy::built_in("simclr-cifar10", 16).unwrap();
        let layout = ParamLayout::new(&policy, &LayoutConfig::default(), &[Size { height: 9, width: 12 }]).unwrap();
        let config = LoaderConfig { batch: 24, process, shared_by: Some(8), ..LoaderConfig::default() };
        Loader::new(shards.clone(), policy, layout, &config).unwrap().batch(3, 0).unwrap()
    };
    let whole = batch((0, 1));
    let rows = |batch: &Batch| batch.params[1].chunks(15).map(<[f32]>::to_vec).collect::<Vec<_>>();
    let all = rows(&whole);
    for chunk in all.chunks(8) {
        assert!(chunk.iter().all(|row| *row == chunk[0]));
    }
    assert!(all[0] != all[8] && all[8] != all[16]);
    let split: Vec<Vec<f32>> = [0, 1, 2, 3, 4].iter().flat_map(|&rank| rows(&batch((rank, 5)))).collect();
    assert_eq!(split, all);
}

/// Vectors from view to view and a small view are in the batch if requested, do not depend on the number of threads,
/// and do not change the other views.
#[test]
fn what_is_asked_for_beside_views_is_made_and_changes_nothing_else() {
    let data = Arc::new(ParquetDataset::open(&emoji("noto-test.parquet"), None).unwrap());
    let policy = Policy::built_in("simclr-cifar10", 16).unwrap();
    let layout = |encoding| {
        let config = LayoutConfig { encoding, ..LayoutConfig::default() };
        ParamLayout::new(&policy, &config, &[Size::square(32)]).unwrap()
    };
    let pairs = layout(Encoding::Pairwise);
    let small = policy.views[0].with_crop(8, (0.05, 0.14)).unwrap();
    let take = |threads: usize, more: bool| -> Vec<Batch> {
        let (pairs, small) = (more.then(|| pairs.clone()), more.then(|| small.clone()));
        let config = LoaderConfig { batch: 100, threads, pairs, small, params: more, ..LoaderConfig::default() };
        let loader = Loader::new(data.clone(), policy.clone(), layout(Encoding::Published), &config).unwrap();
        loader.start(0).unwrap().take(3).map(Result::unwrap).collect()
    };
    let (with, without) = (take(1, true), take(1, false));
    assert_eq!(take(3, true), with);
    for (with, without) in with.iter().zip(&without) {
        assert!(without.pairs.is_empty() && without.small.is_none());
        assert_eq!(with.views, without.views);
        assert_eq!((with.params.len(), without.params.len()), (2, 0));
        let small = with.small.as_ref().unwrap();
        assert_eq!((small.count, small.size, small.bytes.len()), (100, Size::square(8), 100 * 8 * 8 * 3));
        let [there, back] = with.pairs.as_slice() else { panic!("{} ways", with.pairs.len()) };
        assert_eq!((there.len(), back.len()), (100 * pairs.width(), 100 * pairs.width()));
        // Without a mean, the opposite direction has the opposite value: brightness is not mirrored.
        let place = pairs.names.iter().position(|name| name == "brightness").unwrap();
        let of = |vectors: &[f32], row: usize| vectors[row * pairs.width() + place];
        assert!((0..100).all(|row| of(there, row) == -of(back, row)) && (0..100).any(|row| of(there, row) != 0.0));
    }
    let uncropped = equimod_data::ViewPolicy(policy.views[0].0[1..].to_vec());
    assert!(uncropped.with_crop(8, (0.1, 0.2)).unwrap_err().to_string().contains("random-resized-crop"));
    assert!(policy.views[0].with_crop(0, (0.1, 0.2)).unwrap_err().to_string().contains("small view"));
}

/// Images of different sizes, with noise.
fn images_of_all_sizes(count: usize) -> Arc<dyn Dataset> {
    let pixel = |image: usize, k: usize| (((image + 3) * (k + 1) * 2_654_435_761) >> 13) as u8;
    let image = |number: usize| {
        let size = Size { height: 7 + number * 11 % 60, width: 9 + number * 17 % 70 };
        Image::new(size, (0..size.area() * 3).map(|k| pixel(number, k)).collect()).unwrap()
    };
    Arc::new(MemoryDataset::new("noise", (0..count).map(image).collect()).unwrap())
}

/// Plans make the same pixels as the augmentations, for every policy that a device can make.
#[test]
fn planned_batches_are_the_pixels_of_the_others() {
    let data = images_of_all_sizes(20);
    let mut policies: Vec<Policy> = Policy::LIST.iter().map(|(name, _)| Policy::built_in(name, 24).unwrap()).collect();
    let more: Vec<AugmentationConfig> = serde_json::from_str(
        r#"[{"kind": "vertical-flip", "probability": 0.5}, {"kind": "posterize", "probability": 0.5, "bits": 3},
            {"kind": "random-erasing", "probability": 0.8, "scale": [0.02, 0.33], "ratio": [0.3, 3.3], "value": [1, 2, 3]}]"#,
    )
    .unwrap();
    policies[0].views[1].0.extend(more);
    for policy in policies {
        let layout = ParamLayout::new(&policy, &LayoutConfig::default(), &[Size::square(32)]).unwrap();
        let take = |defer: bool, threads: usize| -> Vec<Batch> {
            let small = policy.views[0].with_crop(8, (0.05, 0.14)).ok();
            let config = LoaderConfig { batch: 18, clean: true, small, threads, defer, ..LoaderConfig::default() };
            let loader = Loader::new(data.clone(), policy.clone(), layout.clone(), &config).unwrap();
            loader.start(0).unwrap().take(3).map(Result::unwrap).collect()
        };
        let planned = take(true, 3);
        assert_eq!(planned, take(true, 1));
        assert!(planned.iter().all(|batch| batch.views.iter().all(|view| view.bytes.is_empty())));
        let finished: Vec<Batch> = planned.into_iter().map(|batch| batch.finished().unwrap()).collect();
        assert_eq!(finished, take(false, 2), "{}", policy.name);
    }
}

#[test]
fn policies_that_a_device_cannot_make_are_refused_by_name() {
    let mut policy = Policy::built_in("simclr-cifar10", 16).unwrap();
    policy.views[1].0.insert(1, serde_json::from_str(r#"{"kind": "equalize", "probability": 0.5}"#).unwrap());
    let layout = ParamLayout::new(&policy, &LayoutConfig::default(), &[Size::square(32)]).unwrap();
    let config = LoaderConfig { batch: 2, defer: true, ..LoaderConfig::default() };
    let refused = Loader::new(images_of_all_sizes(4), policy.clone(), layout, &config).err().unwrap().to_string();
    assert!(refused.contains("equalize") && refused.contains("augmentation.on"), "{refused}");
    policy.views[1].0.remove(1);
    let crop = policy.views[1].0.remove(0);
    policy.views[1].0.push(crop);
    assert!(policy.check_plannable().unwrap_err().to_string().contains("random-resized-crop"));
    policy.views.remove(1);
    policy.clean.resize = 8;
    assert!(policy.check_plannable().unwrap_err().to_string().contains("clean view"));
}

#[test]
fn processes_and_batches_that_are_not_there_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let shards = shards(folder.path(), 24);
    let loader = |process| {
        let policy = Policy::built_in("simclr-cifar10", 16).unwrap();
        let layout = ParamLayout::new(&policy, &LayoutConfig::default(), &[Size::square(9)]).unwrap();
        let config = LoaderConfig { batch: 10, process, ..LoaderConfig::default() };
        Loader::new(shards.clone(), policy, layout, &config)
    };
    for process in [(2, 2), (0, 0)] {
        assert!(loader(process).err().unwrap().to_string().contains("ranks start at 0"));
    }
    assert!(loader((0, 1)).unwrap().batch(0, 2).unwrap_err().to_string().contains("no batch 2"));
}

#[test]
fn images_that_do_not_decode_are_replaced_the_same_way_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    for k in 0..40 {
        write_image(&folder.path().join(format!("{k:02}.png")), 20, k);
    }
    for k in [7, 23] {
        fs::write(folder.path().join(format!("{k:02}.png")), b"\x89PNG\r\n\x1a\n cut").unwrap();
    }
    let data: Arc<dyn Dataset> = Arc::new(FolderDataset::open(folder.path()).unwrap());
    let loader = |threads: usize, skip_share: f64| {
        let policy = Policy::built_in("simclr-cifar10", 16).unwrap();
        let layout = ParamLayout::new(&policy, &LayoutConfig::default(), &[Size::square(20)]).unwrap();
        let config = LoaderConfig { batch: 20, threads, skip_share, ..LoaderConfig::default() };
        Loader::new(data.clone(), policy, layout, &config).unwrap()
    };
    let take = |threads: usize| {
        let loader = loader(threads, 0.05);
        let mut batches = loader.start(0).unwrap();
        (0..4).map(|_| batches.next().unwrap().unwrap()).collect::<Vec<Batch>>()
    };
    let reference = take(1);
    let mut skipped: Vec<_> = reference[..2].iter().flat_map(|batch| batch.skipped.clone()).collect();
    skipped.sort_by_key(|skipped| skipped.index);
    assert_eq!(skipped.iter().map(|s| s.index).collect::<Vec<_>>(), [7, 23]);
    assert!(skipped[0].path.ends_with("07.png") && !skipped[0].reason.is_empty());
    assert!(reference.iter().all(|batch| batch.indices.len() == 20 && !batch.indices.contains(&7)));
    for threads in [2, 7] {
        assert_eq!(take(threads), reference);
    }
    // Two of forty images are more than 4 %.
    let strict = loader(2, 0.04);
    let failed = strict.start(0).unwrap().take(2).find_map(Result::err).unwrap().to_string();
    assert!(failed.contains("2 of its 40 images") && failed.contains("4 %"), "{failed}");
}
