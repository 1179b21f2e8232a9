//! Packed files.
#![no_main]

use std::cell::LazyCell;

use equimod_data::PackedDataset;
use equimod_data_fuzz::{Folder, exercise};

thread_local! {
    static FOLDER: LazyCell<Folder> = const { LazyCell::new(Folder::new) };
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    FOLDER.with(|folder| {
        if let Ok(packed) = PackedDataset::open(&folder.write("x.equimod", bytes)) {
            exercise(&packed);
            let _ = packed.verify();
        }
    });
});
