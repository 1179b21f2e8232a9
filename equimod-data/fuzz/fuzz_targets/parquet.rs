//! Parquet tables from bytes.
#![no_main]

use equimod_data::ParquetDataset;
use equimod_data_fuzz::exercise;

// Panics inside the parquet crate become errors; one that escapes still ends the run.
libfuzzer_sys::fuzz_target!(init: drop(std::panic::take_hook()), |bytes: &[u8]| {
    for column in [None, Some("sample.view.image")] {
        if let Ok(table) = ParquetDataset::from_bytes("fuzz", bytes::Bytes::copy_from_slice(bytes), column) {
            exercise(&table);
        }
    }
});
