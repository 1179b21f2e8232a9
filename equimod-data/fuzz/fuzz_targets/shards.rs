//! Tar shards, indexed and then read.
#![no_main]

use std::cell::LazyCell;

use equimod_data::ShardsDataset;
use equimod_data::dataset::{IndexConfig, index_shards};
use equimod_data_fuzz::{Folder, exercise};

thread_local! {
    static FOLDER: LazyCell<Folder> = const { LazyCell::new(Folder::new) };
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    FOLDER.with(|folder| {
        let path = folder.write("x.tar", bytes);
        for dotted_keys in [false, true] {
            if index_shards(&path, &IndexConfig { dotted_keys, ..Default::default() }, &mut |_| {}).is_ok() {
                exercise(&ShardsDataset::open(&path).expect("a shard that was just indexed"));
            }
        }
    });
});
