//! BMP, GIF, JPEG, PNG, TIFF and WebP files.
#![no_main]

use equimod_data::{Background, Image, ReadOptions};

// Panics inside a decoder become errors; one that escapes still ends the run.
libfuzzer_sys::fuzz_target!(init: drop(std::panic::take_hook()), |bytes: &[u8]| {
    let plain = Image::decode(bytes, "fuzz");
    let options = ReadOptions { apply_orientation: true, background: Background(Some([255, 0, 128])) };
    let _ = Image::decode_with(bytes, "fuzz", options);
    let _ = Image::examine(bytes);
    if let (Ok(image), Ok(size)) = (&plain, Image::decode_size(bytes, "fuzz")) {
        assert_eq!(image.size(), size);
    }
});
