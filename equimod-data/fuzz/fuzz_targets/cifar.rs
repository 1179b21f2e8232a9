//! Archives and unpacked files of CIFAR-10 and CIFAR-100, and labels of STL-10.
#![no_main]

use std::cell::LazyCell;

use equimod_data::{CifarDataset, Split, Stl10Dataset, Stl10Split};
use equimod_data_fuzz::{Folder, exercise};

thread_local! {
    static FOLDER: LazyCell<Folder> = const { LazyCell::new(Folder::new) };
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    FOLDER.with(|folder| {
        let archive = folder.write("cifar-10.tar.gz", bytes);
        for name in ["test.bin", "test_X.bin", "test_y.bin"] {
            folder.write(name, bytes);
        }
        for path in [archive.as_path(), folder.path()] {
            if let Ok(cifar) = CifarDataset::open(path, Split::Test) {
                exercise(&cifar);
            }
        }
        if let Ok(stl) = Stl10Dataset::open(folder.path(), Stl10Split::Test) {
            exercise(&stl);
        }
    });
});
