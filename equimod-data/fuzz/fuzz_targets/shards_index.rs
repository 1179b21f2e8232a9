//! The index of a tar shard.
#![no_main]

use std::cell::LazyCell;

use equimod_data::ShardsDataset;
use equimod_data_fuzz::{Folder, exercise};

thread_local! {
    static FOLDER: LazyCell<Folder> = const { LazyCell::new(Folder::new) };
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    FOLDER.with(|folder| {
        let path = folder.write("x.tar", &[0; 4096]);
        folder.write("x.tar.index.json", bytes);
        if let Ok(shards) = ShardsDataset::open(&path) {
            exercise(&shards);
        }
    });
});
