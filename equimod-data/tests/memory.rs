//! Memory use, in a separate process, because allocations of other tests would be counted.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::sync::Arc;

use equimod_data::dataset::{PackConfig, Storage, pack};
use equimod_data::{
    Concat, Dataset, Image, LayoutConfig, Loader, LoaderConfig, MemoryDataset, PackedDataset, ParamLayout, Policy, Size,
};

/// Private memory of this process in bytes, without pages of mapped files.
fn own_memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssAnon")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// 4000 images of 96 × 96 pixels take 110 MB decoded; an epoch may take a tenth of it in addition to the index.
#[test]
fn an_epoch_over_packed_images_does_not_hold_them() {
    let folder = tempfile::tempdir().unwrap();
    let source =
        MemoryDataset::new("noise", vec![Image::new(Size::square(96), vec![7; 96 * 96 * 3]).unwrap()]).unwrap();
    let one: Arc<dyn Dataset> = Arc::new(source);
    let many = Concat::new("noise", vec![one; 4000]).unwrap();
    let path = folder.path().join("x.equimod");
    pack(&many, &path, &PackConfig { resize: None, storage: Storage::Raw, threads: 2 }, &mut |_| {}).unwrap();
    let packed = Arc::new(PackedDataset::open(&path).unwrap());
    let policy = Policy::built_in("simclr-cifar10", 32).unwrap();
    let layout = ParamLayout::new(&policy, &LayoutConfig::default(), &[Size::square(96)]).unwrap();
    let config = LoaderConfig { batch: 50, threads: 2, clean: true, ..LoaderConfig::default() };
    let loader = Loader::new(packed, policy, layout, &config).unwrap();
    let mut batches = loader.start(0).unwrap();
    let mut take = |count: usize| {
        (0..count).for_each(|_| {
            let batch = batches.next().unwrap().unwrap();
            batches.recycle(batch);
        })
    };
    take(8);
    let before = own_memory();
    take(72);
    let grown = own_memory().saturating_sub(before);
    assert!(grown < 11 << 20, "{grown} bytes");
}
