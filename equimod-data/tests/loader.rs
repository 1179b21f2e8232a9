//! Data sets and the loader: order, determinism, errors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use equimod_data::{
    Batch, Concat, Dataset, FolderDataset, Image, LayoutConfig, Loader, LoaderConfig, ParamLayout, ParquetDataset,
    Policy, Size, Statistics,
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

fn write_picture(path: &Path, side: usize, shade: u8) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let image = Image::new(Size { height: side, width: side + 3 }, vec![shade; side * (side + 3) * 3]).unwrap();
    fs::write(path, image.encode_png().unwrap()).unwrap();
}

#[test]
fn the_bundled_table_has_pictures_tasks_and_texts() {
    let data = ParquetDataset::open(&emoji("noto-test.parquet"), None).unwrap();
    assert_eq!(data.len(), 697);
    let count = |task: &str| {
        let task = data.task(task).unwrap();
        (0..data.len()).filter(|&i| data.label(task, i).is_some()).count()
    };
    // The table of the set's own notice.
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
    // Three epochs and a bit of two batches each.
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
    write_picture(&folder.path().join("b/deep/x.png"), 20, 3);
    write_picture(&folder.path().join("a/y.PNG"), 30, 200);
    fs::write(folder.path().join("a/notes.txt"), "no picture").unwrap();
    let data = FolderDataset::open(folder.path()).unwrap();
    assert_eq!((data.len(), data.tasks()[0].classes.clone()), (2, vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!((data.label(0, 0), data.label(0, 1)), (Some(0), Some(1)));
    let before = data.fingerprint().unwrap();
    write_picture(&folder.path().join("z.png"), 9, 1);
    let data = FolderDataset::open(folder.path()).unwrap();
    assert_eq!((data.len(), data.tasks().len(), data.label(0, 0)), (3, 0, None));
    assert_ne!(data.fingerprint().unwrap(), before);
    let batch = loader(Arc::new(data), 3, 2).unwrap().batch(0, 0).unwrap();
    assert_eq!(batch.clean.unwrap().bytes.len(), 3 * 16 * 16 * 3);
}

#[test]
fn bad_sources_are_told_in_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path: &Path| FolderDataset::open(path).err().unwrap().to_string();
    assert!(open(&folder.path().join("none")).contains("no such folder"));
    assert!(open(folder.path()).contains("holds no pictures"));
    let file = folder.path().join("broken.jpg");
    fs::write(&file, b"\xff\xd8\xff\xe0 cut").unwrap();
    assert!(open(&file).contains("not a folder"));
    let data = Arc::new(FolderDataset::open(folder.path()).unwrap());
    assert!(data.image(0).unwrap_err().to_string().contains("broken.jpg"));
    assert!(data.image(1).unwrap_err().to_string().contains("no picture 1"));
    // The loader hands the error on and stops cleanly.
    let mut batches = loader(data.clone(), 1, 2).unwrap().start(0).unwrap();
    assert!(batches.next().unwrap().unwrap_err().to_string().contains("broken.jpg"));
    drop(batches);
    assert!(loader(data, 2, 1).err().unwrap().to_string().contains("do not fill a batch of 2"));
}

#[test]
fn bad_tables_are_told_in_one_sentence() {
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
    // Retrieval across the designs relies on it: the same emoji in the same order.
    assert!(
        (0..noto.len()).all(|i| noto.text("emoji", i).is_some() && noto.text("emoji", i) == twemoji.text("emoji", i))
    );
    let folder = tempfile::tempdir().unwrap();
    write_picture(&folder.path().join("x.png"), 20, 3);
    let other = Arc::new(FolderDataset::open(folder.path()).unwrap());
    assert!(Concat::new("mixed", vec![noto, other]).err().unwrap().to_string().contains("different labels"));
}
